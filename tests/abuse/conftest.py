"""What every attack is told with: a row of one table, printed at the end and kept in `build/abuse.json`.

Tries are few in `make test`; `make abuse` sets ABUSE, and then each attack is tried as often as it should be.
"""

import json
import os
from pathlib import Path

import pytest

WHOLE = bool(os.environ.get("ABUSE"))
"""Whether to try as often as `make abuse` does."""

_ROWS = pytest.StashKey[list[dict[str, object]]]()
_FILE = Path(__file__).resolve().parents[2] / "build" / "abuse.json"


class Table:
    def __init__(self, rows: list[dict[str, object]]) -> None:
        self._rows = rows

    def row(self, attack: str, *, tried: int, got_through: int, note: str = "") -> None:
        """Tell of an attack; fails where anything got through."""
        self._rows.append({"attack": attack, "tried": tried, "got_through": got_through, "note": note})
        assert tried > 0, f"{attack}: nothing was tried"
        assert got_through == 0, f"{attack}: {got_through} of {tried} got through {note}"


@pytest.fixture(scope="session")
def table(request: pytest.FixtureRequest) -> Table:
    return Table(request.config.stash.setdefault(_ROWS, []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash.get(_ROWS, [])
    if not rows:
        return
    _FILE.parent.mkdir(exist_ok=True)
    _FILE.write_text(json.dumps(rows, indent=1) + "\n")
    width = max(len(str(row["attack"])) for row in rows)
    terminalreporter.section("abuse")
    for row in rows:
        terminalreporter.write_line(
            f"{row['attack']!s:<{width}}  {row['tried']:>8} tried  {row['got_through']:>3} got through  {row['note']}"
        )

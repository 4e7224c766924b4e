"""Attacks on documents of every kind, counted for one row of the table each.

Test modules take the fixture `tally` with `pytest_plugins = ["tests.abuse.tally"]`; they import names from here before
pytest takes it as a plugin, hence PYTEST_DONT_REWRITE.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

import pytest

from tests.abuse.conftest import Table
from tests.abuse.papers import Paper


class Tally:
    """Counts attacks over all kinds of document, for one row each."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = {}
        self._notes: dict[str, str] = {}

    def add(self, attack: str, kind: str, *, tried: int, got_through: int, same: int = 0, note: str = "") -> None:
        counts = self._counts.setdefault(attack, Counter())
        counts.update({"tried": tried, "got through": got_through, "same": same, "kinds": 1})
        self._notes[attack] = note
        assert tried > 0
        assert got_through == 0, f"{attack}: {got_through} of {tried} got through as {kind}"

    def tell(self, table: Table) -> None:
        for attack, counts in self._counts.items():
            note = f"{counts['kinds']} kinds of document"
            note += f"; {counts['same']} of the same canonical form, read as such" if counts["same"] else ""
            note += f"; {self._notes[attack]}" if self._notes[attack] else ""
            table.row(f"documents: {attack}", tried=counts["tried"], got_through=counts["got through"], note=note)


@pytest.fixture(scope="module")
def tally(table: Table) -> Iterator[Tally]:
    counted = Tally()
    yield counted
    counted.tell(table)


def tell(tally: Tally, attack: str, paper: Paper, forged: Iterable[bytes], note: str = "") -> None:
    assert paper.accepts(paper.genuine)
    believed = [paper.accepts(one) for one in forged]
    tally.add(attack, paper.name, tried=len(believed), got_through=sum(believed), note=note)

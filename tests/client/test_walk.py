"""The newcomer's walk of client/README.md, played from an empty virtual environment against `make run`.

What it types and what has to be printed is the README's own text; see `tests.client.transcript`.
"""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.standalone.embedded import free_port
from tests.client.transcript import Step, Terminal, agrees, steps
from tests.e2e.test_make import Running

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "client" / "README.md"
SHOWN = {
    "licenseKey": "1AFZ-E72Q-79P2-0ADR-ZW3H-XZ1J-GV7T",
    "rootKey": "KcnrVBVpUOGPDAGZGCQnYXlp4mJ5Y5Bq4Qb3wZQfXy8",
}
"""Members of `.run/demo.json`, and what the README shows in their place."""

STEP_S = 90.0
OURS = ("SEATKEEPER_", "PYTHON", "VIRTUAL_ENV", "XDG_", "MAKE", "LC_", "LANG")


class Walk:
    """Two terminals in one checkout, and what the README shows against what is so here."""

    def __init__(self, checkout: Path, home: Path) -> None:
        self._checkout = checkout
        self._port = free_port()
        self._server: Running | None = None
        self._values = {"http://127.0.0.1:8080": f"http://127.0.0.1:{self._port}"}
        home.mkdir()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        told = {"HOME": str(home), "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"}  # lines in the order they are printed
        self.terminal = Terminal(checkout, kept | told)

    def take(self, step: Step) -> None:
        if not step.in_server:
            step = step.with_values(self._values)
            printed = self.terminal.type(step.command, within_s=STEP_S)
            assert agrees(printed, step.prints), "\n".join([f"$ {step.command}", *printed, "instead of", *step.prints])
        elif step.command == "^C":
            self._stop()
        else:
            self._start(step)

    def _start(self, step: Step) -> None:
        assert step.command == "make run"
        self._server = Running(self._checkout, self._port)
        demo = self._server.wait_until_ready()
        self._values |= {shown: demo[member] for member, shown in SHOWN.items()}
        if step.prints:
            expected = step.with_values(self._values).prints
            assert agrees(self._server.printed.splitlines(), expected), self._server.printed

    def _stop(self) -> None:
        assert self._server is not None
        os.killpg(self._server.process.pid, signal.SIGINT)
        self._server.process.wait(20)

    def close(self) -> None:
        self.terminal.close()
        if self._server is not None:
            self._server.end()


@pytest.fixture
def walk(tmp_path: Path) -> Iterator[Walk]:
    """From a copy of this checkout: the newcomer has nothing of ours but the server's environment."""
    copy = tmp_path / "checkout"
    left_out = shutil.ignore_patterns(
        ".git", ".venv", ".run", "build", ".*_cache", "__pycache__", ".hypothesis", "tests"
    )
    shutil.copytree(ROOT, copy, ignore=left_out)
    (copy / ".venv").symlink_to(ROOT / ".venv")
    walk = Walk(copy, tmp_path / "home")
    yield walk
    walk.close()


def test_the_walk_of_the_readme_goes_as_it_is_written(walk: Walk, tmp_path: Path) -> None:
    way = steps(README.read_text("utf-8"), "walk")
    assert sum(step.in_server for step in way) >= 4  # unplugged, and back
    for step in way:
        walk.take(step)
    (where,) = walk.terminal.type("python -c 'import seatkeeper; print(seatkeeper.__file__)'", within_s=STEP_S)
    assert Path(where).is_relative_to(tmp_path / "home" / "my-app")


def test_a_transcript_is_read_as_terminals_show_it() -> None:
    document = "<!-- walk -->\n```console\nserver$ make run\n$ echo a \\\n> b\na b\n$ true\n```\n<!-- /walk -->\n$ no\n"
    assert steps(document, "walk") == [
        Step(command="make run", in_server=True),
        Step(command="echo a \\\nb", in_server=False, prints=["a b"]),
        Step(command="true", in_server=False),
    ]


@pytest.mark.parametrize(
    ("printed", "expected", "agree"),
    [
        (["a", "b"], ["a", "b"], True),
        (["a  ", "  b   c"], ["a", "b c"], True),
        (["until 5 UTC"], ["until … UTC"], True),
        (["a", "x", "y", "b"], ["a", "…", "b"], True),
        (["a"], ["a", "…"], True),
        (["a", "b"], ["a"], False),
        (["a.c"], ["abc"], False),
        (["until 5", "o'clock UTC"], ["until … UTC"], False),
        ([], ["a"], False),
    ],
)
def test_what_is_printed_is_what_stands_there(printed: list[str], expected: list[str], agree: bool) -> None:
    assert agrees(printed, expected) is agree

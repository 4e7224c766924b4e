"""The admin command without servers: its line, its help, what it prints and what it says of failures."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
import typer

from services.portal.admin import app, global_first
from services.portal.commands.arguments import confirm
from services.portal.commands.failures import CommandError, line_of, refusal
from services.portal.commands.output import show, show_all
from shared.ledger.catalog import CatalogError
from shared.ledger.connections import UnavailableError
from shared.licensing.codes import Code

ID = UUID("0190aaaa-0000-7000-8000-000000000001")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["account", "list"], ["account", "list"]),
        (["account", "list", "--json"], ["--json", "account", "list"]),
        (["account", "--config", "f.toml", "list"], ["--config", "f.toml", "account", "list"]),
        (["account", "list", "--config=f.toml", "--json"], ["--config=f.toml", "--json", "account", "list"]),
        (["account", "create", "--", "--json"], ["account", "create", "--", "--json"]),
        (["account", "list", "--config"], ["--config", "account", "list"]),
    ],
)
def test_global_options_may_stand_anywhere(given: list[str], expected: list[str]) -> None:
    assert expected == global_first(given)


def test_the_help_of_every_command_has_an_example_of_that_command() -> None:
    for path, command in _leaves(typer.main.get_command(app), ""):
        assert command.help, path
        assert f"services.portal.admin {path} " in f"{command.epilog} ", path


def _leaves(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    for name, inner in getattr(command, "commands", {}).items():
        yield from _leaves(inner, f"{path} {name}".strip())
    if not hasattr(command, "commands"):
        yield path, command


def test_a_record_is_lines_with_lengths_of_time_as_they_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    show({"id": ID, "leaseS": 7_776_000, "expiresAt": None, "changed": True, "words": ("a", "b")}, as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        f"id          {ID}",
        "lease       90d",
        "expires at  -",
        "changed     yes",
        "words       a, b",
    ]


def test_json_has_the_plain_values(capsys: pytest.CaptureFixture[str]) -> None:
    at = datetime(2026, 1, 31, 12, tzinfo=UTC)
    show({"id": ID, "leaseS": 600, "at": at, "none": None, "rows": [{"id": ID}]}, as_json=True)
    expected = {"id": str(ID), "leaseS": 600, "at": "2026-01-31T12:00:00Z", "none": None, "rows": [{"id": str(ID)}]}
    assert expected == json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("as_json", [False, True])
def test_what_devices_sent_cannot_write_to_the_terminal(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    row = {"fingerprint": "\x1b]0;owned\x07\x9b31m\u202e\udcff[red]"}
    show_all([row], as_json=as_json)
    show({**row, "devices": [row]}, as_json=as_json)
    out = capsys.readouterr().out
    assert set(out) - set("\n") <= {character for character in out if character.isprintable()}
    assert "[red]" in out


def test_a_table_is_never_cut(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    show_all([{"id": ID, "name": "n" * 200}], as_json=False)
    assert f"{ID}  {'n' * 200}" in capsys.readouterr().out


def test_a_failure_is_one_line_without_secrets() -> None:
    key = "1GAJ-2KCR-5NCK-CA7C-RYQD-9ZHF-FG7N"
    line = line_of(ValueError(f"two\nlines, {key}, postgresql://user:hunter2@db/x"))
    assert "\n" not in line
    assert key not in line
    assert "hunter2" not in line
    assert "ValueError" in line


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (CatalogError("no such account"), "no such account"),
        (UnavailableError(), "SEATKEEPER_POSTGRES_DSN"),
        (refusal(Code.LICENSE_REVOKED), "create another one"),
        (refusal(Code.OVERLOADED), "OVERLOADED"),
    ],
)
def test_a_known_failure_says_what_to_do(error: Exception, expected: str) -> None:
    assert expected in line_of(error)
    assert "unexpectedly" not in line_of(error)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was asked; every question is answered with no."""
    questions: list[str] = []

    def decline(question: str, **_options: object) -> bool:
        questions.append(question)
        return False

    monkeypatch.setattr(typer, "confirm", decline)
    return questions


def test_who_declines_on_a_terminal_has_changed_nothing(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    with pytest.raises(CommandError, match="nothing was changed"):
        confirm("Really?", yes=False)
    assert asked == ["Really?"]


@pytest.mark.parametrize(("terminal", "yes"), [(True, True), (False, False)])
def test_neither_yes_nor_a_script_is_asked(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, terminal: bool, yes: bool
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: terminal)
    confirm("Really?", yes=yes)
    assert asked == []

"""The command without a server: its help, its texts, its languages, what it prints, how it fails."""

import ast
import errno
import fcntl
import io
import json
import os
import re
import select
import string
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer

from seatkeeper import errors
from seatkeeper.command import __main__ as command
from seatkeeper.command import failures
from seatkeeper.command.config import NAMES
from seatkeeper.command.failures import CommandError, ExitCode, failure_of
from seatkeeper.command.languages import language_of_line, translated
from seatkeeper.command.output import Output
from seatkeeper.command.session import Session
from seatkeeper.texts import TABLES, language_of, text

SOURCES = Path(command.__file__).parents[1]
KEYS = re.compile(r"^(verb|option|panel|field|note|next|fault|failure|prompt|progress|word|step|outcome|reset)\.[a-z]")


# --- Texts ---


def test_every_language_has_every_text_with_the_same_values() -> None:
    english, chinese = TABLES["en"], TABLES["zh"]
    assert english.keys() == chinese.keys()
    for key, said in english.items():
        assert said, key
        assert chinese[key], key
        assert _values(said) == _values(chinese[key]), key


def test_every_key_that_the_code_names_has_a_text() -> None:
    named = {
        node.value
        for source in (SOURCES / "command").glob("*.py")
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and KEYS.match(node.value)
    }
    assert len(named) > 60
    assert named <= TABLES["en"].keys()


def test_no_text_is_left_over() -> None:
    code = "\n".join(source.read_text() for source in (SOURCES / "command").rglob("*.py"))
    own = [key for key in TABLES["en"] if KEYS.match(key)]
    for name in (key.partition(".")[2] for key in own):
        setting = re.sub("([A-Z])", lambda found: f"_{found[0].lower()}", name)
        assert name in code or name.isupper() or setting in NAMES, name


def _values(said: str) -> set[str | None]:
    return {name for _, name, _, _ in string.Formatter().parse(said)} - {None}


# --- Languages ---


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "zh_TW"}, "zh"),
        ({"LANG": "zh_CN", "LC_ALL": "en_GB.UTF-8"}, "en"),
        ({"LANG": "de_DE.UTF-8", "LANGUAGE": "fr:zh_CN:en"}, "zh"),
        ({"LANG": "C.UTF-8", "LANGUAGE": "zh"}, "en"),
        ({"LC_ALL": "C", "LANG": "zh_CN"}, "en"),
        ({"LANG": "zh_CN", "SEATKEEPER_LANGUAGE": "en"}, "en"),
        ({"SEATKEEPER_LANGUAGE": "zh-Hans"}, "zh"),
        ({"LANG": "ja_JP.UTF-8"}, "en"),
    ],
)
def test_the_language_is_that_of_the_locale(environ: dict[str, str], expected: str) -> None:
    assert language_of(environ) == expected


def test_windows_tells_its_language_by_itself() -> None:
    assert language_of({}, "Chinese (Simplified)_China") == "zh"
    assert language_of({"LANG": "en_US"}, "Chinese (Simplified)_China") == "en"


def test_the_line_goes_over_the_environment_and_that_over_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('language = "zh"\n')
    environ = {"SEATKEEPER_HOME": str(tmp_path), "LANG": "en_US.UTF-8"}
    assert language_of_line(["status"], environ) == "zh"
    assert language_of_line(["status"], environ | {"SEATKEEPER_LANGUAGE": "en"}) == "en"
    assert language_of_line(["status", "--language", "en"], environ) == "en"
    assert language_of_line(["--language=en", "status"], environ) == "en"
    assert language_of_line(["status", "--config", str(file)], {"LANG": "en_US.UTF-8"}) == "zh"
    file.write_text("broken")
    assert language_of_line(["status"], environ) == "en"


# --- Help ---


def _leaves(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from _leaves(inner, f"{path} {name}".strip())


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_verb_and_option_has_its_help_in_the_language(language: str) -> None:
    whole = translated(typer.main.get_command(command.app), language)
    paths = dict(_leaves(whole))
    assert {"activate", "offline request", "devices release", "config check", "doctor", "bundle"} <= paths.keys()
    said = set(TABLES[language].values())
    for path, found in paths.items():
        assert found.help in said, path
        for parameter in found.params:
            assert parameter.help in said, (path, parameter.name)


def test_no_verb_takes_the_key_on_the_line() -> None:
    for path, found in _leaves(typer.main.get_command(command.app)):
        options = {option for parameter in found.params for option in parameter.opts}
        assert not options & {"--key", "--license-key", "--token"}, path
        assert path in ("", "offline", "config") or {"--json", "--key-file", "--language"} <= options, path


@pytest.mark.parametrize("line", [["-h"], ["activate", "-h"], ["offline", "-h"], ["offline", "request", "-h"]])
def test_help_has_a_short_name(capsys: pytest.CaptureFixture[str], line: list[str]) -> None:
    assert command.main(line) == 0
    assert "-h" in capsys.readouterr().out


def test_more_days_than_any_server_takes_are_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["offline", "request", "--days", "9999"]) == ExitCode.MISUSED
    assert "3650" in capsys.readouterr().err


# --- What it prints ---


def _output(*, as_json: bool = False, language: str = "en") -> Output:
    return Output(as_json=as_json, language=language)


def test_json_is_one_document_with_all_members(capsys: pytest.CaptureFixture[str]) -> None:
    at = datetime(2026, 1, 31, 12, tzinfo=UTC)
    record = {"file": Path("a/b"), "issued": at, "reason": None, "devices": [{"name": "名"}], "entitlements": {"a": 1}}
    _output(as_json=True).show(record)
    assert json.loads(capsys.readouterr().out) == {
        "file": str(Path("a/b")),
        "issued": "2026-01-31T12:00:00Z",
        "reason": None,
        "devices": [{"name": "名"}],
        "entitlements": {"a": 1},
    }


def test_people_see_fields_in_columns_also_in_wide_letters(capsys: pytest.CaptureFixture[str]) -> None:
    _output(language="zh").show({"state": "x", "validUntil": "y", "reason": None, "trial": True})
    assert capsys.readouterr().out.splitlines() == ["状态      x", "有效期至  y", "试用      是"]


def test_what_came_from_elsewhere_does_not_write_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"name": "\x1b]0;owned\x07\x9b31m\u202e[red]"}
    _output().show({**row, "entitlements": {"\x1b[31m": 3}, "devices": [row]})
    _output().say("\x1b[31m")
    captured = capsys.readouterr()
    assert not set(captured.out + captured.err) & {"\x1b", "\x07", "\x9b", "\u202e"}
    assert "[red]" in captured.out


def test_a_list_of_words_is_one_field(capsys: pytest.CaptureFixture[str]) -> None:
    _output().show({"qrFiles": ["a.png", "b.png"], "bytes": 3})
    assert capsys.readouterr().out.splitlines() == ["QR codes  a.png, b.png", "Bytes     3"]


def test_each_word_of_a_line_has_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    _output().line({"state": "x", "reason": None, "generation": 2})
    assert capsys.readouterr().out == "State: x  Generation: 2\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "gbk"])
def test_a_stream_that_cannot_say_everything_says_the_rest(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding=encoding) for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    monkeypatch.setenv("SEATKEEPER_NAME", "✓ 名 é")
    for line in (["config", "show"], ["config", "show", "--json"]):
        assert command.main([*line, "--language", "zh"]) == 0
    for stream in streams.values():
        stream.flush()
    _, _, document = streams["stdout"].buffer.getvalue().partition(b"{")
    assert json.loads(b"{" + document)["name"] == "✓ 名 é"


@pytest.mark.parametrize(("encoding", "said"), [("ascii", "Name "), ("gbk", "名称 ")])
def test_people_are_told_in_letters_that_their_terminal_has(
    monkeypatch: pytest.MonkeyPatch, encoding: str, said: str
) -> None:
    stdout = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setenv("SEATKEEPER_NAME", "Ada")
    assert command.main(["config", "show", "--language", "zh"]) == 0
    stdout.flush()
    assert said in stdout.buffer.getvalue().decode(encoding)


def test_a_table_is_never_cut(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    _output().show({"devices": [{"fingerprint": "f" * 300}]})
    assert "f" * 300 in capsys.readouterr().out


def test_progress_shows_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, as_json, shown in (
        (_Terminal(), False, True),
        (_Terminal(), True, False),
        (io.StringIO(), False, False),
    ):
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setenv("TERM", "xterm")
        with _output(as_json=as_json).progress("progress.asking"):
            pass
        assert ("Asking the license server" in stream.getvalue()) is shown


# --- Completion ---


@pytest.mark.parametrize(
    ("words", "expected"),
    [("seatkeeper off", "offline"), ("seatkeeper activate --ur", "--url"), ("seatkeeper offline re", "request")],
)
def test_a_shell_completes_verbs_and_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str, expected: str
) -> None:
    monkeypatch.setenv("_SEATKEEPER_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    with pytest.raises(SystemExit):
        command.main([])
    assert expected in capsys.readouterr().out.split()


# --- Questions ---


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _asked(monkeypatch: pytest.MonkeyPatch, answer: str) -> Session:
    monkeypatch.setattr(sys, "stdin", _Terminal(answer))
    return Session(as_json=False, language="en", options={})


def test_a_person_is_asked_and_may_say_no(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _asked(monkeypatch, "y\n").confirm("prompt.give_back", yes=False)
    with pytest.raises(CommandError):
        _asked(monkeypatch, "n\n").confirm("prompt.give_back", yes=False)
    assert not capsys.readouterr().out.strip()


def test_where_nobody_can_answer_yes_has_to_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    session = _asked(monkeypatch, "")
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with pytest.raises(errors.ConfigurationError, match="--yes"):
        session.confirm("prompt.give_back", yes=False)
    session.confirm("prompt.give_back", yes=True)


def test_on_a_terminal_the_key_is_asked_for_without_echo(tmp_path: Path) -> None:
    key = "an imported key of nobody"
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "seatkeeper.command", "validate", "--format-only"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCES.parent), "SEATKEEPER_HOME": str(tmp_path)},
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    try:
        shown = _until(ours, "License key")
        while termios.tcgetattr(ours)[3] & termios.ECHO:
            time.sleep(0.01)
        os.write(ours, f"{key}\n".encode())
        shown += _until(ours, "WELL_FORMED")
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert key not in shown


def _until(terminal: int, words: str) -> str:
    shown = ""
    while words not in shown:
        readable, _, _ = select.select([terminal], [], [], 10)
        assert readable, shown
        shown += os.read(terminal, 4096).decode()
    return shown


# --- How it fails ---


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (errors.ConfigurationError("write it so"), ExitCode.MISUSED, "write it so"),
        (
            errors.Refused("LICENSE_EXPIRED", status=403, detail="It ended."),
            ExitCode.REFUSED,
            "It ended. (LICENSE_EXPI",
        ),
        (errors.Unreachable("none", attempts=3), ExitCode.UNREACHABLE, "none"),
        (errors.TransportError("no route", kind="connect"), ExitCode.UNREACHABLE, "no route"),
        (errors.NotGenuine("not the vendor's"), ExitCode.NOT_GENUINE, "not the vendor's"),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED, "Interrupted"),
        (RuntimeError("odd"), ExitCode.FAILED, "RuntimeError: odd"),
        (PermissionError(errno.EACCES, "denied", "/a/b"), ExitCode.FAILED, "/a/b: permission denied"),
        (errors.Refused("NOT_FOUND", status=404, detail="Nothing."), ExitCode.REFUSED, "url"),
        (CommandError("failure.no_seat", ExitCode.NOT_ACTIVE), ExitCode.NOT_ACTIVE, "no seat"),
    ],
)
def test_every_failure_has_its_code_and_words(error: BaseException, code: ExitCode, said: str) -> None:
    failure = failure_of(error, "en")
    assert (failure.exit_code, said in failure.detail) == (code, True)
    assert failure.document()["error"]["exitCode"] == int(code)  # type: ignore[index]


def test_a_refusal_tells_its_numbers_and_hides_what_is_not_for_people() -> None:
    members = {"limit": 3, "used": 3, "until": "2027-01-01T00:00:00Z", "mac": "m", "type": "t"}
    failure = failure_of(errors.Refused("OFFLINE_HELD", status=409, detail="Held.", members=members), "zh")
    assert "3 个席位已用 3 个" in failure.detail
    assert failure.document()["error"].keys() == {"code", "detail", "exitCode", "limit", "used", "until"}  # type: ignore[attr-defined]


def test_the_table_of_exit_codes_is_whole() -> None:
    told = {int(row) for row in re.findall(r"^\| (\d+) \|", failures.__doc__ or "", re.MULTILINE)}
    assert told == {int(code) for code in ExitCode}


def test_a_text_names_its_language_or_is_english() -> None:
    assert text("word.yes", "zh") == "是"
    assert text("word.yes", "fr") == "yes"

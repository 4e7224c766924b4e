"""What one check found: how bad it is, what it is, and what to do next.

A finding carries a code and values, and no sentence: `words` reads those from the tables in the user's language, so
that a support desk can tell findings by their codes. Its values hold no key and no token.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from seatkeeper.command.doctor.subject import Subject
from seatkeeper.texts import TABLES, text


class Level(StrEnum):
    """`SKIP` is a check that could not be made, or has nothing to look at; it says why."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """`name` is the check's; `code` with it names the text. `command` is exactly what to run, where one helps."""

    name: str
    level: Level
    code: str
    data: Mapping[str, Any] = {}
    command: str | None = None


Check = Callable[[Subject], Awaitable[Finding]]


class Words(NamedTuple):
    title: str
    what: str
    next_step: str


def words(finding: Finding, language: str) -> Words:
    """A finding in words: the check's title, what was found, and the next step or nothing."""
    key = f"doctor.{finding.name}.{finding.code}"
    if key not in TABLES["en"]:
        key = f"doctor.{finding.code}"
    data = _in_words(finding.data, language)
    next_step = text(f"{key}.next", language, **data) if f"{key}.next" in TABLES["en"] else ""
    if until := finding.data.get("not_needed_until"):
        next_step = " ".join(filter(None, (text("doctor.not-needed", language, until=until), next_step)))
    return Words(text(f"doctor.{finding.name}", language), text(key, language, **data), next_step)


def _in_words(data: Mapping[str, Any], language: str) -> dict[str, Any]:
    """What a fingerprint is taken from, and where, has names of its own in each language."""
    said = {name: _named(name, data[name].split(", "), language) for name in ("facts", "place") if name in data}
    return {**data, **said}


def _named(kind: str, values: Sequence[str], language: str) -> str:
    return ", ".join(TABLES[language].get(f"doctor.{kind}.{value}", value) for value in values)


def ok(name: str, code: str = "ok", /, **data: Any) -> Finding:
    return Finding(name=name, level=Level.OK, code=code, data=data)


def warn(name: str, code: str, command: str | None = None, /, **data: Any) -> Finding:
    return Finding(name=name, level=Level.WARN, code=code, command=command, data=data)


def fail(name: str, code: str, command: str | None = None, /, **data: Any) -> Finding:
    return Finding(name=name, level=Level.FAIL, code=code, command=command, data=data)


def skip(name: str, code: str, command: str | None = None, /, **data: Any) -> Finding:
    return Finding(name=name, level=Level.SKIP, code=code, command=command, data=data)

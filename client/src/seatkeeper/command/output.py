"""What the command prints: for people fields and tables in their language, with `--json` one JSON document on stdout.

- Members are camelCase in JSON, as in the API. Times are RFC 3339 in UTC, to the second.
- Remarks, questions and progress go to stderr, so that stdout holds what was asked for and nothing else.
- What came from elsewhere and cannot be printed is replaced, so that nobody writes to the terminal through it.
- Nothing is wrapped or cut, however narrow the terminal, so that ids can be copied.
- A stream of few letters costs letters in what people read, and nothing in JSON and files.
"""

import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from seatkeeper.state import Name
from seatkeeper.texts import TABLES, text

Record = Mapping[str, object]

_UNBOUNDED = 10_000


class Output:
    def __init__(self, *, as_json: bool, language: str) -> None:
        self.as_json = as_json
        self.language = language

    def show(self, record: Record) -> None:
        """One thing: a line for each field, and a table for each field that is a list of records."""
        if self.as_json:
            print(document(record, indent=2))
            return
        lists = {name: value for name, value in record.items() if _is_table(value)}
        fields = {self._label(name): self._text(value) for name, value in record.items() if _is_field(value)}
        width = max((Text(label).cell_len for label in fields), default=0)
        for label, value in fields.items():
            print(f"{label}{' ' * (width - Text(label).cell_len)}  {value}")
        for rows in lists.values():
            self._table(cast(Sequence[Record], rows))

    def line(self, record: Record) -> None:
        """One of many things that come one after the other: a document, or all its fields, on a line of its own."""
        if self.as_json:
            print(document(record), flush=True)
        else:
            words = (f"{self._label(name)}: {self._text(value)}" for name, value in record.items() if _is_field(value))
            print("  ".join(words), flush=True)

    def note(self, key: str, **values: object) -> None:
        """A remark to whoever runs the command."""
        self.say(text(key, self.language, **values))

    def say(self, words: str) -> None:
        """The same in words that are in the user's language already."""
        print(printable(words), file=sys.stderr)

    def advise(self, code: str) -> None:
        """What to do next about a code of the API, where there is more to say than the server does."""
        if f"next.{code}" in TABLES["en"]:
            self.note(f"next.{code}")

    @contextmanager
    def progress(self, key: str, **values: object) -> Iterator[None]:
        """A sign of life on a terminal while something takes its time."""
        if self.as_json or not sys.stderr.isatty():
            yield
            return
        with Console(stderr=True).status(text(key, self.language, **values)):
            yield

    def _table(self, rows: Sequence[Record]) -> None:
        if not rows:
            print(text("word.none", self.language))
            return
        table = Table(*map(self._label, rows[0]), box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        for row in rows:
            table.add_row(*(Text(self._text(value)) for value in row.values()))
        Console(width=_UNBOUNDED).print(table)

    def _label(self, name: str) -> str:
        return text(f"field.{name}", self.language)

    def _text(self, value: object) -> str:
        match value:
            case None | "":
                return "-"
            case bool():
                return text("word.yes" if value else "word.no", self.language)
            case Name():
                return text(f"state.{value.upper()}", self.language)
            case datetime():
                return moment(value)
            case Mapping():
                pairs = (name if limit is None else f"{name} ({limit})" for name, limit in value.items())
                return printable(", ".join(pairs)) or "-"
            case list():
                return printable(", ".join(map(str, value)))
        return printable(str(value))


def _is_field(value: object) -> bool:
    return value is not None and value != {} and not _is_table(value)


def _is_table(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(row, Mapping) for row in value)


def speak_as_streams_can() -> None:
    """What stdout and stderr have no letters for becomes a question mark, and ends no run."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def can_print(language: str) -> bool:
    """Whether stdout has the letters of the language."""
    try:
        text("field.state", language).encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def document(record: Record, indent: int | None = None) -> str:
    """JSON that stdout has the letters for."""
    is_unicode = (sys.stdout.encoding or "utf-8").lower().startswith("utf")
    return json.dumps(record, default=_json_value, ensure_ascii=not is_unicode, indent=indent)


def printable(words: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in words)


def moment(value: datetime) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _json_value(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    return moment(value) if isinstance(value, datetime) else str(value)

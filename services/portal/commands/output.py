"""What the command prints: for people plain fields and tables, with `--json` one JSON document. All on stdout.

- Names of fields are camelCase in JSON, as in the API. Times are RFC 3339 in UTC, to the second.
- Much of what is shown was sent by devices: what cannot be printed is replaced, so that none writes to the terminal.
- Nothing is wrapped or cut, however narrow the terminal, so that keys, tokens and ids can be copied.
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.portal.durations import written

Record = Mapping[str, object]

_UNBOUNDED = 10_000
_CAPITAL = re.compile(r"(?<=[a-z0-9])([A-Z])")


def show(record: Record, *, as_json: bool) -> None:
    """One thing: a line for each field, and a table for each field that is a list of records. Words come in tuples."""
    if as_json:
        _print_json(record)
        return
    tables = {name: value for name, value in record.items() if isinstance(value, list)}
    fields = dict(_field(name, value) for name, value in record.items() if name not in tables)
    width = max(map(len, fields), default=0)
    for name, text in fields.items():
        print(f"{name:{width}}  {text}".rstrip())
    for name, rows in tables.items():
        print(f"\n{_words(name)}")
        _print_table(rows)


def show_all(rows: Sequence[Record], *, as_json: bool) -> None:
    """A list of like things."""
    if as_json:
        _print_json(rows)
    else:
        _print_table(rows)


def note(text: str) -> None:
    """A remark to whoever runs the command; it is on stderr, so that stdout stays what was asked for."""
    print(text, file=sys.stderr)


def _print_json(value: object) -> None:
    print(json.dumps(value, default=_json_value, indent=2))


def _json_value(value: object) -> object:
    return _moment(value) if isinstance(value, datetime) else str(value)


def _print_table(rows: Sequence[Record]) -> None:
    if not rows:
        print("none")
        return
    names = map(_words, rows[0])
    table = Table(*names, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for row in rows:
        table.add_row(*(Text(_text(value)) for value in row.values()))
    Console(width=_UNBOUNDED).print(table)


def _field(name: str, value: object) -> tuple[str, str]:
    """Label and text. A length of time, whose name ends in its unit, is written as it is given: `leaseS` as 90d."""
    if isinstance(value, int) and name.endswith("S"):
        return _words(name.removesuffix("S")), written(value)
    return _words(name), _text(value)


def _text(value: object) -> str:
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return _moment(value)
        case Mapping():
            return json.dumps(value)
        case tuple():
            return printable(", ".join(map(str, value))) or "none"
    return printable(str(value))


def printable(text: str) -> str:
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def _moment(value: datetime) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _words(name: str) -> str:
    return _CAPITAL.sub(lambda found: f" {found[1].lower()}", name)

"""The configuration as a file: TOML that is read with the lines of its keys, and written for its owner alone."""

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from seatkeeper import private_files
from seatkeeper.system_words import system_words

_KEY = re.compile(r"""^\s*["']?([A-Za-z0-9_-]+)["']?\s*[=.]""")
_LINE = re.compile(r"\(at line (\d+), column \d+\)")


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """A value, and where it was given. Paths are relative to `folder`."""

    name: str
    value: Any
    source: str
    folder: Path = Path()

    def __repr__(self) -> str:
        return f"Given({self.name!r}, source={self.source!r})"


class FileFault(Exception):  # noqa: N818 - it becomes one fault among others
    """The file cannot be read. `key` names the text, `values` fill it in."""

    def __init__(self, key: str, source: str, **values: object) -> None:
        super().__init__(key)
        self.key = key
        self.source = source
        self.values = values


def read_file(file: Path) -> dict[str, Given]:
    """What the file holds, each with its line."""
    try:
        written = file.read_text(encoding="utf-8-sig")
        values = tomllib.loads(written)
    except tomllib.TOMLDecodeError as error:
        line = _LINE.search(str(error))
        raise FileFault("toml", f"{file}:{line[1]}" if line else str(file)) from None
    except UnicodeDecodeError:
        raise FileFault("not_utf8", str(file)) from None
    except OSError as error:
        raise FileFault("unreadable", str(file), why=system_words(error)) from error
    lines = _lines(written)
    sources = {name: f"{file}:{lines[name]}" if name in lines else str(file) for name in values}
    return {
        name: Given(name=name, value=value, source=sources[name], folder=file.parent) for name, value in values.items()
    }


def write_file(file: Path, values: Mapping[str, str]) -> None:
    """Write or replace the file whole, with mode 0600."""
    private_files.write(file, "".join(f"{name} = {_quoted(value)}\n" for name, value in values.items()).encode())


def _quoted(value: str) -> str:
    """A JSON text is a basic string of TOML too, but for DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _lines(written: str) -> dict[str, int]:
    """The first line of each key at the top level."""
    found: dict[str, int] = {}
    for number, line in enumerate(written.splitlines(), start=1):
        if match := _KEY.match(line):
            found.setdefault(match[1], number)
    return found

"""Where settings come from: a file, a variable, a file named by a variable.

Rules: a fault says which file and why, and never shows its content.
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml


class SourceError(Exception):
    """A source that cannot be used; the text is for the operator."""


class Found(msgspec.Struct, frozen=True):
    """A value, and whether it is text that stands for another type ("8080")."""

    value: object
    from_text: bool


def read_file(file: Path) -> Mapping[str, object]:
    """The content of a TOML or YAML file, by its suffix."""
    parse = {".toml": _toml, ".yaml": _yaml, ".yml": _yaml}.get(file.suffix.lower())
    if parse is None:
        raise SourceError(f"config file {file}: the suffix must be .toml, .yaml or .yml")
    content = parse(file, _text(file, f"config file {file}"))
    if not isinstance(content, dict):
        raise SourceError(f"config file {file}: expected sections with keys at the top")
    return content


def read_environment(environ: Mapping[str, str], variable: str, container: type[Any] | None) -> Found | None:
    """The value of a variable, or of the file that `<variable>_FILE` names."""
    text, named = environ.get(variable), environ.get(f"{variable}_FILE")
    if text and named:
        raise SourceError(f"both {variable} and {variable}_FILE are set: keep one")
    if named:
        text = _text(Path(named), f"{variable}_FILE={named}").rstrip("\r\n")
    if not text:
        return None
    return Found(text if container is None else _split(text, container), from_text=True)


def _text(file: Path, what: str) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise SourceError(f"{what}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise SourceError(f"{what}: not UTF-8 text") from None


def _toml(file: Path, text: str) -> object:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"at (line \d+, column \d+|end of document)", str(error))
        raise SourceError(
            f"config file {file}: not valid TOML at {place.group(1) if place else 'some place'}"
        ) from None


def _yaml(file: Path, text: str) -> object:
    try:
        return yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "some place"
        raise SourceError(f"config file {file}: not valid YAML at {place}") from None


def _split(text: str, container: type[Any]) -> object:
    """`a,b` for a list, `a:1,b:2` for a mapping. A malformed pair stays text, so that its type is refused."""
    items = [item.strip() for item in text.split(",") if item.strip()]
    if container is not dict:
        return items
    pairs = [item.partition(":") for item in items]
    return {name: value for name, _, value in pairs} if all(colon for _, colon, _ in pairs) else text

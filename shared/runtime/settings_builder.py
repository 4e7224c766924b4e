"""Builds a struct of sections from the environment and a file's content, collecting every fault on the way.

Rules: as in `settings`. A fault names the setting as file key and as variable, and never repeats a value.
"""

from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import msgspec

from shared.runtime.sections import Secret
from shared.runtime.settings_sources import Found, SourceError, read_environment

PREFIX = "SEATKEEPER"
MISSING = "missing"


class Builder:
    """Walks the struct's fields and collects faults on its way instead of stopping at the first."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.faults: list[str] = []

    def settings(self, cls: type[Any], content: Mapping[str, object]) -> object:
        """An instance of `cls`, meaningful only while there are no faults."""
        return self._struct(cls, content, (), msgspec.NODEFAULT)

    def _struct(self, cls: type[Any], content: object, path: tuple[str, ...], default: object) -> object:
        """An instance of a section, or None after a fault. `default` is an instance, or NODEFAULT."""
        if not isinstance(content, Mapping):
            return self._fault(path, "expected a section with keys")
        count = len(self.faults)
        fields = msgspec.structs.fields(cls)
        for unknown in sorted(set(map(str, content)) - {field.name for field in fields}):
            self.faults.append(f"{'.'.join((*path, unknown))}: unknown key in the file")
        values = {field.name: self._field(field, content, (*path, field.name), default) for field in fields}
        if len(self.faults) > count:
            return None
        try:
            return cls(**values)
        except ValueError as error:  # raised by a section's own __post_init__
            return self._fault(path, str(error))

    def _field(
        self, field: msgspec.structs.FieldInfo, content: Mapping[str, object], path: tuple[str, ...], outer: object
    ) -> object:
        default = _default(field) if outer is msgspec.NODEFAULT else getattr(outer, field.name)
        section, optional = _section(field.type)
        if section is None:
            return self._leaf(field.type, content, path, default)
        if optional and default is None and not self._mentions(section, content.get(path[-1]), path):
            return None
        base = default if default is not None else msgspec.NODEFAULT
        return self._struct(section, content.get(path[-1]) or {}, path, base)

    def _leaf(self, expected: Any, content: Mapping[str, object], path: tuple[str, ...], default: object) -> object:
        try:
            found = read_environment(self._environ, _variable(path), _container(expected))
        except SourceError as fault:
            return self._fault(path, str(fault))
        if found is None and path[-1] in content:
            found = Found(content[path[-1]], from_text=False)
        if found is not None:
            return self._converted(expected, found, path)
        return default if default is not msgspec.NODEFAULT else self._fault(path, MISSING)

    def _converted(self, expected: Any, found: Found, path: tuple[str, ...]) -> object:
        try:
            return msgspec.convert(found.value, expected, strict=not found.from_text, dec_hook=_custom)
        except msgspec.ValidationError as error:
            return self._fault(path, _explain(str(error), expected))

    def _mentions(self, section: type[Any], content: object, path: tuple[str, ...]) -> bool:
        variables = [_variable((*path, field.name)) for field in msgspec.structs.fields(section)]
        return content is not None or any(self._environ.get(v) or self._environ.get(f"{v}_FILE") for v in variables)

    def _fault(self, path: tuple[str, ...], text: str) -> object:
        where = f"{'.'.join(path)} ({_variable(path)})" if path else "settings"
        self.faults.append(f"{where}: {text}")
        return None


def _variable(path: tuple[str, ...]) -> str:
    return "_".join((PREFIX, *path)).upper()


def _default(field: msgspec.structs.FieldInfo) -> object:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default


def _section(expected: Any) -> tuple[type[Any] | None, bool]:
    """The struct type behind `Section` or `Section | None`, and whether None is allowed."""
    union = get_origin(expected) in (Union, UnionType)
    members = get_args(expected) if union else (expected,)
    if bool in members:
        return None, False  # a switch that may be finer: one value
    found = next((m for m in members if isinstance(m, type) and issubclass(m, msgspec.Struct)), None)
    return found, union and type(None) in members


def _container(expected: Any) -> type[Any] | None:
    origin = get_origin(expected)
    return origin if origin in (dict, list, tuple, set, frozenset) else None


def _custom(expected: type[Any], value: object) -> object:
    if expected in (Secret, Path) and isinstance(value, str):
        return expected(value)
    raise msgspec.ValidationError("Expected `str`")


def _explain(message: str, expected: Any) -> str:
    """msgspec's message, which names types and bounds; the one that repeats a value is replaced."""
    if not message.startswith("Expected"):
        choices = get_args(expected) if get_origin(expected) is Literal else ()
        return f"expected one of {', '.join(map(repr, choices))}" if choices else "not an accepted value"
    return message[0].lower() + message[1:].replace("`", "").split(" - at ")[0]

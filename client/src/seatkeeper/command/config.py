"""The command's settings: a TOML file, over which goes the environment, over which go the options of the line.

Rules:
- The setting `license_key` is the key `license_key` of the file and the variable SEATKEEPER_LICENSE_KEY; an empty
  variable counts as unset. Paths in the file are relative to its folder.
- License key and token exclude each other: the one that is given nearer to the user drops the other.
- All faults are told at once, each with its source (and the line in the file), and none repeats a value.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec

from seatkeeper import base64url, license_key
from seatkeeper.command.config_file import FileFault, Given, read_file
from seatkeeper.errors import ConfigurationError
from seatkeeper.http import read_url
from seatkeeper.license_key import KeyFault
from seatkeeper.paths import config_file
from seatkeeper.proxies import DIRECT, read_proxy
from seatkeeper.signatures import read_root_key
from seatkeeper.telling import sentence
from seatkeeper.texts import LANGUAGES, language_of, text

_EXCLUSIVE = {"license_key": "token", "token": "license_key"}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What is empty was not given. `root_key` is the 43 characters of the key itself."""

    url: str = ""
    product: str = ""
    license_key: str | None = None
    token: str | None = None
    root_key: str = ""
    version: str | None = None
    name: str | None = None
    proxy: str | None = None
    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    unit: str | None = None
    language: str | None = None
    directory: Path | None = None
    log_file: Path | None = None

    def __repr__(self) -> str:
        return f"Settings({self.url!r}, product={self.product!r})"


class SettingsError(ConfigurationError):
    """All faults, a line each. `code` is the license key's own where it is the only one."""

    def __init__(self, faults: str, code: str) -> None:
        super().__init__(faults)
        self.code = code


NAMES = Settings.__struct_fields__


def load(
    path: Path | None = None,
    environ: Mapping[str, str] | None = None,
    options: Mapping[str, str | None] | None = None,
    needs: Sequence[str] = (),
) -> Settings:
    """The settings; ConfigurationError, one fault a line, if any is wrong or one of `needs` is not there.

    `path` is a file that has to exist; without it, the usual one is read if there is one.
    """
    reader = _Reader(os.environ if environ is None else environ)
    settings = reader.read(path, options or {}, needs)
    if reader.faults:
        only = reader.key_fault if len(reader.faults) == 1 else None
        raise SettingsError("\n".join(reader.faults), f"KEY_{only.name}" if only else "CONFIGURATION")
    return settings


def faults(path: Path | None = None, environ: Mapping[str, str] | None = None) -> list[str]:
    """All that is wrong with the file and the environment, a line each."""
    reader = _Reader(os.environ if environ is None else environ)
    reader.read(path, {}, ())
    return reader.faults


def examine(
    path: Path | None = None,
    environ: Mapping[str, str] | None = None,
    options: Mapping[str, str | None] | None = None,
) -> tuple[Settings, list[str]]:
    """The settings as far as they can be read, and what is wrong with the others."""
    reader = _Reader(os.environ if environ is None else environ)
    return reader.read(path, options or {}, ()), reader.faults


def variable(name: str) -> str:
    return f"SEATKEEPER_{name.upper()}"


class _Reader:
    """One reading; `faults` fills as it goes on."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._language = language_of(environ)
        self.faults: list[str] = []
        self.key_fault: KeyFault | None = None

    def read(self, path: Path | None, options: Mapping[str, str | None], needs: Sequence[str]) -> Settings:
        self._language = options.get("language") or self._language
        file = path or config_file(self._environ)
        layers = [
            self._file(file, has_to_exist=path is not None or bool(self._environ.get("SEATKEEPER_CONFIG"))),
            _layer({name: self._environ.get(variable(name)) for name in NAMES}, variable),
            _layer(options, _option),
        ]
        merged = self._merged(layers)
        for name in needs:
            if name not in merged and _EXCLUSIVE.get(name) not in merged:
                self._fault("missing", "", name=name, option=_option(name), variable=variable(name), file=file)
        values = {name: self._checked(name, given) for name, given in merged.items()}
        return Settings(**{name: value for name, value in values.items() if value is not None})

    def _file(self, file: Path, *, has_to_exist: bool) -> dict[str, Given]:
        try:
            found = read_file(file)
        except FileFault as fault:
            if isinstance(fault.__cause__, FileNotFoundError) and not has_to_exist:
                return {}
            self._fault(fault.key, fault.source, **fault.values)
            return {}
        for name, given in found.items():
            if name not in NAMES:
                near = get_close_matches(name, NAMES, n=1)
                self._fault("unknown_near" if near else "unknown", given.source, name=name, near="".join(near))
        return {name: given for name, given in found.items() if name in NAMES}

    def _merged(self, layers: Sequence[Mapping[str, Given]]) -> dict[str, Given]:
        merged: dict[str, Given] = {}
        for layer in layers:
            if all(name in layer for name in _EXCLUSIVE):
                self._fault("key_and_token", layer["token"].source)
            for name in layer:
                merged.pop(_EXCLUSIVE.get(name, ""), None)
            merged.update(layer)
        return merged

    def _checked(self, name: str, given: Given) -> Any:
        """The value as it is used; None for one that is not, whose fault is noted."""
        try:
            if isinstance(given.value, str):
                return _READERS.get(name, _read_text)(given)
            self._fault("not_text", given.source, name=name)
        except ConfigurationError as error:
            if isinstance(error.args[0], KeyFault):
                self.key_fault = error.args[0]
            why = sentence(error, self._language)
            self._fault(_FAULTS.get(name, "text"), given.source, name=name, why=why)
        except (ValueError, OSError):
            self._fault(_FAULTS.get(name, "text"), given.source, name=name)
        return None

    def _fault(self, key: str, source: str, **values: object) -> None:
        said = text(f"fault.{key}", self._language, **values)
        self.faults.append(f"{source}: {said}" if source else said)


def _layer(values: Mapping[str, str | None], source: Callable[[str], str]) -> dict[str, Given]:
    return {name: Given(name=name, value=value, source=source(name)) for name, value in values.items() if value}


def _option(name: str) -> str:
    spelled = {"license_key": "key-file", "token": "token-file", "version": "app-version"}
    return f"--{spelled.get(name, name.replace('_', '-'))}"


def _read_text(given: Given) -> str:
    if not given.value.strip() or not given.value.isprintable():
        raise ValueError
    return str(given.value).strip()


def _read_url(given: Given) -> str:
    return read_url(given.value)


def _read_key(given: Given) -> str:
    if (fault := license_key.check(given.value)) is not None:
        raise ConfigurationError(fault)
    return str(given.value).strip()


def _read_root_key(given: Given) -> str:
    file = _beside(given)
    return base64url.encode(read_root_key(str(file) if os.path.isfile(file) else given.value))


def _read_proxy(given: Given) -> str:
    if given.value.strip().lower() == DIRECT:
        return DIRECT
    read_proxy(given.value, setting="proxy")
    return _read_text(given)


def _read_unit(given: Given) -> str:
    if not _UNIT.fullmatch(given.value):
        raise ValueError
    return str(given.value)


def _read_language(given: Given) -> str:
    if given.value[:2].lower() not in LANGUAGES:
        raise ValueError
    return str(given.value[:2].lower())


def _read_file(given: Given) -> Path:
    if not os.path.isfile(_beside(given)):
        raise ValueError
    return _beside(given)


def _beside(given: Given) -> Path:
    return given.folder / Path(given.value).expanduser()


_UNIT = re.compile(r"[A-Za-z0-9:_.@\\][A-Za-z0-9:_.@\\-]*")
_READERS: dict[str, Callable[[Given], object]] = {
    "url": _read_url,
    "license_key": _read_key,
    "root_key": _read_root_key,
    "proxy": _read_proxy,
    "unit": _read_unit,
    "language": _read_language,
    "ca_file": _read_file,
    "client_cert": _read_file,
    "client_key": _read_file,
    "directory": _beside,
    "log_file": _beside,
}
_FAULTS = {name: "file" if read is _read_file else name for name, read in _READERS.items() if read is not _beside}

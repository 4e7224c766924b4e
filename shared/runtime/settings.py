"""Settings from the environment and a TOML or YAML file, into a msgspec struct of sections.

Rules: the environment wins over the file, the file over the default. The setting `postgres.dsn` is the key `dsn` in the
file's section `postgres`, the variable SEATKEEPER_POSTGRES_DSN, or the file that SEATKEEPER_POSTGRES_DSN_FILE names. An
empty variable counts as unset. Unknown SEATKEEPER_ variables are ignored, because Kubernetes injects some for each of
its services; unknown keys of the file are faults. All faults are told at once, and none repeats a value.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar, cast

from shared.runtime.sections import Log, Postgres, RabbitMQ, Redis, Secret, Secrets, Server
from shared.runtime.settings_builder import MISSING, Builder
from shared.runtime.settings_sources import SourceError, read_file

__all__ = [
    "Log",
    "Postgres",
    "RabbitMQ",
    "Redis",
    "Secret",
    "Secrets",
    "Server",
    "SettingsFaults",
    "load",
    "load_or_exit",
    "load_settings",
    "parse_args",
]

EXIT_FAULTS = 2
T = TypeVar("T")


class SettingsFaults(Exception):  # noqa: N818 - it holds faults, several of them
    """Everything that is wrong with the settings, one line each."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def load(cls: type[T], *, file: Path | None, environ: Mapping[str, str]) -> T:
    """The settings, or `SettingsFaults`."""
    builder = Builder(environ)
    built = builder.settings(cls, {}) if file is None else _with_file(builder, cls, file)
    if builder.faults:
        raise SettingsFaults(builder.faults)
    return cast(T, built)


def parse_args(prog: str, argv: Sequence[str] | None = None) -> Path | None:
    """The `--config` of `python -m services.NAME --config FILE`."""
    parser = argparse.ArgumentParser(prog=prog)
    parser.add_argument("--config", metavar="FILE", type=Path, help="settings in TOML or YAML")
    config: Path | None = parser.parse_args(argv).config
    return config


def load_or_exit(cls: type[T], argv: Sequence[str] | None, environ: Mapping[str, str], prog: str) -> T:
    """The settings; or every fault on stderr, one a line, and exit code 2."""
    return load_settings(cls, parse_args(prog, argv), environ, prog)


def load_settings(cls: type[T], file: Path | None, environ: Mapping[str, str], prog: str) -> T:
    """The same, for a command that reads its arguments itself."""
    try:
        return load(cls, file=file, environ=environ)
    except SettingsFaults as error:
        _exit_with(prog, error.faults)


def _exit_with(prog: str, faults: Sequence[str]) -> NoReturn:
    for fault in faults:
        print(f"{prog}: {fault}", file=sys.stderr)
    raise SystemExit(EXIT_FAULTS)


def _with_file(builder: Builder, cls: type[T], file: Path) -> object:
    try:
        return builder.settings(cls, read_file(file))
    except SourceError as error:
        # What the unreadable file would have held is not missing.
        builder.settings(cls, {})
        builder.faults[:] = [str(error), *(fault for fault in builder.faults if not fault.endswith(MISSING))]
        return None

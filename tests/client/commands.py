"""Runs the command in this process, in a thread of its own, with no settings but those that it is given."""

import asyncio
import contextlib
import io
import json
import os
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TextIO
from unittest import mock

from seatkeeper.command.__main__ import main
from tests.client.conftest import Application
from tests.platform import PRODUCT

_ALONE = asyncio.Lock()
"""Streams and environment are the process's own."""


@dataclass(frozen=True)
class Ran:
    """What a run left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on stdout."""
        return json.loads(self.out)

    def ok(self, code: int = 0) -> Any:
        assert self.code == code, self
        return self.json


@dataclass(frozen=True, kw_only=True)
class Command:
    """`folder` is SEATKEEPER_HOME, with the configuration and the states."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    async def __call__(self, *arguments: object, stdin: str | bytes = "", **variables: str) -> Ran:
        line = [str(argument) for argument in arguments]
        given = stdin if isinstance(stdin, bytes) else stdin.encode()
        async with _ALONE:
            return await asyncio.to_thread(_run, line, self.environment(**variables), given)

    def environment(self, **variables: str) -> dict[str, str]:
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("SEATKEEPER_", "LC_"))}
        plain |= {"LANG": "C.UTF-8", "LANGUAGE": ""}
        return plain | {"SEATKEEPER_HOME": str(self.folder)} | self.variables | variables

    @property
    def config(self) -> Path:
        return self.folder / "config.toml"


def command_of(application: Application, fingerprint: str = "laptop", *, key: bool = True) -> Command:
    """The command on one device of a customer, with its settings in the environment."""
    settings = {
        "SEATKEEPER_URL": application.url,
        "SEATKEEPER_PRODUCT": PRODUCT,
        "SEATKEEPER_ROOT_KEY": json.dumps(application.vendor.root_key),
        "SEATKEEPER_FINGERPRINT": fingerprint,
    }
    keys = {"SEATKEEPER_LICENSE_KEY": application.grant.key} if key else {}
    return Command(folder=application.folder / f"home of {fingerprint}", variables=settings | keys)


class _Stream(io.StringIO):
    """What this thread writes, as text or bytes; the services' log, of other threads, goes where it did."""

    def __init__(self, usual: TextIO) -> None:
        super().__init__()
        self._bytes = io.BytesIO()
        self._thread = threading.get_ident()
        self._usual = usual

    @property
    def buffer(self) -> BinaryIO:
        return self._bytes

    def written(self) -> str:
        return self.getvalue() + self._bytes.getvalue().decode()

    def write(self, text: str, /) -> int:
        return super().write(text) if threading.get_ident() == self._thread else self._usual.write(text)


def _run(line: list[str], environ: dict[str, str], stdin: bytes) -> Ran:
    out, err = _Stream(sys.stdout), _Stream(sys.stderr)
    with (
        mock.patch.dict(os.environ, environ, clear=True),
        mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = main(line)
    return Ran(code, out.written(), err.written())

"""One run of the command: what the options that every verb takes say, and how a verb comes to the SDK.

A verb is `async def verb(session: Session, …)`; `@verb` gives it the common options, an event loop and a `Session`. As
the callback of a group it runs where no verb of the group is named.
"""

import asyncio
import functools
import inspect
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import typer

from seatkeeper.api import DEADLINE_S, Api
from seatkeeper.clock import SystemClock
from seatkeeper.command.config import Settings, examine, load
from seatkeeper.command.failures import CommandError
from seatkeeper.command.options import COMMON, settings_of
from seatkeeper.command.output import Output
from seatkeeper.errors import ConfigurationError
from seatkeeper.http import HttpTransport
from seatkeeper.texts import text


class Session(Output):
    """What the common options say. `options` are settings, by the names that `Settings` has for them."""

    def __init__(
        self,
        *,
        as_json: bool,
        language: str,
        timeout_s: float | None = None,
        config: Path | None = None,
        options: Mapping[str, str | None],
    ) -> None:
        super().__init__(as_json=as_json, language=language)
        self.timeout_s = timeout_s
        self.config = config
        self.options = {"language": language, **options}

    def settings(self, *needs: str) -> Settings:
        """The settings; a license key that is needed and not there is asked for on a terminal."""
        if "license_key" in needs and sys.stdin.isatty():
            found, _ = examine(self.config, os.environ, self.options)
            if not found.license_key and not found.token:
                asked = typer.prompt(text("prompt.key", self.language), hide_input=True, err=True)
                self.options["license_key"] = asked
        return load(self.config, os.environ, self.options, needs)

    @asynccontextmanager
    async def api(self, settings: Settings) -> AsyncIterator[Api]:
        """The server's operations."""
        transport = HttpTransport(
            settings.url,
            proxy=settings.proxy,
            ca_file=settings.ca_file,
            client_cert=settings.client_cert,
            client_key=settings.client_key,
        )
        api = Api(transport, clock=SystemClock(), language=self.language, deadline_s=self.timeout_s or DEADLINE_S)
        try:
            yield api
        finally:
            await api.close()

    def confirm(self, key: str, *, yes: bool, **values: object) -> None:
        """Ask whoever sits at a terminal; elsewhere `--yes` has to say it."""
        if yes:
            return
        if not sys.stdin.isatty():
            raise ConfigurationError(text("failure.unasked", self.language))
        if not typer.confirm(text(key, self.language, **values), err=True):
            raise CommandError("failure.nothing_done")


def verb(function: Callable[..., Awaitable[int | None] | int | None]) -> Callable[..., None]:
    """Give a verb the common options, and a session as its first argument. It may return an exit code."""
    own = [p for p in inspect.signature(function, eval_str=True).parameters.values() if p.name != "session"]

    @functools.wraps(function)
    def run(ctx: typer.Context, **given: Any) -> None:
        if ctx.invoked_subcommand is not None:
            return
        session = _session(ctx, {name: given.pop(name) for name in COMMON})
        code = function(session, **given)
        if inspect.isawaitable(code):
            code = asyncio.run(_awaited(code))
        if code:
            raise typer.Exit(code)

    parameters = [
        _parameter("ctx", typer.Context),
        *(_parameter(p.name, p.annotation, p.default) for p in own),
        *(_parameter(name, annotation, default) for name, (annotation, default) in COMMON.items()),
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _parameter(name: str, annotation: Any, default: object = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


async def _awaited(code: Awaitable[int | None]) -> int | None:
    return await code


def _session(ctx: typer.Context, chosen: dict[str, Any]) -> Session:
    """`ctx.obj` is the language, which had to be known before the line was read."""
    return Session(
        as_json=chosen["as_json"],
        language=ctx.obj,
        timeout_s=chosen["timeout"],
        config=chosen["config"],
        options=settings_of(chosen),
    )

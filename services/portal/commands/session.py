"""One run of the command: the settings, the open resources, the use cases at work.

- The log would only repeat what the command says, so it is silent, but for `log.level=debug`: then it is on stderr.
- Nothing begins before Postgres was reached, its schema is this code's, and the account's keys were opened.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import msgspec
import typer

from services.portal import app
from services.portal.accounts import Accounts
from services.portal.commands.failures import CommandError
from services.portal.commands.output import Record, note, show, show_all
from services.portal.licenses import Licenses
from services.portal.lookups import Lookups
from services.portal.settings import Settings
from shared.runtime import logging as log
from shared.runtime.resources import Resources, open_resources
from shared.runtime.sections import Log
from shared.runtime.settings import load_settings
from shared.seats.connection import RedisConnection

PROG = "services.portal.admin"

Answer = TypeVar("Answer")


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """What the global options say."""

    config: Path | None
    as_json: bool


class Portal(msgspec.Struct, frozen=True, kw_only=True):
    """The use cases, good while `run` runs, Redis, which can be asked whether it works, and what they stand on."""

    accounts: Accounts
    licenses: Licenses
    lookups: Lookups
    redis: RedisConnection
    resources: Resources


def run(ctx: typer.Context, work: Callable[[Portal], Awaitable[Answer]], *, account: UUID | None = None) -> Answer:
    """What `work` answers; it is given the use cases, after `account` was found to be there."""
    settings = load_settings(Settings, _session(ctx).config, os.environ, PROG)
    quiet(settings.log)
    return asyncio.run(_run(settings, work, account))


def quiet(settings: Log) -> None:
    log.configure(settings, stream=sys.stderr)
    logging.disable(logging.NOTSET if settings.level == "debug" else logging.CRITICAL)


def tell(ctx: typer.Context, record: Record) -> None:
    show(record, as_json=_session(ctx).as_json)


def tell_variables(ctx: typer.Context, variables: dict[str, str]) -> None:
    """Settings as lines of an environment file."""
    if _session(ctx).as_json:
        tell(ctx, variables)
    else:
        print("\n".join(f"{name}={value}" for name, value in variables.items()))


def tell_page(ctx: typer.Context, rows: Sequence[Record], *, limit: int, cursor: str) -> None:
    """The first `limit` of `rows`, and where the next page begins if there are more. `cursor` names the field."""
    shown = rows[:limit]
    show_all(shown, as_json=_session(ctx).as_json)
    if len(rows) > limit:
        note(f"there are more: add --after {shown[-1][cursor]}")


async def _run(settings: Settings, work: Callable[[Portal], Awaitable[Answer]], account: UUID | None) -> Answer:
    async with open_resources(settings, application="seatkeeper-admin") as resources:
        await _check_schema(resources)
        lookups = app.lookups(resources)
        if account is not None:
            await lookups.require_account(account)
        portal = Portal(
            accounts=app.accounts(resources),
            licenses=app.licenses(resources),
            lookups=lookups,
            redis=resources.redis,
            resources=resources,
        )
        return await work(portal)


async def _check_schema(resources: Resources) -> None:
    if lacking := await resources.migrations_to_run():
        raise CommandError(f"migrations to run: {', '.join(lacking)}: `migrate` brings the database up to date")


def _session(ctx: typer.Context) -> Session:
    session = ctx.find_object(Session)
    assert session is not None  # the entry's callback has set it
    return session

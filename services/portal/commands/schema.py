"""`migrate`: brings the database to this code's schema, as its owner and before the services of a release start.

The owner's DSN is a setting of its own and is not looked for in the file that services share: none of them may
change the schema, so none should hold it.
"""

import asyncio
import os
from collections.abc import Awaitable
from typing import Annotated

import msgspec
import typer

from services.portal.commands.failures import CommandError
from services.portal.commands.session import PROG, tell
from shared.ledger.connections import LOST, open_pool
from shared.ledger.migrate import migrate, pending
from shared.runtime.sections import Secret
from shared.runtime.settings import load_settings

AWAY = "Postgres is out of reach: see that it runs and that SEATKEEPER_OWNER_DSN leads to it"


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """The role that owns the schema; it makes the services' roles too (CREATEROLE)."""

    dsn: Secret


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    owner: Owner


def migrate_database(
    ctx: typer.Context,
    owner_dsn: Annotated[
        str,
        typer.Option(
            metavar="DSN", help="The owner's DSN; better in SEATKEEPER_OWNER_DSN or SEATKEEPER_OWNER_DSN_FILE."
        ),
    ] = "",
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit 1 if something is pending.")] = False,
) -> None:
    """Apply the migrations that the database lacks, as the schema's owner; needs no other setting."""
    dsn = owner_dsn or load_settings(Settings, None, os.environ, PROG).owner.dsn.reveal()
    names = asyncio.run(_reaching(_pending(dsn) if check else migrate(dsn)))
    tell(ctx, {"pending" if check else "applied": tuple(names)})
    if check and names:
        raise typer.Exit(1)


async def _pending(dsn: str) -> list[str]:
    async with await open_pool(dsn, application="seatkeeper-admin", size=1, statement_timeout_s=5) as pool:
        return await pending(pool)


async def _reaching(work: Awaitable[list[str]]) -> list[str]:
    try:
        return await work
    except LOST as error:
        raise CommandError(AWAY) from error

"""One account's view of the database, for a role that row-level security keeps to one account at a time.

A request of the portal names its account here and hands the pool on: whatever uses it sees and changes that account's
rows alone, and whatever asks without is shown none. The account is set when a connection is taken and taken back before
the connection is anybody else's; a connection that cannot be told so is closed.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast
from uuid import UUID

from shared.ledger.connections import Connection, Pool

_WORK_FOR = "SELECT set_config('seatkeeper.account', $1, false)"
_NOBODY = ""


def for_account(pool: Pool, account_id: UUID) -> Pool:
    """The pool as this account sees it; opened and closed with the one it is made of."""
    return cast(Pool, _AccountPool(pool, account_id))


class _AccountPool:
    """What the ledger's parts ask of a pool."""

    def __init__(self, pool: Pool, account_id: UUID) -> None:
        self._pool = pool
        self._account_id = account_id

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        async with self._pool.acquire() as connection:
            try:
                await connection.execute(_WORK_FOR, str(self._account_id))
                yield connection
            finally:
                await _leave(connection)

    async def execute(self, statement: str, *arguments: Any) -> Any:
        async with self.acquire() as connection:
            return await connection.execute(statement, *arguments)

    async def fetch(self, statement: str, *arguments: Any) -> Any:
        async with self.acquire() as connection:
            return await connection.fetch(statement, *arguments)

    async def fetchrow(self, statement: str, *arguments: Any) -> Any:
        async with self.acquire() as connection:
            return await connection.fetchrow(statement, *arguments)

    async def fetchval(self, statement: str, *arguments: Any) -> Any:
        async with self.acquire() as connection:
            return await connection.fetchval(statement, *arguments)


async def _leave(connection: Connection) -> None:
    try:
        if not connection.is_closed():
            await connection.execute(_WORK_FOR, _NOBODY)
    except BaseException:
        connection.terminate()
        raise

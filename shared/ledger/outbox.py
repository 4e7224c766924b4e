"""The relay's half of the outbox: facts are taken, handed over, and only then marked.

A crash between handing over and marking hands over again; receivers compare versions or keep an inbox.
"""

from collections.abc import Awaitable, Callable, Sequence

from shared.ledger.connections import LOST, Pool, UnavailableError
from shared.ledger.statements import load

_SQL = load("outbox.sql")

KEEP_SENT_S = 86_400.0
CLEARED_AT_ONCE = 1000


async def relay_once(pool: Pool, publish: Callable[[Sequence[str]], Awaitable[None]], *, limit: int = 500) -> int:
    """Hand over the oldest unsent facts and mark them; returns how many.

    Raises `UnavailableError`, or what `publish` raised: then none is marked.
    """
    failure: Exception | None = None
    try:
        async with pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(_SQL["take"], limit)
            if rows:
                try:
                    await publish([row["fact"] for row in rows])
                except Exception as error:
                    failure = error
                    raise
                await connection.execute(_SQL["mark"], [row["id"] for row in rows])
            return len(rows)
    except LOST as error:
        if error is failure:
            raise
        raise UnavailableError from error


async def clear_sent(pool: Pool, *, keep_s: float = KEEP_SENT_S) -> None:
    """Remove facts that were handed over more than `keep_s` seconds ago, a thousand at a time."""
    try:
        while await pool.execute(_SQL["clear"], keep_s, CLEARED_AT_ONCE) == f"DELETE {CLEARED_AT_ONCE}":
            pass
    except LOST as error:
        raise UnavailableError from error

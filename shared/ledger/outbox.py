"""The relay's half of the outbox: facts are taken, handed over, and only then marked.

A crash between handing over and marking hands over again; receivers compare versions or keep an inbox.

The first time that facts of one license are handed over is in the order of their commits, because
- ids rise in that order: the license's row is locked from before its facts are written until they are committed, so
  the next transaction of that license takes its ids later (the sequence caches none). A lower id may turn up late,
  but it is another license's;
- for the same reason whoever sees one of its facts sees those before: what is unsent and seen is never a gap;
- relays take turns. With `SKIP LOCKED` alone a second relay would pass over facts that the first is still handing
  over, and be ahead of it with later ones;
- `publish` hands over one after the other and stops at the first that is not safe. So even a relay that lost its turn
  with its connection, and goes on unaware beside its successor, is ahead of nothing that it has not made safe itself.
"""

from collections.abc import Awaitable, Callable, Sequence

from shared.ledger.connections import LOST, Pool, UnavailableError
from shared.ledger.statements import load

_SQL = load("outbox.sql")

KEEP_SENT_S = 86_400.0
CLEARED_AT_ONCE = 1000
BATCH = 200
_TURN = 0x5EA7_0B0C


async def relay_once(pool: Pool, publish: Callable[[Sequence[str]], Awaitable[None]], *, limit: int = BATCH) -> int:
    """In this relay's turn, hand over the oldest unsent facts and mark them; returns how many.

    Raises `UnavailableError`, or what `publish` raised: then none is marked.
    """
    failure: Exception | None = None
    try:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(_SQL["take_turn"], _TURN)
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

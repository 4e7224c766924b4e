"""The inbox: lets a fact that is delivered several times have its effect in Postgres once.

- A fact's row and its effect are one transaction: both are there or neither. A delivery that comes while another of
  the same fact is being worked on waits for it, and finds it done, or does it if the other failed.
- Facts may come in any order. A consumer that keeps only what is newest compares versions instead of using this.
- Rows are kept for longer than any broker holds a message back. A dead letter that is replayed later than that may
  have its effect again.
"""

from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

from shared.ledger.connections import LOST, Connection, Pool, UnavailableError
from shared.ledger.rows import columns, own
from shared.ledger.statements import load
from shared.licensing.facts import Fact

_SQL = load("inbox.sql")

KEEP_RECEIVED_S = 30 * 86_400.0
CLEARED_AT_ONCE = 1000

Effect = Callable[[Connection, Sequence[Fact]], Awaitable[None]]
"""What new facts do, over the connection whose transaction it is part of."""


async def receive_once(connection: Connection, consumer: str, facts: Sequence[Fact]) -> list[Fact]:
    """The facts that are new to `consumer`, each once, and from now on known to it.

    To be called once in a transaction, before the effect; whoever calls it commits both together.
    """
    by_key: dict[tuple[UUID, UUID, int], Fact] = {}
    for fact in facts:
        by_key.setdefault((fact.account_id, fact.license_id, fact.version), fact)
    rows = await connection.fetch(_SQL["receive"], *columns(by_key, 3), consumer)
    new = {(own(row["account_id"]), own(row["license_id"]), row["version"]) for row in rows}
    return [fact for key, fact in by_key.items() if key in new]


class Inbox:
    """A receiver of facts whose effect in Postgres happens once for each."""

    def __init__(self, pool: Pool, consumer: str, effect: Effect) -> None:
        self._pool = pool
        self._consumer = consumer
        self._effect = effect

    async def __call__(self, facts: Sequence[Fact]) -> None:
        """Raises `UnavailableError`, or what the effect raised: then nothing has happened, or all of it."""
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                if new := await receive_once(connection, self._consumer, facts):
                    await self._effect(connection, new)
        except LOST as error:
            raise UnavailableError from error


async def clear_received(pool: Pool, *, keep_s: float = KEEP_RECEIVED_S) -> None:
    """Forget facts that were taken in more than `keep_s` seconds ago, a thousand at a time."""
    try:
        while await pool.execute(_SQL["clear"], keep_s, CLEARED_AT_ONCE) == f"DELETE {CLEARED_AT_ONCE}":
            pass
    except LOST as error:
        raise UnavailableError from error

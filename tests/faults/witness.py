"""The witness: a process that is told every fact, notes it, and has an effect in Postgres for each.

    python -m tests.faults.witness CONFIG.json

Nothing but the inbox keeps an effect from happening twice: the table has no key, and what is delivered is shuffled and
some of it handed over again before it reaches the inbox. One consumer for each node of the broker shares the queue, so
that a node that is away silences nobody.
"""

import asyncio
import random
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import asyncpg
import msgspec

from shared.facts import topology
from shared.facts.connection import BrokerError
from shared.facts.consumer import AWAY, Consumer
from shared.facts.topology import Subscriber
from shared.ledger.connections import Connection, UnavailableError, open_pool
from shared.ledger.inbox import Inbox
from shared.licensing.facts import Fact
from tests.faults import history

SUBSCRIBER = Subscriber(queue="seatkeeper.witness", keys=("fact.#",))
ROLE = "seatkeeper_heartbeat"
NAME = "witness"

_TABLE = "CREATE TABLE IF NOT EXISTS witness_effect (account_id uuid, license_id uuid, version bigint)"
_INDEX = "CREATE INDEX IF NOT EXISTS witness_effect_license ON witness_effect (license_id)"
_GRANT = f"GRANT SELECT, INSERT ON witness_effect TO {ROLE}"
_RECENT = 1000


class Config(msgspec.Struct, frozen=True, kw_only=True):
    folder: str
    dsn: str
    urls: list[str]


async def prepare(owner_dsn: str, urls: Sequence[str], *, within_s: float = 30.0) -> None:
    """Make the table, and the queue at whichever node answers first."""
    connection = await asyncpg.connect(owner_dsn)
    try:
        for statement in (_TABLE, _INDEX, _GRANT):
            await connection.execute(statement)
    finally:
        await connection.close()
    deadline = time.monotonic() + within_s
    for url in [*urls] * 1000:
        try:
            return await topology.declare(url, [SUBSCRIBER])
        except BrokerError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.2)
    raise AssertionError("there is no broker to declare a queue at")


class Witness:
    def __init__(self, inbox: Inbox, writer: history.Writer) -> None:
        self._inbox = inbox
        self._writer = writer
        self._random = random.Random()
        self._recent: list[Fact] = []

    async def __call__(self, facts: Sequence[Fact]) -> None:
        at = time.monotonic_ns()
        for fact in facts:
            told = history.Fact(license=str(fact.license_id), version=fact.version, type=fact.type, at=at)
            self._writer.put(told)
        again = self._random.sample(self._recent, min(len(self._recent), len(facts) // 4 + 1))
        given = [*facts, *again]
        self._random.shuffle(given)
        await self._inbox(given)
        self._recent = [*self._recent, *facts][-_RECENT:]


async def _effect(connection: Connection, facts: Sequence[Fact]) -> None:
    rows = [(fact.account_id, fact.license_id, fact.version) for fact in facts]
    await connection.copy_records_to_table("witness_effect", records=rows)


async def main(config: Config) -> None:
    pool = await open_pool(config.dsn, application=NAME, size=2 * len(config.urls), statement_timeout_s=10)
    writer = history.Writer(Path(config.folder), NAME)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with asyncio.TaskGroup() as group:
        for url in config.urls:
            receive = Witness(Inbox(pool, NAME, _effect), writer)
            group.create_task(Consumer(url, SUBSCRIBER, receive, away=(*AWAY, UnavailableError)).run(stop))
    await pool.close()


if __name__ == "__main__":
    asyncio.run(main(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Config)))

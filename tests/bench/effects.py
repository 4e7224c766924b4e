"""A consumer with an effect in Postgres for each fact: a row that says which fact it was and how old it was.

Nothing but the inbox keeps an effect from happening twice: the table has no key. With `--disturb` what is delivered
is shuffled, and some of it handed over again, before it reaches the inbox.
"""

import asyncio
import random
import signal
import sys
import time
from collections.abc import Sequence

from shared.facts.consumer import Consumer
from shared.facts.topology import Subscriber
from shared.ledger.connections import Connection, open_pool
from shared.ledger.inbox import Inbox
from shared.licensing.facts import Fact

SUBSCRIBER = Subscriber(queue="seatkeeper.effects", keys=("fact.#",))
TABLE = "CREATE TABLE effect (account_id uuid, license_id uuid, version bigint, age_s float8)"
GRANT = "GRANT SELECT, INSERT ON effect TO seatkeeper_heartbeat"


class Effects:
    """Receives facts; remembers the last thousand, to hand some of them over again."""

    def __init__(self, inbox: Inbox, ages: dict[tuple[object, int], float], *, disturb: bool) -> None:
        self._inbox = inbox
        self._ages = ages
        self._disturb = disturb
        self._recent: list[Fact] = []
        self._random = random.Random(7)

    async def __call__(self, facts: Sequence[Fact]) -> None:
        now = time.time()
        for fact in facts:
            self._ages.setdefault((fact.license_id, fact.version), now - fact.at.timestamp())
        given = list(facts)
        if self._disturb:
            given += self._random.sample(self._recent, min(len(self._recent), len(facts) // 2 + 1))
            self._random.shuffle(given)
            self._recent = [*self._recent, *facts][-1000:]
        await self._inbox(given)
        self._ages.clear()


async def main(url: str, dsn: str, *, disturb: bool) -> None:
    pool = await open_pool(dsn, application="effects", size=2, statement_timeout_s=30)
    ages: dict[tuple[object, int], float] = {}

    async def effect(connection: Connection, facts: Sequence[Fact]) -> None:
        rows = [(fact.account_id, fact.license_id, fact.version, ages[fact.license_id, fact.version]) for fact in facts]
        await connection.copy_records_to_table("effect", records=rows)

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await Consumer(url, SUBSCRIBER, Effects(Inbox(pool, "bench", effect), ages, disturb=disturb)).run(stop)
    await pool.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], disturb="--disturb" in sys.argv))

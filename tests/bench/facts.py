"""`make bench-facts`: a minute of activations, again with each trouble; every fact is delivered, each effect once.

Services as processes over Postgres, Valkey and RabbitMQ. A consumer writes a row for each fact through the inbox; at
the end its rows are compared with the trail. Ends with 1 when a fact is missing, an effect happened twice, a message
was given up, or the outbox did not drain.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
from rich.console import Console
from rich.table import Table

from services.standalone.servers import DATABASE
from services.standalone.stack import Stack, running_stack
from shared.facts import topology
from shared.facts.dead_letters import letters
from shared.runtime.resources import open_resources
from shared.runtime.sections import Log
from tests.bench import effects
from tests.bench.licenses import make_licenses

LICENSES = 200
DRAIN_S = 120.0
TARGET_P99_MS = 250.0

_COUNTS = """
SELECT (SELECT count(*) FROM outbox WHERE sent_at IS NULL) AS unsent,
       (SELECT count(*) FROM audit) AS facts,
       (SELECT count(*) FROM effect) AS effects,
       (SELECT count(*) FROM (SELECT DISTINCT account_id, license_id, version FROM effect) AS d) AS different,
       (SELECT percentile_disc(0.99) WITHIN GROUP (ORDER BY age_s) FROM effect WHERE version > 1) AS p99_s,
       (SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY age_s) FROM effect WHERE version > 1) AS median_s
"""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    trouble: str
    sent: int
    acknowledged: int
    tried_again: int
    facts: int
    missing: int
    twice: int
    dead_letters: int
    unsent: int
    median_ms: float
    p99_ms: float
    drained_after_s: float

    @property
    def sound(self) -> bool:
        broken = self.missing or self.twice or self.dead_letters or self.unsent or self.acknowledged != self.sent
        return not broken


class Bench:
    """One stack under load; each scenario has a stack of its own."""

    def __init__(self, stack: Stack, folder: Path, *, rate: int, seconds: int, disturb: bool) -> None:
        self.stack = stack
        self._rate, self._seconds, self._disturb = rate, seconds, disturb
        self._keys = folder / "keys.txt"
        self._keys.write_text("\n".join(asyncio.run(_prepare(stack))))
        self._consumer = self._start_consumer()

    def run(self, name: str, trouble: Callable[["Bench"], None]) -> Outcome:
        arguments = [self.stack.addresses["activation"][0], str(self._keys), str(self._rate), str(self._seconds)]
        load = subprocess.Popen([sys.executable, "-m", "tests.bench.steady", *arguments], stdout=subprocess.PIPE)
        time.sleep(self._seconds / 2)
        trouble(self)
        answers: dict[str, Any] = json.loads(load.communicate()[0])
        begun = time.monotonic()
        counts = asyncio.run(self._settled())
        drained = time.monotonic() - begun
        dead = asyncio.run(letters(self.stack.rabbitmq.url, effects.SUBSCRIBER))
        dead += asyncio.run(letters(self.stack.rabbitmq.url, topology.PROJECTOR))
        self._consumer.terminate()
        self._consumer.wait(30)
        return Outcome(
            trouble=name,
            sent=answers["sent"],
            acknowledged=answers.get("acknowledged", 0),
            tried_again=sum(count for answer, count in answers.items() if answer.startswith("status")),
            facts=counts["facts"],
            missing=counts["facts"] - counts["different"],
            twice=counts["effects"] - counts["different"],
            dead_letters=len(dead),
            unsent=counts["unsent"],
            median_ms=1000 * counts["median_s"],
            p99_ms=1000 * counts["p99_s"],
            drained_after_s=drained,
        )

    def restart_broker(self) -> None:
        self.stack.rabbitmq.restart()

    def kill_consumers(self) -> None:
        """Every process that consumes, -9, and started again."""
        self._consumer.kill()
        self._consumer.wait()
        for replica in [*self.stack.replicas["heartbeat"], *self.stack.replicas["reaper"]]:
            replica.kill()
            replica.start()
        self._consumer = self._start_consumer()

    async def _settled(self) -> dict[str, Any]:
        """The counts once nothing moves any more, or when it has taken too long."""
        connection = await asyncpg.connect(self.stack.servers.owner_dsn)
        deadline = time.monotonic() + DRAIN_S
        try:
            while True:
                counts = dict(await connection.fetchrow(_COUNTS))
                done = not counts["unsent"] and counts["different"] >= counts["facts"]
                if done or time.monotonic() > deadline:
                    return counts
                await asyncio.sleep(0.25)
        finally:
            await connection.close()

    def _start_consumer(self) -> "subprocess.Popen[bytes]":
        dsn = self.stack.servers.postgres.dsn(DATABASE, "seatkeeper_heartbeat")
        arguments = ["-m", "tests.bench.effects", self.stack.rabbitmq.url, dsn]
        return subprocess.Popen([sys.executable, *arguments, *(["--disturb"] if self._disturb else [])])


async def _prepare(stack: Stack) -> list[str]:
    """The table of effects, the consumer's queue, and licenses; returns their keys."""
    connection = await asyncpg.connect(stack.servers.owner_dsn)
    await connection.execute(f"{effects.TABLE}; {effects.GRANT}")
    await connection.close()
    await topology.declare(stack.rabbitmq.url, [effects.SUBSCRIBER])
    async with open_resources(stack.servers.settings(port=0, log=Log(level="error")), application="bench") as resources:
        return [grant.key for grant in await make_licenses(resources, LICENSES)]


def _nothing(_bench: Bench) -> None:
    pass


SCENARIOS: dict[str, tuple[Callable[[Bench], None], bool]] = {
    "none": (_nothing, False),
    "broker restarted": (Bench.restart_broker, False),
    "consumers killed": (Bench.kill_consumers, False),
    "duplicated, shuffled": (_nothing, True),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.bench.facts", description=__doc__)
    parser.add_argument("--rate", type=int, default=1000, help="activations a second")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--only", choices=SCENARIOS, action="append")
    options = parser.parse_args()
    outcomes = []
    for name in options.only or SCENARIOS:
        print(f"{name}: {options.rate}/s for {options.seconds} s …", file=sys.stderr)
        trouble, disturb = SCENARIOS[name]
        with tempfile.TemporaryDirectory(prefix="seatkeeper-bench-") as folder, running_stack(Path(folder), 1) as stack:
            bench = Bench(stack, Path(folder), rate=options.rate, seconds=options.seconds, disturb=disturb)
            outcomes.append(bench.run(name, trouble))
    _show(outcomes)
    return 0 if all(outcome.sound for outcome in outcomes) else 1


def _show(outcomes: list[Outcome]) -> None:
    columns = ("trouble", "sent", "acknowledged", "tried again", "facts", "missing", "twice", "dead", "unsent")
    table = Table(*columns, "median ms", "p99 ms", "drained s")
    for one in outcomes:
        counts = (one.sent, one.acknowledged, one.tried_again, one.facts, one.missing, one.twice, one.dead_letters)
        times = (f"{one.median_ms:.0f}", f"{one.p99_ms:.0f}", f"{one.drained_after_s:.1f}")
        table.add_row(one.trouble, *(f"{count:,}" for count in counts), f"{one.unsent:,}", *times)
    Console(width=130).print(table)
    print(
        f"ages are from the ledger's decision, before COMMIT, to the consumer; {os.cpu_count()} cores share all of it"
    )


if __name__ == "__main__":
    sys.exit(main())

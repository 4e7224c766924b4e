"""How long a fact takes from the ledger to a consumer while activations come as fast as they are answered.

All of production's parts take part: every service, RabbitMQ, the projector and the reaper's consumer. A consumer of its
own with a queue for every fact compares the fact's time, the ledger's decision just before COMMIT, with its own clock,
which is the same. One run, of which each round is a part: a backlog that grows shows as a median that grows, since each
fact waits behind it; the greatest lags show single pauses.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import asyncpg
import uvloop

from services.standalone.stack import Stack, running_stack
from shared.facts import topology
from shared.facts.consumer import Consumer
from shared.facts.topology import Subscriber
from shared.licensing.facts import Fact
from shared.runtime.background import background
from shared.runtime.resources import open_resources
from shared.runtime.sections import Log
from tests.bench.licenses import Grant, activations, make_licenses, write
from tests.bench.load import LoadError, Run, load
from tests.bench.open_loop import percentile
from tests.bench.options import Options
from tests.bench.results import Result, Target, compared, measured

LICENSES = 1000
CONNECTIONS = 64
WARM_S = 3
DRAIN_S = 30.0
SUBSCRIBER = Subscriber(queue="seatkeeper.lag", keys=("fact.#",))

P99 = Target(gate=250, aim=100, most=True)
GROWTH = Target(gate=1.5, aim=1.1, most=True)
DRAINED = Target(gate=2, aim=1, most=True)

_UNSENT = "SELECT count(*) FROM outbox WHERE sent_at IS NULL"
_FACTS = "SELECT count(*) FROM audit WHERE event = 'device.activated'"


def measure(options: Options, tell: Callable[[str], None]) -> list[Result]:
    tell("starting every service")
    with tempfile.TemporaryDirectory(prefix="seatkeeper-bench-") as folder, running_stack(Path(folder), 1) as stack:
        bodies = write(Path(folder) / "activate.jsonl", activations(asyncio.run(_grants(stack))))
        tell("activations at full speed")
        return uvloop.run(_measure(stack, bodies, rounds=options.rounds, seconds=options.rounds * options.seconds))


async def _grants(stack: Stack) -> list[Grant]:
    settings = stack.servers.settings(port=0, log=Log(level="error"))
    async with open_resources(settings, application="bench") as resources:
        return await make_licenses(resources, LICENSES)


async def _measure(stack: Stack, bodies: Path, *, rounds: int, seconds: float) -> list[Result]:
    heard: list[tuple[float, float]] = []

    async def hear(facts: Sequence[Fact]) -> None:
        now = time.time()
        heard.extend((fact.at.timestamp(), now - fact.at.timestamp()) for fact in facts if fact.device is not None)

    await topology.declare(stack.rabbitmq.url, [SUBSCRIBER])
    async with background(Consumer(stack.rabbitmq.url, SUBSCRIBER, hear).run):
        await _load(stack, bodies, WARM_S)
        began = time.time()
        run = await _load(stack, bodies, seconds)
        drained_s = await _drained_after_s(stack, heard)
    lags = [(at - began, 1000 * lag) for at, lag in heard if began < at <= began + seconds]
    part, third = seconds / rounds, seconds / 3
    return [
        measured(
            "facts: commit to consumer, p99",
            [_percentile(lags, number * part, part, 0.99) for number in range(rounds)],
            unit="ms",
            target=P99,
        ),
        measured(
            "facts: commit to consumer, p50",
            [_percentile(lags, number * part, part, 0.5) for number in range(rounds)],
            unit="ms",
        ),
        *(
            compared(
                f"facts: {name} of the last third",
                [(_percentile(lags, 2 * third, third, part_of), _percentile(lags, 0, third, part_of))],
                unit="ms",
                against="the first third",
                target=target,
            )
            for name, part_of, target in (("p50", 0.5, GROWTH), ("p99", 0.99, None))
        ),
        measured("facts: all delivered after the load", [drained_s], unit="s", target=DRAINED),
        measured("facts: activations meanwhile", [run.rate], unit="activations/s"),
    ]


async def _load(stack: Stack, bodies: Path, seconds: float) -> Run:
    url = stack.addresses["activation"][0] + "/v1/activate"
    return await asyncio.to_thread(load, url, bodies, connections=CONNECTIONS, seconds=seconds)


async def _drained_after_s(stack: Stack, heard: Sequence[object]) -> float:
    """How long it takes until every fact in the trail was heard and nothing waits in the outbox. Raises `LoadError`."""
    began = time.monotonic()
    connection = await asyncpg.connect(stack.servers.owner_dsn)
    try:
        while (left := await connection.fetchval(_UNSENT)) or len(heard) < await connection.fetchval(_FACTS):
            if time.monotonic() - began > DRAIN_S:
                raise LoadError(f"{left} facts wait in the outbox {DRAIN_S:.0f} s after the load")
            await asyncio.sleep(0.05)
    finally:
        await connection.close()
    return time.monotonic() - began


def _percentile(lags: Sequence[tuple[float, float]], first_s: float, length_s: float, part: float) -> float:
    """That of the facts which became within so long from there."""
    some = sorted(lag for at, lag in lags if first_s < at <= first_s + length_s)
    if not some:
        raise LoadError("a part of the run brought no facts")
    return percentile(some, part)

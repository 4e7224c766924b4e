"""Activations: granted beside pgbench, refused beside a bare handler, one hot license among cold ones, two processes.

Durable (fsync), audited, signed, and relayed to RabbitMQ as in production. What is left to relay is awaited before each
run. A process has as many connections as pgbench has clients beside it. Each round has a hot license of its own, whose
seats last for the round.
"""

import asyncio
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from shared.facts import topology
from shared.facts.connection import open_channel
from shared.licensing.codes import Code
from shared.runtime.resources import open_resources
from tests.bench import licenses
from tests.bench.licenses import Grant
from tests.bench.options import Options
from tests.bench.pgbench import Yardstick
from tests.bench.results import Result, Target, compared, measured
from tests.bench.sample import Sample, Site, Tell, cost_pairs, costs, interleaved, pairs, peak
from tests.bench.world import World, running_world

LICENSES = 1000
HOT_SEATS = 100_000
PROCESSES = 4
CLIENTS = 128
FEWER_CLIENTS = 64
"""Of each of four processes, which share the cores that one had; and of one beside pgbench with as many."""
COUNTED_S = 1.0
PART_OF_SECONDS = 0.5
"""There are many kinds of runs here, so each has this part of the time."""

OF_PGBENCH = Target(gate=2, aim=3)
OF_BARE = Target(gate=0.5, aim=0.6)
OF_COLD = Target(gate=0.8, aim=0.9)
OF_ONE_PROCESS = Target(gate=1.1, aim=1.0, most=True)

_UNTHROTTLED = {"SEATKEEPER_LIMITS_LICENSE_REQUESTS_PER_S": "100000"}


_FULL = (Code.DEVICE_LIMIT_EXCEEDED, 1)
_COUNTED = "seatkeeper.bench"


class _Bodies(NamedTuple):
    grant: Grant
    new: Path
    refused: Path
    hot: list[Path]


def measure(options: Options, tell: Tell) -> list[Result]:
    with (
        tempfile.TemporaryDirectory(prefix="seatkeeper-bench-") as folder,
        running_world(Path(folder), facts=True) as world,
    ):
        tell("licenses are made")
        bodies = asyncio.run(_bodies(world, Path(folder), hot=options.rounds + 1))
        yardstick = Yardstick(world, Path(folder), bodies.grant, licenses=LICENSES)
        processes = [world.start("activation", **_UNTHROTTLED) for _ in range(PROCESSES)]
        bare, hot = world.start_bare(), iter(bodies.hot)
        path = "/v1/activate"
        new = Site(world, processes[:1], path, lambda: bodies.new, connections=CLIENTS)
        refused = Site(world, processes[:1], path, lambda: bodies.refused, refused=True, each_holds=_FULL)
        kinds: dict[str, Callable[[float], Sample]] = {
            "activate": new.take,
            "pgbench": partial(yardstick.take, clients=CLIENTS),
            "activate, fewer": Site(world, processes[:1], path, lambda: bodies.new, connections=FEWER_CLIENTS).take,
            "pgbench, fewer": partial(yardstick.take, clients=FEWER_CLIENTS),
            "two processes": Site(world, processes[:2], path, lambda: bodies.new, connections=CLIENTS).take,
            "refused": refused.take,
            "bare": Site(world, [bare], path, lambda: bodies.refused).take,
            "hot": Site(world, processes, path, lambda: next(hot), connections=FEWER_CLIENTS).take,
            "cold": Site(world, processes, path, lambda: bodies.new, connections=FEWER_CLIENTS).take,
        }
        seconds = PART_OF_SECONDS * options.seconds
        found = interleaved(kinds, options, seconds, tell)
        results = _compared(found)
        tell("latencies: activate")
        results += new.latencies("activate", peak(found["activate"]), options)
        results += costs("activate", found["activate"])
        results += new.round_trips("activate", COUNTED_S)
        results += costs("activate refused", found["refused"])
        results += refused.round_trips("activate refused", COUNTED_S)
        results += costs("pgbench", found["pgbench"])
        results.append(_messages(world, new))
        return results


def _compared(found: Mapping[str, Sequence[Sample]]) -> list[Result]:
    return [
        compared(
            "/v1/activate of new devices",
            pairs(found["activate"], found["pgbench"]),
            unit="requests/s",
            against="pgbench, a transaction each",
            target=OF_PGBENCH,
        ),
        compared(
            f"/v1/activate of new devices, {FEWER_CLIENTS} clients",
            pairs(found["activate, fewer"], found["pgbench, fewer"]),
            unit="requests/s",
            against=f"pgbench, {FEWER_CLIENTS} clients",
        ),
        compared(
            "/v1/activate refused, license full",
            pairs(found["refused"], found["bare"]),
            unit="requests/s",
            against="bare handler",
            target=OF_BARE,
        ),
        compared(
            "/v1/activate, half of it for one license, four processes",
            pairs(found["hot"], found["cold"]),
            unit="requests/s",
            against="1,000 licenses",
            target=OF_COLD,
        ),
        compared(
            "CPU an activation, two processes",
            cost_pairs(found["two processes"], found["activate"]),
            unit="µs",
            against="one process",
            target=OF_ONE_PROCESS,
        ),
    ]


def _messages(world: World, new: Site) -> Result:
    """How many messages the relay publishes for a fact, counted in a queue that is there for that alone."""
    assert world.broker is not None
    asyncio.run(_declare(world.broker.url))
    facts = new.run(COUNTED_S).requests
    world.await_facts_sent()
    return measured("activate: messages to RabbitMQ", [asyncio.run(_count(world.broker.url)) / facts], unit="a request")


async def _declare(url: str) -> None:
    async with open_channel(url, name="bench") as channel:
        queue = await channel.declare_queue(_COUNTED, durable=True)
        await queue.bind(topology.EXCHANGE, topology.KEY_PREFIX + "#")


async def _count(url: str) -> int:
    async with open_channel(url, name="bench") as channel:
        queue = await channel.declare_queue(_COUNTED, passive=True)
        await queue.delete(if_empty=False)
        return queue.declaration_result.message_count or 0


async def _bodies(world: World, folder: Path, *, hot: int) -> _Bodies:
    async with open_resources(world.settings("seatkeeper_standalone"), application="bench") as resources:
        cold = await licenses.make_licenses(resources, LICENSES)
        full = await licenses.make_licenses(resources, LICENSES, seats=1)
        await licenses.activate_each(resources, full)
        crowded = await licenses.make_licenses(resources, hot, seats=HOT_SEATS)
    return _Bodies(
        grant=cold[0],
        new=licenses.write(folder / "new.jsonl", licenses.activations(cold)),
        refused=licenses.write(folder / "refused.jsonl", licenses.activations(full)),
        hot=[
            licenses.write(folder / f"hot-{number}.jsonl", licenses.activations(_mixed(one, cold)))
            for number, one in enumerate(crowded)
        ],
    )


def _mixed(hot: Grant, cold: Sequence[Grant]) -> list[Grant]:
    """Every other one is the hot one."""
    return list(chain.from_iterable((hot, one) for one in cold))

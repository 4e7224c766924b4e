"""What a million devices cost beside ten thousand, how much room they take in Redis, and how fast they are reaped.

- Cost is the processor time of the services, Postgres and Redis together, beyond what they take at rest; the load's own
  is left out. Both sizes run side by side, and rounds alternate between them.
- Both are as warm as a service is that runs for long: Redis holds every license, the process has met each once, and
  Postgres has the tables and indexes in memory (see `data.py` for its pages).
- With `--full` there are ten million, and both sizes are measured with an emptied Redis too.
"""

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.bench.data import SIZES
from tests.bench.options import Options
from tests.bench.results import Result, Target, measured
from tests.bench.scale_paths import measure_cold, measure_first, measure_warm, sites
from tests.bench.scale_reaper import measure_reaper
from tests.bench.scale_world import World, fill_redis, running_world

FULL = 10_000_000
BYTES = Target(gate=56, aim=48, most=True)
COLD_ROUNDS = 3


def measure(options: Options, tell: Callable[[str], None]) -> list[Result]:
    small, large = SIZES if not options.full else (SIZES[0], FULL)
    tell(f"making {large:,} devices, unless they are kept, and copying them")
    with tempfile.TemporaryDirectory(prefix="seatkeeper-bench-") as folder, ExitStack() as stack:
        worlds = [stack.enter_context(running_world(size, Path(folder, str(size)))) for size in (large, small)]
        return _measure(worlds, options, tell)


def _measure(worlds: Sequence[World], options: Options, tell: Callable[[str], None]) -> list[Result]:
    """The larger world comes first."""
    tell("filling Redis")
    results = _fill(worlds)
    both = sites(worlds)
    results += measure_warm(both, rounds=options.rounds, tell=tell)
    results += measure_reaper(both[0].world, both[0].load, rounds=options.rounds, tell=tell)
    if options.full:
        results += measure_cold(both, rounds=COLD_ROUNDS, tell=tell)
        tell("first heartbeats")
        results += measure_first(both[0])
    return results


def _fill(worlds: Sequence[World]) -> list[Result]:
    """What the devices take in Redis; the target is that of the larger world, where nothing else counts."""
    results = []
    for world, target in zip(worlds, (BYTES, None), strict=True):
        before = world.redis_memory()
        asyncio.run(fill_redis(world))
        figure = (world.redis_memory() - before) / world.data.devices
        name = f"Redis: memory of a device, of {world.data.devices:,}"
        results.append(measured(name, [figure], unit="bytes", against="24 bytes of information", target=target))
    return results

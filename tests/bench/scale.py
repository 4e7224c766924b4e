"""`make bench-scale`: what a million devices cost beside ten thousand, in one run on this machine.

- Cost is the processor time of the services, Postgres and Redis together, beyond what they take at rest. The load's own
  is left out; requests a second share the machine with it. Rounds are interleaved; what is shown is their median, with
  least and greatest.
- Warm: Redis holds every license, and the process has met each once. Cold: Redis was just emptied.
- A target that is missed is printed as missed; only errors end with 1.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from services.standalone.embedded import EmbeddedServerError
from tests.bench.data import SIZES
from tests.bench.load import LoadError
from tests.bench.scale_paths import measure_cold, measure_first, measure_warm, sites, tell
from tests.bench.scale_reaper import measure_reaper
from tests.bench.scale_result import FILE, Result, of_pairs, show, write
from tests.bench.scale_world import World, fill_redis, running_world

BYTES_PER_DEVICE = 56


def main() -> int:
    options = _options()
    began = time.monotonic()
    small, large = options.sizes
    try:
        with tempfile.TemporaryDirectory(prefix="seatkeeper-bench-") as folder, ExitStack() as stack:
            worlds = [stack.enter_context(running_world(size, Path(folder, str(size)))) for size in (large, small)]
            results = _measure(worlds, options.rounds)
            machine = worlds[0].versions()
    except (LoadError, EmbeddedServerError, TimeoutError) as error:
        print(f"seatkeeper: {error}", file=sys.stderr)
        return 1
    show(results, small=small, large=large)
    write(
        results, machine | {"devices": {"value": large, "against": small}, "seconds": round(time.monotonic() - began)}
    )
    print(f"{machine}; {os.cpu_count()} cores shared with the load; {time.monotonic() - began:.0f} s; kept in {FILE}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.bench.scale", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs=2, default=SIZES, metavar="DEVICES")
    return parser.parse_args()


def _measure(worlds: Sequence[World], rounds: int) -> list[Result]:
    """The larger world comes first."""
    tell("filling Redis")
    results = [_fill(worlds)]
    both = sites(worlds)
    results += measure_warm(both, rounds=rounds)
    results += measure_reaper(both[0].world, both[0].load)
    results += measure_cold(both, rounds=min(rounds, 3))
    return results + measure_first(both[0])


def _fill(worlds: Sequence[World]) -> Result:
    figures = []
    for world in worlds:
        before = world.redis_memory()
        asyncio.run(fill_redis(world))
        figures.append((world.redis_memory() - before) / world.data.devices)
    return of_pairs("Redis", "bytes a device", [(figures[0], figures[1])], most=BYTES_PER_DEVICE)


if __name__ == "__main__":
    sys.exit(main())

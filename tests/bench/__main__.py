"""`make bench`: requests a second of the three hot paths beside a bare handler, in one run, as a table of ratios.

Every path is measured in turn with its yardstick, in interleaved rounds; medians with their least and greatest.
Postgres with fsync, Redis, services as processes of their own, all on this machine together with the load.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from statistics import median

import msgspec
from rich.console import Console
from rich.table import Table

from services.standalone.embedded import EmbeddedServerError
from tests import servers
from tests.bench.load import LoadError, Run, load
from tests.bench.world import World, running_world

CONNECTIONS = 64
PATHS = ("/v1/heartbeat", "/v1/validate", "/v1/activate")
BUILD = Path("build")


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One row: rates in requests a second; `ratio` is the median of the rounds' own ratios."""

    path: str
    rate: float
    rate_min: float
    rate_max: float
    p99_ms: float
    bare_rate: float
    ratio: float
    ratio_min: float
    ratio_max: float


def main() -> int:
    options = _options()
    try:
        servers.require("wrk", package="wrk")
        with tempfile.TemporaryDirectory(prefix="seatkeeper-bench-") as folder, running_world(Path(folder)) as world:
            results = [_result(path, pairs) for path, pairs in _measure(world, options).items()]
    except (LoadError, EmbeddedServerError, servers.ServersMissingError) as error:
        print(f"seatkeeper: {error}", file=sys.stderr)
        return 1
    _show(results)
    _write(results)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--only", choices=PATHS, action="append")
    return parser.parse_args()


def _measure(world: World, options: argparse.Namespace) -> dict[str, list[tuple[Run, Run]]]:
    pairs: dict[str, list[tuple[Run, Run]]] = {path: [] for path in options.only or PATHS}
    for path in pairs:
        load(world.ours[path] + path, world.bodies[path], connections=CONNECTIONS, seconds=2)
    for number in range(options.rounds):
        for path, runs in pairs.items():
            print(f"round {number + 1} of {options.rounds}: {path}   ", end="\r", file=sys.stderr)
            ours, bare = (
                load(place[path] + path, world.bodies[path], connections=CONNECTIONS, seconds=options.seconds)
                for place in (world.ours, world.bare)
            )
            runs.append((ours, bare))
    return pairs


def _result(path: str, pairs: list[tuple[Run, Run]]) -> Result:
    rates = [ours.rate for ours, _ in pairs]
    ratios = [ours.rate / bare.rate for ours, bare in pairs]
    return Result(
        path=path,
        rate=median(rates),
        rate_min=min(rates),
        rate_max=max(rates),
        p99_ms=median(ours.p99_ms for ours, _ in pairs),
        bare_rate=median(bare.rate for _, bare in pairs),
        ratio=median(ratios),
        ratio_min=min(ratios),
        ratio_max=max(ratios),
    )


def _show(results: list[Result]) -> None:
    table = Table("path", "requests/s", "min-max", "p99 ms", "bare/s", "ratio to bare", "min-max")
    for one in results:
        table.add_row(
            one.path,
            f"{one.rate:,.0f}",
            f"{one.rate_min:,.0f}-{one.rate_max:,.0f}",
            f"{one.p99_ms:.1f}",
            f"{one.bare_rate:,.0f}",
            f"{one.ratio:.2f}",
            f"{one.ratio_min:.2f}-{one.ratio_max:.2f}",
        )
    Console(width=100).print(table)
    print(
        f"{CONNECTIONS} connections, {os.cpu_count()} cores, {platform.python_implementation()} "
        f"{platform.python_version()}; servers and load share the machine"
    )


def _write(results: list[Result]) -> None:
    BUILD.mkdir(exist_ok=True)
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.system()}
    document = {"machine": machine, "results": msgspec.to_builtins(results)}
    (BUILD / "bench.json").write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())

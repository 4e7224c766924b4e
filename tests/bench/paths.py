"""The paths that Redis answers: heartbeat, validate and fleets, one process beside a bare handler; and two processes.

The bare handler decodes the same bodies and answers fixed bytes. With two processes each has as many connections as
the one had: twice the processes for twice the clients.
"""

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from shared.runtime.resources import open_resources
from tests.bench import licenses
from tests.bench.licenses import FLEET
from tests.bench.options import Options
from tests.bench.results import Result, Target, compared
from tests.bench.sample import Sample, Site, Tell, cost_pairs, costs, interleaved, pairs, peak
from tests.bench.world import World, running_world

LICENSES = 1000
FLEET_CONNECTIONS = 2
COUNTED_S = 2.0

OF_BARE = Target(gate=0.70, aim=0.80)
OF_HEARTBEATS = Target(gate=8, aim=12)
OF_ONE_PROCESS = Target(gate=1.1, aim=1.0, most=True)

_ALIVE = '"state":"active"'


def measure(options: Options, tell: Tell) -> list[Result]:
    with tempfile.TemporaryDirectory(prefix="seatkeeper-bench-") as folder, running_world(Path(folder)) as world:
        tell("licenses and devices are made")
        bodies = asyncio.run(_bodies(world, Path(folder)))
        one, other = world.start("heartbeat"), world.start("heartbeat")
        activation, bare = world.start("activation"), world.start_bare()
        heartbeat = Site(world, [one], "/v1/heartbeat", lambda: bodies["heartbeat"])
        validate = Site(world, [activation], "/v1/validate", lambda: bodies["validate"])
        both = Site(world, [one, other], "/v1/heartbeat", lambda: bodies["heartbeat"])
        fleets = Site(
            world,
            [one],
            "/v1/heartbeats",
            lambda: bodies["heartbeats"],
            connections=FLEET_CONNECTIONS,
            each_holds=(_ALIVE, FLEET),
        )
        kinds = {
            "heartbeat": heartbeat.take,
            "bare heartbeat": Site(world, [bare], "/v1/heartbeat", lambda: bodies["heartbeat"]).take,
            "heartbeats": fleets.take,
            "heartbeat, two processes": both.take,
            "validate": validate.take,
            "bare validate": Site(world, [bare], "/v1/validate", lambda: bodies["validate"]).take,
        }
        found = interleaved(kinds, options, options.seconds, tell)
        results = _compared(found)
        for name, site in (("heartbeat", heartbeat), ("validate", validate)):
            tell(f"latencies: {name}")
            results += site.latencies(name, peak(found[name]), options)
            results += costs(name, found[name])
            results += site.round_trips(name, COUNTED_S)
        return results + costs("bare handler", found["bare heartbeat"])


def _compared(found: Mapping[str, Sequence[Sample]]) -> list[Result]:
    single = found["heartbeat"]
    devices = [(FLEET * fleet.rate, alone.rate) for fleet, alone in zip(found["heartbeats"], single, strict=True)]
    return [
        compared(
            "/v1/heartbeat, one process",
            pairs(single, found["bare heartbeat"]),
            unit="requests/s",
            against="bare handler",
            target=OF_BARE,
        ),
        compared(
            "/v1/validate, one process",
            pairs(found["validate"], found["bare validate"]),
            unit="requests/s",
            against="bare handler",
            target=OF_BARE,
        ),
        compared(
            "/v1/heartbeats, fleets of 1,000",
            devices,
            unit="devices/s",
            against="/v1/heartbeat",
            target=OF_HEARTBEATS,
        ),
        compared(
            "CPU a heartbeat, two processes",
            cost_pairs(found["heartbeat, two processes"], single),
            unit="µs",
            against="one process",
            target=OF_ONE_PROCESS,
        ),
    ]


async def _bodies(world: World, folder: Path) -> dict[str, Path]:
    async with open_resources(world.settings("seatkeeper_standalone"), application="bench") as resources:
        grants = await licenses.make_licenses(resources, LICENSES)
        tokens = await licenses.activate_each(resources, grants)
    return {
        "heartbeat": licenses.write(folder / "heartbeat.jsonl", licenses.heartbeats(tokens)),
        "heartbeats": licenses.write(folder / "heartbeats.jsonl", licenses.fleets(tokens)),
        "validate": licenses.write(folder / "validate.jsonl", licenses.validations(grants)),
    }

"""Ten times what the ledger can do, for a minute: how much is still done, how fast, and how soon all is well again.

Capacity is capped on purpose, so that one machine can send ten times as much: each fact's row sleeps in Postgres before
it is written, which no batch makes shorter. A closed loop finds the peak; then come half of it, ten times it, and half
of it again, by an open loop of activations of new devices. Who is refused does not come back.
"""

import asyncio
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import uvloop

from tests.bench.crowd import Answer, Phase, crowd, p99_s
from tests.bench.exact import send_each
from tests.bench.licenses import activations, write
from tests.bench.load import LoadError
from tests.bench.options import Options
from tests.bench.results import Result, Target, compared, measured
from tests.bench.scale_load import Load
from tests.bench.scale_world import World, running_world

DEVICES = 10_000
ROW_S = 0.005
WARM_REQUESTS, PEAK_REQUESTS = 500, 2000
TIMES = 10
QUIET_S, AFTER_S = 8.0, 12.0
GROWN_S = 10.0
SAMPLE_S = 0.5
SLOWER = 1.5
NAME = f"overload at {TIMES} x"

GOODPUT = Target(gate=0.8, aim=0.95)
ADMITTED = Target(gate=1000, aim=1000, most=True)
GROWTH = Target(gate=1.1, aim=1.1, most=True)
NORMAL = Target(gate=10, aim=10, most=True)

_PAGE = os.sysconf("SC_PAGE_SIZE")
_CAP = f"""
CREATE FUNCTION take_time() RETURNS trigger LANGUAGE plpgsql AS
'BEGIN PERFORM pg_sleep({ROW_S}); RETURN new; END';
CREATE TRIGGER take_time BEFORE INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION take_time();
UPDATE license SET seats_limit = 1000000, seats_allowed = 1000000;
"""


def measure(options: Options, tell: Callable[[str], None]) -> list[Result]:
    """Once, whatever the rounds; a minute, or as many times fifteen seconds as a run has seconds."""
    with (
        tempfile.TemporaryDirectory(prefix="seatkeeper-bench-") as folder,
        running_world(DEVICES, Path(folder)) as world,
    ):
        asyncio.run(world.run(_CAP))
        load, url, seconds = Load(world.data), world.activation.url + "/v1/activate", 15 * options.seconds
        tell("the peak")
        send_each(url, load.activations(WARM_REQUESTS))
        peak = send_each(url, load.activations(PEAK_REQUESTS)).rate
        tell(f"{TIMES} times {peak:.0f} a second for {seconds:.0f} s")
        grants = load.grants(world.data.licenses)
        bodies = write(Path(folder, "activate.jsonl"), activations(grants)).read_bytes().splitlines()
        phases = [Phase(peak / 2, QUIET_S), Phase(TIMES * peak, seconds), Phase(peak / 2, AFTER_S)]
        answers, memory = uvloop.run(_send_and_watch(world, url, bodies, phases))
    return results(peak, seconds, *answers, memory=memory)


def results(
    peak: float,
    seconds: float,
    quiet: Sequence[Answer],
    crowded: Sequence[Answer],
    after: Sequence[Answer],
    *,
    memory: Sequence[tuple[float, float]],
) -> list[Result]:
    """What the phases show. `memory` is MiB at moments from the beginning of the first. Raises `LoadError`."""
    if not all(answer.granted for answer in quiet):
        raise LoadError(f"half of the peak, {peak / 2:.0f} a second, was not granted")
    admitted = [answer for answer in crowded if answer.granted]
    refused = [answer for answer in crowded if answer.status == 503]
    done = sum(answer.at_s <= seconds for answer in admitted)
    sizes = [mib for at_s, mib in memory if QUIET_S + min(GROWN_S, seconds / 2) <= at_s <= QUIET_S + seconds]
    return [
        compared(f"{NAME}: goodput", [(done / seconds, peak)], unit="activations/s", against="peak", target=GOODPUT),
        measured(f"{NAME}: p99 of the admitted", [1000 * p99_s(admitted)], unit="ms", target=ADMITTED),
        measured(f"{NAME}: refused at once (503)", [len(refused) / seconds], unit="requests/s"),
        measured(f"{NAME}: p99 of the refused", [1000 * p99_s(refused)], unit="ms"),
        measured(
            f"{NAME}: otherwise or never answered",
            [(len(crowded) - len(admitted) - len(refused)) / seconds],
            unit="requests/s",
        ),
        compared(f"{NAME}: memory", [(max(sizes), sizes[0])], unit="MiB", against="its beginning", target=GROWTH),
        measured(f"{NAME}: normal after", [normal_after_s(quiet, after)], unit="s", target=NORMAL),
    ]


def normal_after_s(quiet: Sequence[Answer], after: Sequence[Answer]) -> float:
    """From when on no second has a refusal, nor a p99 far over the worst of those before."""
    usual_s = max(p99_s(second) for second in _seconds(quiet).values())
    bad = [
        number
        for number, second in _seconds(after).items()
        if not all(answer.granted for answer in second) or p99_s(second) > SLOWER * usual_s
    ]
    return max(bad, default=-1.0) + 1.0


def _seconds(answers: Sequence[Answer]) -> dict[int, list[Answer]]:
    """The answers by the second in which the clients came."""
    seconds: dict[int, list[Answer]] = defaultdict(list)
    for answer in answers:
        seconds[int(answer.due_s)].append(answer)
    return seconds


async def _send_and_watch(
    world: World, url: str, bodies: Sequence[bytes], phases: Sequence[Phase]
) -> tuple[list[list[Answer]], list[tuple[float, float]]]:
    """The answers of each phase, and the service's memory in MiB twice a second."""
    memory: list[tuple[float, float]] = []
    began = time.monotonic()

    async def watch() -> None:
        while True:
            memory.append((time.monotonic() - began, _resident_mib(world.activation.pid)))
            await asyncio.sleep(SAMPLE_S)

    watching = asyncio.create_task(watch())
    try:
        return await crowd(url, bodies, phases), memory
    finally:
        watching.cancel()


def _resident_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / 2**20

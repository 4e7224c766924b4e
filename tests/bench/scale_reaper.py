"""How fast the reaper frees a great many devices at once beside activations, and how these fare meanwhile.

The reaper is the real process, one pass by `--once`; what a pass with nothing to free takes is taken off, and the time
that it takes to start counts for nobody. Activations come at a steady rate to another process, alone for a while, then
beside the pass. For each pass the older devices of one license in fifteen are past their end: no account has a fifth
of its devices to lose, which would halt the reaper.
"""

import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import uvloop
from msgspec.structs import replace

from services.standalone.embedded import free_port
from shared.ledger.rows import columns
from shared.licensing.model import device_id
from tests.bench.crowd import Phase, crowd, p99_s
from tests.bench.data import ACCOUNTS, DEVICES_EACH, FRESH_EACH, fingerprint
from tests.bench.licenses import activations, write
from tests.bench.load import LoadError
from tests.bench.results import Result, Target, compared, measured
from tests.bench.scale_load import Load
from tests.bench.scale_world import Cost, World
from tests.bench.world import environment

FREED_PER_S = Target(gate=20_000, aim=30_000)
SLOWER = Target(gate=2, aim=2, most=True)
ONE_IN = 15
LICENSES = 50_000
RATE = 200
SETTLING_S = 2.0
BEFORE_S = 6.0
LONGEST_S = 600

_END_LEASES = """
UPDATE device d
SET lease_expires_at = due.ended_at, announced_lease_end = due.ended_at,
    last_contact_at = ledger_clock() - interval '92 days'
FROM (
    SELECT n.*, ledger_clock() - interval '2 days' - random() * interval '1 hour' AS ended_at
    FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS n (account_id, license_id, id)
) AS due
WHERE d.account_id = due.account_id AND d.license_id = due.license_id AND d.id = due.id
"""


class Pass(msgspec.Struct, frozen=True, kw_only=True):
    """What one process did, in what time, and the processor time that this took; its own counts as the services'."""

    freed: int
    seconds: float
    cost: Cost


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """A pass, and the activations' p99 before it and beside it, in milliseconds."""

    done: Pass
    before_ms: float
    beside_ms: float


def measure_reaper(world: World, load: Load, *, rounds: int, tell: Callable[[str], None]) -> list[Result]:
    """A pass for each round, `ONE_IN` at most."""
    tell("reaper: nothing to free")
    idle = min((run_pass(world, 0) for _ in range(2)), key=lambda one: one.seconds)
    passes = []
    with tempfile.TemporaryDirectory(prefix="seatkeeper-bench-") as folder:
        grants = load.grants(min(LICENSES, world.data.licenses))
        bodies = write(Path(folder, "activate.jsonl"), activations(grants)).read_bytes().splitlines()
        for number in range(min(rounds, ONE_IN)):
            tell(f"reaper: devices for pass {number + 1}")
            due = end_leases(world, number)
            tell(f"reaper: pass {number + 1} of {rounds}, {due:,} devices")
            passes.append(uvloop.run(_beside_activations(world, bodies, due, idle.seconds)))
    costs = [one.done.cost.since(idle.cost).over(one.done.freed / 1e6) for one in passes]
    return [
        measured(
            f"reaper beside {RATE} activations a second: freed",
            [one.done.freed / (one.done.seconds - idle.seconds) for one in passes],
            unit="devices/s",
            target=FREED_PER_S,
        ),
        compared(
            "reaper: activations' p99 beside it",
            [(one.beside_ms, one.before_ms) for one in passes],
            unit="ms",
            against="without it",
            target=SLOWER,
        ),
        *(
            measured(f"reaper: CPU of {part}", [getattr(one, part) for one in costs], unit="µs a device")
            for part in Cost.__struct_fields__
        ),
    ]


async def _beside_activations(world: World, bodies: Sequence[bytes], due: int, start_s: float) -> Beside:
    """Raises `LoadError` when an activation is not granted."""
    url, ended, began = world.activation.url + "/v1/activate", asyncio.Event(), time.monotonic()
    clients = asyncio.create_task(crowd(url, bodies, [Phase(RATE, LONGEST_S)], ended=ended))
    await asyncio.sleep(SETTLING_S + BEFORE_S)
    starts_s = time.monotonic() - began
    try:
        done = await asyncio.to_thread(run_pass, world, due)
    finally:
        ended.set()
        [answers] = await clients
    if not all(answer.granted for answer in answers):
        raise LoadError("an activation was refused beside the reaper")
    before = [answer for answer in answers if SETTLING_S < answer.due_s <= starts_s]
    beside = [answer for answer in answers if answer.due_s > starts_s + start_s]
    return Beside(done=done, before_ms=1000 * p99_s(before), beside_ms=1000 * p99_s(beside))


def end_leases(world: World, number: int) -> int:
    """Make the leases of another part's older devices end long ago; returns how many."""
    licenses = [one for one in range(world.data.licenses) if one // ACCOUNTS % ONE_IN == number]
    refs = [world.data.ref(one) for one in licenses]
    older = range(FRESH_EACH, DEVICES_EACH)
    due = [(*ref, device_id(ref[1], fingerprint(ref[1], device))) for ref in refs for device in older]
    asyncio.run(world.execute(_END_LEASES, *columns(due, 3)))
    asyncio.run(world.run("VACUUM device"))
    return len(due)


def run_pass(world: World, due: int) -> Pass:
    """Run the reaper once. Raises `LoadError` unless it freed all that were due."""
    settings = world.settings("seatkeeper_reaper")
    variables = {**os.environ, **environment(settings, free_port(), free_port())}
    before, own_before, began = world.cost(), resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "services.reaper", "--once", "--json"],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=LONGEST_S,
    )
    seconds, own = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode or (freed := json.loads(done.stdout)["freed"]) != due:
        raise LoadError(f"the reaper did not free {due} devices: {done.stdout}{done.stderr}")
    servers = world.cost().since(before)
    cpu_s = own.ru_utime + own.ru_stime - own_before.ru_utime - own_before.ru_stime
    return Pass(freed=freed, seconds=seconds, cost=replace(servers, services=cpu_s))

"""How fast the reaper frees a great many devices at once, alone and beside activations, and how these fare meanwhile.

The reaper is the real process, one pass by `--once`; what a pass with nothing to free takes is taken off. Activations
come at a steady rate to another process. For each pass the older devices of one license in ten are long past their end:
no account has a fifth of its devices to lose, which would halt the reaper.
"""

import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec.structs import replace

from services.standalone.embedded import free_port
from shared.ledger.rows import columns
from shared.licensing.model import device_id
from tests.bench.data import ACCOUNTS, DEVICES_EACH, FRESH_EACH, fingerprint
from tests.bench.load import LoadError
from tests.bench.scale_load import Load
from tests.bench.scale_paths import tell
from tests.bench.scale_result import PART, Result, of_figures
from tests.bench.scale_world import Cost, World, discard, fill_redis
from tests.bench.world import environment

FREED_PER_S = 20_000
ONE_IN = 10
PASSES = 3
RATE = 200
BEFORE_S = 6
START_S = 1.0
LONGEST_S = 600

_END_LEASES = """
UPDATE device d
SET lease_expires_at = ledger_clock() - interval '2 days' - random() * interval '1 hour',
    last_contact_at = ledger_clock() - interval '92 days'
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS due (account_id, license_id, id)
WHERE d.account_id = due.account_id AND d.license_id = due.license_id AND d.id = due.id
"""


class Pass(msgspec.Struct, frozen=True, kw_only=True):
    """What one process did, in what time, and the processor time that this took; its own counts as the services'."""

    freed: int
    seconds: float
    cost: Cost


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """How a steady load of activations fared."""

    rate: float
    p99_ms: float


def measure_reaper(world: World, load: Load) -> list[Result]:
    """Some passes alone, and as many beside activations."""
    tell("reaper: nothing to free")
    idle = min((run_pass(world, 0) for _ in range(2)), key=lambda one: one.seconds)
    alone, beside, before, during = [], [], [], []
    with tempfile.TemporaryDirectory(prefix="seatkeeper-bench-") as folder:
        keys = Path(folder) / "keys.txt"
        keys.write_text("\n".join(load.keys(min(50_000, world.data.licenses))))
        for number in range(PASSES):
            tell(f"reaper: alone, pass {number + 1} of {PASSES}")
            alone.append(run_pass(world, end_leases(world, number)))
        for number in range(PASSES, 2 * PASSES):
            tell(f"reaper: beside activations, pass {number - PASSES + 1} of {PASSES}")
            due = end_leases(world, number)
            with _activations(world, keys) as quiet:
                time.sleep(BEFORE_S)
            with _activations(world, keys) as busy:
                beside.append(run_pass(world, due))
            before += quiet
            during += busy
    rates = [[one.freed / (one.seconds - idle.seconds) for one in passes] for passes in (alone, beside)]
    costs = [one.cost.since(idle.cost).over(one.freed / 1e6) for one in alone]
    return [
        of_figures("reaper alone: freed", "devices/s", rates[0], least=FREED_PER_S),
        of_figures("  cost of each", "µs of CPU", [one.total for one in costs]),
        *(
            of_figures(PART + part, "µs of CPU", [getattr(one, part) for one in costs])
            for part in Cost.__struct_fields__
        ),
        of_figures("reaper beside activations: freed", "devices/s", rates[1], least=FREED_PER_S),
        of_figures("  activations answered before", "requests/s", [one.rate for one in before]),
        of_figures("  activations answered meanwhile", "requests/s", [one.rate for one in during]),
        of_figures("  activations' p99 before", "ms", [one.p99_ms for one in before]),
        of_figures("  activations' p99 meanwhile", "ms", [one.p99_ms for one in during]),
    ]


def end_leases(world: World, number: int) -> int:
    """Make the leases of another tenth's older devices end long ago; returns how many."""
    licenses = [one for one in range(world.data.licenses) if one // ACCOUNTS % ONE_IN == number]
    refs = [world.data.ref(one) for one in licenses]
    older = range(FRESH_EACH, DEVICES_EACH)
    due = [(*ref, device_id(ref[1], fingerprint(ref[1], device))) for ref in refs for device in older]
    discard(world, licenses)
    for statement, arguments in ((_END_LEASES, columns(due, 3)), ("VACUUM ANALYZE device", ()), ("CHECKPOINT", ())):
        asyncio.run(world.execute(statement, *arguments))
    asyncio.run(fill_redis(world, licenses))
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


@contextmanager
def _activations(world: World, keys: Path) -> Iterator[list[Answered]]:
    """A steady load while the body runs; how it fared is in the list afterwards. Raises `LoadError`."""
    arguments = [world.activation.url, str(keys), str(RATE), str(LONGEST_S)]
    process = subprocess.Popen([sys.executable, "-m", "tests.bench.steady", *arguments], stdout=subprocess.PIPE)
    answered: list[Answered] = []
    time.sleep(START_S)
    began = time.monotonic()
    try:
        yield answered
    finally:
        seconds = time.monotonic() - began
        process.terminate()
        output = process.communicate(timeout=60)[0]
    counts = json.loads(output)
    if counts["acknowledged"] != counts["sent"]:
        raise LoadError(f"activations failed beside the reaper: {counts}")
    answered.append(Answered(rate=counts["acknowledged"] / seconds, p99_ms=counts["p99_ms"]))

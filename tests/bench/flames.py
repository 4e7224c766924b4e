"""`make flames`: a flame graph of each hot path under full load, as SVG files in a folder.

The services have no broker at first, so that a request's graph shows the request alone. The facts that all of them left
are then relayed, with a graph of its own.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from services.standalone.embedded import free_port
from shared.ledger import halts
from shared.runtime.resources import open_resources
from tests import servers
from tests.bench import licenses
from tests.bench.cost import cpu_s
from tests.bench.flame_graph import draw, read
from tests.bench.load import LoadError, load
from tests.bench.world import Service, World, environment, running_world

LICENSES = 1000
SAMPLES_PER_S = 400
_NO_BROKER = {"SEATKEEPER_RABBITMQ_URL": ""}
_END_LEASES = """
UPDATE device SET lease_expires_at = now() - interval '3 days', last_contact_at = now() - interval '93 days'
WHERE state = 'active'
"""
_DUE = "SELECT count(*) FROM device WHERE state = 'active' AND lease_expires_at < now()"
_UNSENT = "SELECT count(*) FROM outbox WHERE sent_at IS NULL"


class Recorder:
    """Looks at processes for `seconds` each, and writes the graphs to a folder."""

    def __init__(self, folder: Path, seconds: int) -> None:
        self._folder = folder
        self.seconds = seconds

    def record(
        self, name: str, service: Service, path: str, bodies: Path, *, connections: int = 64, per: int = 1
    ) -> None:
        """Post the bodies as fast as they are answered. `per` is how many devices one of them is for."""
        refused, before = name == "refused", cpu_s([service.pid])
        with ThreadPoolExecutor(1) as beside:
            folded = beside.submit(self.samples, ["--pid", str(service.pid), "--duration", str(self.seconds)])
            run = load(service.url + path, bodies, connections=connections, seconds=self.seconds + 1, refused=refused)
        each_us = (cpu_s([service.pid]) - before) / run.requests / per * 1e6
        unit = "request" if per == 1 else "device"
        self.write(
            name, f"{path}{' refused' if refused else ''}: {each_us:.3g} µs of this process a {unit}", folded.result()
        )

    def samples(self, arguments: list[str]) -> str:
        """Where a Python process was, as folded stacks of `function (file)`."""
        with tempfile.NamedTemporaryFile(suffix=".folded") as file:
            command = ["record", "--rate", str(SAMPLES_PER_S), "--format", "raw", "--nolineno", "--output", file.name]
            subprocess.run(
                [Path(sys.executable).with_name("py-spy"), *command, *arguments],
                capture_output=True,
                check=True,
            )
            return Path(file.name).read_text()

    def write(self, name: str, title: str, folded: str) -> None:
        print(title)
        (self._folder / f"{name}.svg").write_text(draw(read(folded), title))


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.bench.flames", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("build/flames"), help="where the SVG files go")
    parser.add_argument("--seconds", type=int, default=8, help="how long each process is looked at")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    servers.require("wrk", package="wrk")
    recorder = Recorder(options.folder, options.seconds)
    with (
        tempfile.TemporaryDirectory(prefix="seatkeeper-bench-") as folder,
        running_world(Path(folder), facts=True) as world,
    ):
        record_requests(recorder, world, Path(folder))
        record_reaper(recorder, world)
        record_relay(recorder, world)
    return 0


def record_requests(recorder: Recorder, world: World, folder: Path) -> None:
    bodies = asyncio.run(_bodies(world, folder))
    heartbeat, activation = world.start("heartbeat", **_NO_BROKER), world.start("activation", **_NO_BROKER)
    recorder.record("heartbeat", heartbeat, "/v1/heartbeat", bodies["heartbeat"])
    recorder.record("heartbeats", heartbeat, "/v1/heartbeats", bodies["heartbeats"], connections=8, per=licenses.FLEET)
    recorder.record("validate", activation, "/v1/validate", bodies["validate"])
    recorder.record("refused", activation, "/v1/activate", bodies["refused"])
    recorder.record("activate", activation, "/v1/activate", bodies["activate"])


def record_reaper(recorder: Recorder, world: World) -> None:
    """A pass that frees every device, after one that announced it and halted; an empty pass's cost is taken off."""
    world.execute(_END_LEASES)
    variables = environment(world.settings("seatkeeper_reaper"), free_port(), free_port())
    _taken_s(_reaper(variables))
    asyncio.run(_resume(world))
    due, reaper = world.execute(_DUE), _reaper(variables)
    stacks = recorder.samples(["--pid", str(reaper.pid)]).splitlines()
    taken_s = _taken_s(reaper)
    if left := world.execute(_DUE):
        raise LoadError(f"the reaper left {left} of {due} devices")
    each_us = (taken_s - _taken_s(_reaper(variables))) / due * 1e6
    work = [stack for stack in stacks if "importlib" not in stack]
    recorder.write("reaper", f"the reaper: {each_us:.3g} µs of this process a device", "\n".join(work))


def record_relay(recorder: Recorder, world: World) -> None:
    """A service that has nothing else to do carries the facts of all that was done before."""
    service = world.start("activation")
    unsent, before = world.execute(_UNSENT), cpu_s([service.pid])
    folded = recorder.samples(["--pid", str(service.pid), "--duration", str(recorder.seconds)])
    each_us = (cpu_s([service.pid]) - before) / (unsent - world.execute(_UNSENT)) * 1e6
    recorder.write("relay", f"the relay: {each_us:.3g} µs of this process a fact", folded)


def _reaper(variables: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "services.reaper", "--once", "--json"]
    return subprocess.Popen(
        command, env={**os.environ, **variables}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def _taken_s(process: "subprocess.Popen[bytes]") -> float:
    """The processor time that it has taken when it ends."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime


async def _bodies(world: World, folder: Path) -> dict[str, Path]:
    """What to post, by the name of the graph."""
    async with open_resources(world.settings("seatkeeper_standalone"), application="bench") as resources:
        grants = await licenses.make_licenses(resources, LICENSES)
        full = await licenses.make_licenses(resources, LICENSES, seats=1)
        tokens = await licenses.activate_each(resources, grants)
        await licenses.activate_each(resources, full)
    bodies = {
        "heartbeat": licenses.heartbeats(tokens),
        "heartbeats": licenses.fleets(tokens),
        "validate": licenses.validations(grants),
        "activate": licenses.activations(grants),
        "refused": licenses.activations(full),
    }
    return {name: licenses.write(folder / f"{name}.jsonl", some) for name, some in bodies.items()}


async def _resume(world: World) -> None:
    async with open_resources(world.settings("seatkeeper_operator"), application="bench") as resources:
        for account in (await halts.look(resources.pool)).halted_accounts:
            await halts.resume(resources.pool, account)


if __name__ == "__main__":
    sys.exit(main())

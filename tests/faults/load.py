"""The load: client processes, vendors and the witness, all told when to go on and when to rest.

A round lives on licenses of its own. At its end the load rests, its history is judged, and the next round begins on
fresh licenses, so that what has to be kept in memory is one round's.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import asyncpg
import msgspec

from services.standalone.embedded import die_with_parent
from tests.faults import client, witness
from tests.faults.calls_made import Gathered
from tests.faults.history import Reader, Writer
from tests.faults.observed import nanoseconds
from tests.faults.vendors import Grant, Vendors, open_vendors

ROOT = Path(__file__).resolve().parents[2]
PAUSE_S = 60.0
CLOCK_EVERY_S = 0.2
CLOCK_TIMEOUT_S = 2.0


class World(Protocol):
    """What the load needs to know of the servers and services that it lives on."""

    @property
    def folder(self) -> Path: ...
    @property
    def owner_dsn(self) -> str: ...
    @property
    def redis_url(self) -> str: ...
    @property
    def amqp_urls(self) -> list[str]: ...
    @property
    def addresses(self) -> dict[str, list[str]]: ...
    def dsn(self, role: str) -> str: ...
    def settings_for(self, role: str) -> Any: ...


class Client:
    """A client process, as its parent sees it. `acknowledged_at` is the last acknowledged activation's (ns)."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._paused = asyncio.Event()
        self._reading = asyncio.create_task(self._read())
        self.acknowledged_at = 0

    async def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())
        await self._process.stdin.drain()

    async def pause(self) -> None:
        self._paused.clear()
        await self.tell("pause")
        await asyncio.wait_for(self._paused.wait(), PAUSE_S)

    async def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await self._reading

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            word, _, number = line.decode().strip().partition(" ")
            if word == "paused":
                self._paused.set()
            elif word == "ack":
                self.acknowledged_at = int(number)


class Load:
    """`gathered` is what this round's history holds, as far as it was `read`; `running` tells whether clients work."""

    def __init__(self, folder: Path, vendors: Vendors, writer: Writer, clients: Sequence[Client]) -> None:
        self.folder = folder
        self._vendors = vendors
        self._writer = writer
        self._clients = clients
        self._reader = Reader(folder, "client", "vendors", "load")
        self._tending: asyncio.Task[None] | None = None
        self._rest = asyncio.Event()
        self.round = 0
        self.running = False
        self.grants: list[Grant] = []
        self.gathered = Gathered()

    async def renew(self) -> None:
        """Go on to fresh licenses. What was not judged of this round will not be."""
        was_running = self.running
        await self.pause()
        self.read()
        self.round += 1
        self.grants = await self._vendors.grant()
        self.gathered = Gathered()
        path = self.folder / f"round-{self.round}.json"
        path.write_bytes(msgspec.json.encode(self.grants))
        for one in self._clients:
            await one.tell(f"round {path}")
        if was_running:
            await self.resume()

    async def resume(self) -> None:
        if self.running:
            return
        self._writer.write("resume")
        self.running = True
        self._rest = asyncio.Event()
        self._tending = asyncio.create_task(self._vendors.tend(self.grants, self._rest))
        for one in self._clients:
            await one.tell("resume")

    async def pause(self) -> None:
        """Returns when no call is under way."""
        if not self.running:
            return
        self._writer.write("pause")
        self.running = False
        self._rest.set()
        await asyncio.gather(*(one.pause() for one in self._clients))
        if self._tending is not None:
            await self._tending

    def read(self) -> None:
        """Take in what the history has gained."""
        self.gathered.take(self._reader())

    def seconds_since_ack(self) -> float:
        return (time.monotonic_ns() - self._acknowledged_at) / 1e9

    async def acknowledged_again(self, within_s: float) -> bool:
        """Whether an activation is acknowledged from now on, in time."""
        since = time.monotonic_ns()
        deadline = time.monotonic() + within_s
        while self._acknowledged_at <= since:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.005)
        return True

    @property
    def _acknowledged_at(self) -> int:
        return max((one.acknowledged_at for one in self._clients), default=0)


@contextlib.asynccontextmanager
async def running_load(world: World, *, processes: int, workers: int, rate: float, seed: int) -> AsyncIterator[Load]:
    """At rest, on the licenses of the first round: `resume` lets it run.

    Each process has so many `workers` that live on long leases, `rate` lives a second of all processes together, and
    as many that live on short ones, at the leases' own pace.
    """
    folder = world.folder / "history"
    async with contextlib.AsyncExitStack() as stack:
        vendors_writer, writer = Writer(folder, "vendors"), Writer(folder, "load")
        stack.callback(writer.close)
        stack.callback(vendors_writer.close)
        stack.push_async_callback(_cancelled, asyncio.create_task(_note_clocks(world, writer)))
        vendors = await stack.enter_async_context(
            open_vendors(world.settings_for("seatkeeper_operator"), vendors_writer, seed)
        )
        if world.amqp_urls:
            await stack.enter_async_context(_witnessed(world, folder))
        clients = []
        for number in range(processes):
            config = client.Config(
                name=f"client-{number}",
                folder=str(folder),
                addresses=world.addresses,
                workers=2 * workers,
                brief=workers,
                rate=rate / processes,
                seed=seed * 1000 + number,
            )
            path = _written(folder / f"client-{number}.json", config)
            clients.append(Client(await _started("client", path, asyncio.subprocess.PIPE)))
            stack.push_async_callback(clients[-1].stop)
        load = Load(folder, vendors, writer, clients)
        stack.push_async_callback(load.pause)
        await load.renew()
        yield load


@contextlib.asynccontextmanager
async def _witnessed(world: World, folder: Path) -> AsyncIterator[None]:
    """The witness, started again whenever it ends."""
    await witness.prepare(world.owner_dsn, world.amqp_urls)
    config = witness.Config(folder=str(folder), dsn=world.dsn(witness.ROLE), urls=world.amqp_urls)
    path = _written(folder / "witness.json", config)

    async def keep() -> None:
        while True:
            process = await _started("witness", path, asyncio.subprocess.DEVNULL)
            try:
                await process.wait()
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            await asyncio.sleep(0.5)

    keeping = asyncio.create_task(keep())
    try:
        yield
    finally:
        await _cancelled(keeping)


async def _note_clocks(world: World, writer: Writer) -> None:
    """Ask for the ledger's time again and again, however often Postgres goes away."""
    while True:
        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
            connection = await asyncpg.connect(world.owner_dsn, timeout=CLOCK_TIMEOUT_S)
            try:
                while True:
                    writer.clock()
                    began_ns = time.monotonic_ns()
                    moment = await connection.fetchval("SELECT ledger_clock()", timeout=CLOCK_TIMEOUT_S)
                    writer.write("ledger-clock", began_ns=began_ns, wall_ns=nanoseconds(moment))
                    await asyncio.sleep(CLOCK_EVERY_S)
            finally:
                connection.terminate()
        await asyncio.sleep(CLOCK_EVERY_S)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _started(module: str, config: Path, pipe: int) -> asyncio.subprocess.Process:
    parent = os.getpid()
    with config.with_suffix(".err").open("ab") as errors:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            f"tests.faults.{module}",
            str(config),
            cwd=ROOT,
            stdin=pipe,
            stdout=pipe,
            stderr=errors,
            preexec_fn=lambda: die_with_parent(signal.SIGKILL, parent),
        )


def _written(path: Path, config: msgspec.Struct) -> Path:
    path.write_bytes(msgspec.json.encode(config))
    return path

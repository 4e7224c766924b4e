"""A client process: some coroutines that play devices' lives, and do what they are told over standard input.

    python -m tests.faults.client CONFIG.json

A line in: `round PATH` (live on the licenses in this file from now on), `pause`, `resume`, `stop`. A line out: `paused`
when no call is under way, `ack NANOSECONDS` some times a second while activations are acknowledged.
"""

import asyncio
import contextlib
import sys
import time
from pathlib import Path

import aiohttp
import msgspec

from tests.faults.calls import TIMEOUT_S, Calls
from tests.faults.history import Writer
from tests.faults.lives import Lives, read_grants
from tests.faults.vendors import Grant

TELL_EVERY_S = 0.02
CLOCK_EVERY_S = 5.0


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """`rate` is this process's lives a second; of the workers, `brief` live on long leases."""

    name: str
    folder: str
    addresses: dict[str, list[str]]
    workers: int
    brief: int
    rate: float
    seed: int


class Pace:
    """Gives so many starts a second, evenly; what was not taken in time is lost but for a tenth of a second's."""

    def __init__(self, rate: float) -> None:
        self._step_s = 1 / rate
        self._next_s = 0.0

    async def take(self) -> None:
        now_s = time.monotonic()
        self._next_s = max(self._next_s + self._step_s, now_s - 0.1)
        if self._next_s > now_s:
            await asyncio.sleep(self._next_s - now_s)


class Client:
    def __init__(self, config: Config, session: aiohttp.ClientSession) -> None:
        self._config = config
        self._writer = Writer(Path(config.folder), config.name)
        self._calls = Calls(session, config.addresses, self._writer, config.seed)
        self._pace = Pace(config.rate)
        self._grants: list[Grant] = []
        self._open = asyncio.Event()
        self._idle = asyncio.Semaphore(config.workers)

    async def run(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            group = await stack.enter_async_context(asyncio.TaskGroup())
            tasks = [group.create_task(self._work(number)) for number in range(self._config.workers)]
            tasks += [group.create_task(self._tell()), group.create_task(self._note_clock())]
            await self._obey()
            for task in tasks:
                task.cancel()

    async def _work(self, number: int) -> None:
        rounds, lives = 0, None
        known: list[Grant] = []
        while True:
            await self._open.wait()
            if lives is None or known is not self._grants:
                known, rounds = self._grants, rounds + 1
                lives = Lives(self._calls, known, hash((self._config.seed, number, rounds)))
            brief = number < self._config.brief
            if brief:
                await self._pace.take()
            async with self._idle:
                if self._open.is_set():
                    await lives.live(brief=brief)

    async def _obey(self) -> None:
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
        while (line := (await reader.readline()).decode().strip()) not in ("", "stop"):
            verb, _, argument = line.partition(" ")
            if verb == "round":
                self._grants = read_grants(await asyncio.to_thread(Path(argument).read_text))
            elif verb == "resume":
                self._calls.stopping.clear()
                self._open.set()
            elif verb == "pause":
                await self._pause()

    async def _pause(self) -> None:
        self._open.clear()
        self._calls.stopping.set()
        for _ in range(self._config.workers):
            await self._idle.acquire()
        for _ in range(self._config.workers):
            self._idle.release()
        print("paused", flush=True)

    async def _tell(self) -> None:
        told = 0
        while True:
            await asyncio.sleep(TELL_EVERY_S)
            if self._calls.acknowledged != told:
                told = self._calls.acknowledged
                print(f"ack {self._calls.acknowledged_at}", flush=True)

    async def _note_clock(self) -> None:
        while True:
            await asyncio.sleep(CLOCK_EVERY_S)
            self._writer.clock()


async def main(config: Config) -> None:
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S, sock_connect=1.0)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        await Client(config, session).run()


if __name__ == "__main__":
    asyncio.run(main(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Config)))

"""An open-loop load: requests are due at moments set beforehand by chance (Poisson, seeded), whoever was answered.

- A latency counts from the moment a request was due: what waits behind a slow answer, waits by the clock (no
  coordinated omission). It includes the generator's own lateness, which is told beside it.
- Not one answer may be lost. What is refused is counted by status, and has no latency.
- A process of its own: `python -m tests.bench.open_loop URL BODIES --rate R --seconds S` prints `Latencies` as JSON.
- BODIES is what `bodies.lua` takes, with @N@ once in a body at most.
"""

import argparse
import asyncio
import ctypes
import gc
import os
import random
import struct
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from math import ceil
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit
from uuid import uuid4

import msgspec
import uvloop

from tests.bench.load import LoadError

CONNECTIONS = 256
PATIENCE_S = 30.0
START_S = 0.2

_END = b"\r\n\r\n"
_LENGTH = b"Content-Length: "
_NUMBER_BYTES = 20


class Latencies(msgspec.Struct, frozen=True, kw_only=True):
    """What became of `sent` requests; the milliseconds are those of answers with a 2xx.

    `late_p99_ms` is how late the generator itself was; `own_cpu_us` what a request cost it.
    """

    sent: int
    seconds: float
    refused: dict[str, int]
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    late_p99_ms: float
    own_cpu_us: float


def open_loop(
    url: str, bodies: Path, *, rate: float, seconds: float, connections: int = CONNECTIONS, seed: int = 1
) -> Latencies:
    """Post `bodies` to `url`, `rate` a second. Raises `LoadError` when an answer was lost, or not a 2xx."""
    found = start(url, bodies, rate=rate, seconds=seconds, connections=connections, seed=seed)()
    if found.refused:
        raise LoadError(f"{url}: refused at {rate:,.0f} a second: {found.refused}")
    return found


def start(
    url: str, bodies: Path, *, rate: float, seconds: float, connections: int = CONNECTIONS, seed: int = 1
) -> Callable[[], Latencies]:
    """Begin to post; call what is returned for the outcome, whatever was refused. That raises `LoadError`."""
    options = (f"--rate={rate}", f"--seconds={seconds}", f"--connections={connections}", f"--seed={seed}")
    command = [sys.executable, "-m", "tests.bench.open_loop", url, str(bodies), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def outcome() -> Latencies:
        try:
            output, errors = process.communicate(timeout=seconds + 2 * PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise LoadError(f"{url}: the load did not end") from None
        if process.returncode:
            raise LoadError(errors.decode(errors="replace").strip())
        return msgspec.json.decode(output, type=Latencies)

    return outcome


def percentile(ordered: Sequence[float], part: float) -> float:
    """The least of these that so great a part of them does not exceed (nearest rank)."""
    return ordered[max(0, ceil(part * len(ordered)) - 1)]


def arrivals(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """Moments, in seconds from the beginning, at which requests are due."""
    chance = random.Random(seed)
    due = chance.expovariate(rate)
    while due < seconds:
        yield due
        due += chance.expovariate(rate)


def requests(url: str, bodies: Sequence[bytes], *, run: str) -> Iterator[bytes]:
    """The bodies as HTTP requests, over and over, each @N@ a number of this run never used before."""
    parts = urlsplit(url)
    head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n".encode()
    now = str(int(time.time())).encode()
    halves = []
    for body in bodies:
        before, numbered, after = body.replace(b"@NOW@", now).partition(b"@N@")
        length = len(before) + len(after) + (_NUMBER_BYTES if numbered else 0)
        halves.append((b"%bContent-Length: %d\r\n\r\n%b" % (head, length, before), numbered, after))
    mark = run.encode()[:8]
    for count, (before, numbered, after) in enumerate(cycle(halves)):
        yield b"%b%b%0*d%b" % (before, mark, _NUMBER_BYTES - len(mark), count, after) if numbered else before


class Answers:
    """Takes what one connection reads; tells the status of each answer once it is whole."""

    def __init__(self) -> None:
        self._read = b""

    def feed(self, data: bytes) -> int | None:
        """The status, or None while the answer is not all there. Raises `ValueError` for what is no answer."""
        self._read = read = self._read + data if self._read else data
        end = read.find(_END)
        if end < 0:
            return None
        at = read.find(_LENGTH, 0, end)
        if at < 0:
            raise ValueError(f"an answer without a length: {read[:end]!r}")
        at += len(_LENGTH)
        length = end + len(_END) + int(read[at : read.index(b"\r", at)])
        if len(read) < length:
            return None
        if len(read) > length:
            raise ValueError(f"more than was asked for: {read[length:]!r}")
        self._read = b""
        return int(read[9:12])


class _Alarm:
    """Calls `ring` at a moment of the monotonic clock, to the microsecond: a loop's own timers know milliseconds."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = self._libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK)
        self._ring = ring
        asyncio.get_running_loop().add_reader(self._fd, self._rung)

    def set(self, at: float) -> None:
        seconds, part = divmod(at, 1)
        self._libc.timerfd_settime(self._fd, 1, struct.pack("@4l", 0, 0, int(seconds), int(part * 1e9) + 1), None)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)

    def _rung(self) -> None:
        os.read(self._fd, 8)
        self._ring()


class _Load:
    """Sends each request when it is due, over a connection that is idle, or else over the first to become so."""

    def __init__(self, wanted: Iterator[bytes], moments: Iterator[float]) -> None:
        self._wanted = wanted
        self._moments = moments
        self._waiting: deque[tuple[bytes, float]] = deque()
        self._due_s = 0.0
        self._began_s = 0.0
        self._alarm = _Alarm(self._send_due)
        self._sent_all = False
        self.idle: list[_Connection] = []
        self.sent = 0
        self.waits: list[float] = []
        self.lates: list[float] = []
        self.refused: Counter[str] = Counter()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def begin(self) -> None:
        self._began_s = time.monotonic() + START_S
        self._next()
        self._alarm.set(self._due_s)

    def answered(self, connection: "_Connection", status: int, due_s: float) -> None:
        if 200 <= status < 300:
            self.waits.append(time.monotonic() - due_s)
        else:
            self.refused[str(status)] += 1
        if self._waiting:
            connection.send(*self._waiting.popleft())
        else:
            self.idle.append(connection)
            self._end_with_the_last()

    def fail(self, what: str) -> None:
        if not self.done.done():
            self.done.set_exception(LoadError(what))

    def close(self) -> None:
        self._alarm.close()

    def _send_due(self) -> None:
        now = time.monotonic()
        while self._due_s <= now and not self._sent_all:
            self.sent += 1
            self.lates.append(now - self._due_s)
            if self.idle:
                self.idle.pop().send(next(self._wanted), self._due_s)
            else:
                self._waiting.append((next(self._wanted), self._due_s))
            self._next()
            now = time.monotonic()
        if self._sent_all:
            self._end_with_the_last()
        else:
            self._alarm.set(self._due_s)

    def _next(self) -> None:
        moment = next(self._moments, None)
        if moment is None:
            self._sent_all = True
        else:
            self._due_s = self._began_s + moment

    def _end_with_the_last(self) -> None:
        if self._sent_all and len(self.waits) + self.refused.total() == self.sent and not self.done.done():
            self.done.set_result(None)


class _Connection(asyncio.Protocol):
    """One connection, with one request on its way at most."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._answers = Answers()
        self._due_s: float | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._load.idle.append(self)

    def send(self, request: bytes, due_s: float) -> None:
        assert self._transport is not None
        self._due_s = due_s
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        try:
            status = self._answers.feed(data)
        except ValueError as error:
            self._load.fail(str(error))
            return
        if status is not None and self._due_s is not None:
            due_s, self._due_s = self._due_s, None
            self._load.answered(self, status, due_s)

    def connection_lost(self, error: Exception | None) -> None:
        self._load.fail(f"a connection was lost: {error!r}")


async def run(url: str, bodies: Sequence[bytes], *, rate: float, seconds: float, connections: int, seed: int) -> _Load:
    """Send them all and read every answer. Raises `LoadError`."""
    load = _Load(requests(url, bodies, run=uuid4().hex), arrivals(rate, seconds, seed))
    parts = urlsplit(url)
    host, port = str(parts.hostname), parts.port or 80
    loop = asyncio.get_running_loop()
    try:
        for _ in range(connections):
            await loop.create_connection(lambda: _Connection(load), host, port)
        load.begin()
        await asyncio.wait_for(load.done, seconds + PATIENCE_S)
    except TimeoutError:
        raise LoadError(f"{load.sent - len(load.waits) - load.refused.total()} answers stayed away") from None
    finally:
        load.close()
    return load


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.bench.open_loop", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("bodies", type=Path)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    gc.freeze()
    gc.disable()
    began, began_cpu = time.monotonic(), time.process_time()
    try:
        load = uvloop.run(
            run(
                options.url,
                options.bodies.read_bytes().splitlines(),
                rate=options.rate,
                seconds=options.seconds,
                connections=options.connections,
                seed=options.seed,
            )
        )
    except (LoadError, OSError) as error:
        print(f"{options.url}: {error}", file=sys.stderr)
        return 1
    taken, cpu_s = time.monotonic() - began, time.process_time() - began_cpu
    print(msgspec.json.encode(_latencies(load, taken, cpu_s)).decode())
    return 0


def _latencies(load: _Load, seconds: float, cpu_s: float) -> Latencies:
    waits, lates = sorted(load.waits) or [0.0], sorted(load.lates) or [0.0]
    return Latencies(
        sent=load.sent,
        seconds=seconds,
        refused=dict(load.refused),
        p50_ms=1000 * percentile(waits, 0.5),
        p99_ms=1000 * percentile(waits, 0.99),
        p999_ms=1000 * percentile(waits, 0.999),
        max_ms=1000 * waits[-1],
        late_p99_ms=1000 * percentile(lates, 0.99),
        own_cpu_us=1e6 * cpu_s / max(load.sent, 1),
    )


if __name__ == "__main__":
    sys.exit(main())

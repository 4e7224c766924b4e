"""A load of exactly these requests, each sent once over a few connections, each of which has one in flight."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from statistics import quantiles
from typing import cast
from urllib.parse import urlsplit

import msgspec
import uvloop

from tests.bench.load import LoadError

CONNECTIONS = 64
TIMEOUT_S = 300.0

_END = b"\r\n\r\n"
_LENGTH = b"Content-Length: "


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    requests: int
    seconds: float
    p99_ms: float

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


def send_each(url: str, bodies: Sequence[bytes], *, connections: int = CONNECTIONS) -> Sent:
    """Post each body to `url` once. Raises `LoadError` unless each was answered with a 2xx."""
    return uvloop.run(_send(url, bodies, connections))


async def _send(url: str, bodies: Sequence[bytes], connections: int) -> Sent:
    parts = urlsplit(url)
    head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
    requests = iter([f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body for body in bodies])
    waits: list[float] = []
    began = time.perf_counter()
    loop = asyncio.get_running_loop()
    host, port = str(parts.hostname), parts.port or 80
    opened = [
        await loop.create_connection(lambda: _Client(requests, waits), host, port)
        for _ in range(min(connections, len(bodies)))
    ]
    async with asyncio.timeout(TIMEOUT_S):
        await asyncio.gather(*(client.done for _, client in opened))
    return Sent(requests=len(waits), seconds=time.perf_counter() - began, p99_ms=1000 * quantiles(waits, n=100)[98])


class _Client(asyncio.Protocol):
    """One connection: the next request goes out when the answer to the last was read."""

    def __init__(self, requests: Iterator[bytes], waits: list[float]) -> None:
        self._requests = requests
        self._waits = waits
        self._transport: asyncio.Transport | None = None
        self._read = b""
        self._sent_at = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._next()

    def data_received(self, data: bytes) -> None:
        self._read += data
        end = self._read.find(_END)
        if end < 0:
            return
        at = self._read.find(_LENGTH, 0, end) + len(_LENGTH)
        if len(self._read) < end + len(_END) + int(self._read[at : self._read.index(b"\r", at)]):
            return
        if self._read[9:10] != b"2":
            self._fail(self._read.decode(errors="replace"))
            return
        self._waits.append(time.perf_counter() - self._sent_at)
        self._read = b""
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(f"the connection was lost: {error!r}")

    def _next(self) -> None:
        assert self._transport is not None
        request = next(self._requests, None)
        if request is None:
            self.done.set_result(None)
            self._transport.close()
            return
        self._sent_at = time.perf_counter()
        self._transport.write(request)

    def _fail(self, what: str) -> None:
        if not self.done.done():
            self.done.set_exception(LoadError(what))

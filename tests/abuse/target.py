"""What floods and slow clients attack: services as processes, and sockets that say what no HTTP client would.

Test modules take the fixtures with `pytest_plugins = ["tests.platform", "tests.abuse.target"]`. `target` is one for all
of them, an activation service with short time-outs; `ground` starts others. Names are imported from here before pytest
takes it as a plugin, hence PYTEST_DONT_REWRITE.
"""

import asyncio
import contextlib
import re
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest

from services.standalone.embedded import start_redis, wheel_valkey_binary
from shared.runtime.resources import open_resources
from tests import servers
from tests.platform import (
    LOOPBACK,
    MASTER_SECRET,
    Api,
    Service,
    Services,
    Vendor,
    copied_database,
    new_vendor,
    open_api,
    settings_for,
)

HEADER_TIMEOUT_S = 1.0
BODY_TIMEOUT_S = 1.0
LINGER_S = 2.0
SLACK_S = 2.0
UNKNOWN_KEY = "AN-IMPORTED-KEY-THAT-NOBODY-HAS-{}"


@dataclass(frozen=True, kw_only=True)
class Ground:
    """Servers, a vendor, and the starter of services on them."""

    services: Services
    vendor: Vendor

    async def start(self, name: str, **changes: Mapping[str, Any]) -> Service:
        return await self.services.start(name, changes=changes).ready()


@dataclass(frozen=True, kw_only=True)
class Target:
    """A running activation service."""

    service: Service
    vendor: Vendor
    api: Api

    @property
    def port(self) -> int:
        return self.service.port

    @property
    def resident_kb(self) -> int:
        return resident_kb(self.service)

    async def connect(self) -> "Wire":
        return await Wire.open(self.port)


class Wire:
    """A connection on which anything may be sent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int) -> Self:
        return cls(*await asyncio.open_connection(LOOPBACK, port))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()

    async def send(self, data: bytes) -> bool:
        """Whether it could be sent."""
        try:
            self.writer.write(data)
            await self.writer.drain()
        except ConnectionError:
            return False
        return not self.writer.is_closing()

    async def trickle(self, data: bytes, every_s: float) -> None:
        """A byte at a time, until all is sent or the connection is closed."""
        for byte in data:
            if not await self.send(bytes([byte])):
                return
            await asyncio.sleep(every_s)

    async def rest(self, within_s: float) -> bytes | None:
        """All that comes until the other side closes; None when it does not close in time."""
        received = bytearray()
        try:
            async with asyncio.timeout(within_s):
                while chunk := await self.reader.read(65_536):
                    received += chunk
        except TimeoutError:
            return None
        except ConnectionError:
            pass
        return bytes(received)

    def cut(self) -> None:
        self.writer.transport.abort()


def statuses(received: bytes) -> list[int]:
    """Of all responses in what was received."""
    return [int(status) for status in re.findall(rb"(?:^|\r\n\r\n|})HTTP/1\.[01] (\d{3}) ", received)]


def resident_kb(service: Service) -> int:
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1])


async def latencies(ask: Callable[[], Awaitable[object]], *, times: int) -> tuple[float, float]:
    """Median and 99th percentile in milliseconds, of one request after the other."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        await ask()
        taken.append(1000 * (time.perf_counter() - began))
    return statistics.median(taken), statistics.quantiles(taken, n=100)[98]


@pytest.fixture(scope="session")
async def ground(
    postgres_server: servers.PostgresSource, template_database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Ground]:
    folder = tmp_path_factory.mktemp("abuse")
    with start_redis(folder, binary=wheel_valkey_binary()) as redis:
        async with copied_database(postgres_server, template_database) as database:
            settings = settings_for(database.dsn_for("seatkeeper_standalone"), redis.url)
            starter = Services(
                folder=folder,
                settings={
                    "postgres": {"dsn": database.dsn_for("ROLE")},
                    "redis": {"url": redis.url},
                    "secrets": {"keys": {"k1": MASTER_SECRET}, "current": "k1"},
                    "limits": {"failed_authentications_per_min": 0},
                    "log": {"level": "info", "format": "json"},
                },
            )
            try:
                async with open_resources(settings, application="tests") as resources:
                    yield Ground(services=starter, vendor=await new_vendor(resources))
            finally:
                for service in starter.started:
                    service.process.kill()
                    service.process.wait()


@pytest.fixture(scope="session")
async def target(ground: Ground) -> AsyncIterator[Target]:
    timeouts = {"header_timeout_s": HEADER_TIMEOUT_S, "body_timeout_s": BODY_TIMEOUT_S}
    service = await ground.start("activation", server=timeouts)
    async with open_api(service.url) as api:
        grant = await ground.vendor.license()
        for _ in range(50):
            assert (await api.validate(grant.key)).status == 200
        yield Target(service=service, vendor=ground.vendor, api=api)
        assert (await api.validate(grant.key)).status == 200


@contextlib.asynccontextmanager
async def crowd(port: int, size: int, first: bytes = b"") -> AsyncIterator[list[Wire]]:
    """So many connections that sent `first` and nothing more."""
    wires: list[Wire] = []
    try:
        while len(wires) < size:
            wires += await asyncio.gather(*(Wire.open(port) for _ in range(min(250, size - len(wires)))))
        if first:
            await asyncio.gather(*(wire.send(first) for wire in wires))
        yield wires
    finally:
        for wire in wires:
            wire.cut()

"""Five hundred applications hold seats while the server dies and comes back: they see Active, Limited, and Active.

Real services, killed by SIGKILL and frozen by SIGSTOP, and their Redis killed, at moments that a seed chooses. Half of
the devices are node-locked, half floating, and all are heard every few seconds. `ROUNDS` repeats it with other moments.
"""

import asyncio
import logging
import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec
import pytest

from seatkeeper import Client
from seatkeeper.http import HttpTransport
from seatkeeper.state import Name
from seatkeeper.transport import Request, Response
from services.portal.accounts import terms
from services.standalone.embedded import RedisServer, start_redis, wheel_valkey_binary
from services.standalone.ingress import service_of
from shared.licensing.model import Kind
from shared.runtime.background import background, pause
from tests.conftest import Database
from tests.invariants import check_invariants
from tests.platform import LOOPBACK, PRODUCT, Service, Services, Vendor, eventually, rows

pytest_plugins = ["tests.platform"]

ROUNDS = int(os.environ.get("ROUNDS", "1"))
CLIENTS = 500
AT_ONCE = 24
LEASES: Mapping[Kind, int | None] = {Kind.NODE_LOCKED: None, Kind.FLOATING: 60}
INTERVAL_S = 3
TRY_S = 2.0
LOOK_S = 0.2
BACK_S = 15.0
"""So soon after an outage everyone is Active again: a heartbeat is due, and those that failed come sooner."""


class Server:
    """A service at an address that outlives its process."""

    def __init__(self, services: Services, name: str) -> None:
        path, port, health_port = services.write(name)
        self._start: Callable[[], Service] = lambda: services.run(
            name, "--config", str(path), ports=(port, health_port)
        )
        self.url = f"http://{LOOPBACK}:{port}"
        self._service = self._start()

    async def ready(self) -> None:
        await self._service.ready()

    def signal(self, signum: int) -> None:
        self._service.process.send_signal(signum)

    def kill(self) -> None:
        self._service.process.kill()
        self._service.process.wait()

    async def start(self) -> None:
        self._service = self._start()
        await self.ready()


class Redis:
    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self.url = f"redis://{LOOPBACK}:{server.port}/0"

    def kill(self) -> None:
        os.kill(self._server.pid, signal.SIGKILL)
        self._server.stop()

    def start(self) -> None:
        folder, port = self._server.log.parent, self._server.port
        self._server = start_redis(folder, binary=wheel_valkey_binary(), port=port)

    def stop(self) -> None:
        self._server.stop()


class Arena:
    """What may be broken, and when."""

    def __init__(self, services: Services, redis: Redis, seed: int) -> None:
        self.activation, self.heartbeat = Server(services, "activation"), Server(services, "heartbeat")
        self.redis = redis
        self.chance = random.Random(seed)

    async def pause(self, least_s: float, most_s: float) -> None:
        await asyncio.sleep(self.chance.uniform(least_s, most_s))


Trouble = Callable[[Arena], Awaitable[None]]


async def both_services_killed(arena: Arena) -> None:
    servers = [arena.activation, arena.heartbeat]
    arena.chance.shuffle(servers)
    for server in servers:
        await arena.pause(0, 1)
        server.kill()
    await arena.pause(3.5, 4.5)
    for server in servers:
        await server.start()


async def heartbeats_frozen(arena: Arena) -> None:
    """For longer than any try waits, so that answers come to those who have hung up."""
    arena.heartbeat.signal(signal.SIGSTOP)
    await arena.pause(TRY_S + 1, TRY_S + 2)
    arena.heartbeat.signal(signal.SIGCONT)


async def redis_killed(arena: Arena) -> None:
    arena.redis.kill()
    await arena.pause(1, 2)
    arena.redis.start()


async def redis_and_heartbeats_killed(arena: Arena) -> None:
    """The one comes back to an empty Redis while the other is not yet there."""
    arena.heartbeat.kill()
    arena.redis.kill()
    await arena.pause(0, 1)
    arena.redis.start()
    await arena.heartbeat.start()


TROUBLES: tuple[Trouble, ...] = (
    both_services_killed,
    heartbeats_frozen,
    redis_killed,
    redis_and_heartbeats_killed,
)


class Routed:
    """By path, as an ingress routes, but with none in between that would hide how a killed server's connections end."""

    def __init__(self, arena: Arena) -> None:
        urls = {"activation": arena.activation.url, "heartbeat": arena.heartbeat.url}
        self._transports = {name: HttpTransport(url, proxy="direct") for name, url in urls.items()}

    async def send(self, request: Request) -> Response:
        return await self._transports[service_of(request.path)].send(request)

    async def close(self) -> None:
        for transport in self._transports.values():
            await transport.close()


class Application:
    """A client that holds its seat, and what it is from then on: by what it tells, and whenever it is looked at."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.names = {client.state.name}
        client.on_change(lambda _, new: self.names.add(new.name))

    def look(self) -> bool:
        """Whether it is Active."""
        name = self.client.state.name
        self.names.add(name)
        return name is Name.ACTIVE


@asynccontextmanager
async def applications(
    arena: Arena, vendor: Vendor, keys: Mapping[Kind, str], folder: Path
) -> AsyncIterator[list[Application]]:
    door = asyncio.Semaphore(AT_ONCE)
    root_key = msgspec.json.encode(vendor.root_key).decode()

    async def open_one(number: int) -> Application:
        client = Client(
            arena.activation.url,
            product=PRODUCT,
            root_key=root_key,
            license_key=keys[list(keys)[number % len(keys)]],
            fingerprint=f"device-{number}",
            directory=folder / f"device-{number}",
            timeout_s=TRY_S,
            transport=Routed(arena),
        )
        async with door:
            await stack.enter_async_context(client)
        return Application(client)

    async with AsyncExitStack() as stack:
        yield await asyncio.gather(*(open_one(number) for number in range(CLIENTS)))


@pytest.fixture
def redis(private_redis: RedisServer) -> Iterator[Redis]:
    server = Redis(private_redis)
    yield server
    server.stop()


@pytest.fixture
async def keys(vendor: Vendor) -> dict[Kind, str]:
    """A license of each kind, with seats for its devices and none more."""
    made = {}
    for kind, lease_s in LEASES.items():
        granted = terms(kind=kind, product_code=PRODUCT, lease_s=lease_s, heartbeat_interval_s=INTERVAL_S)
        await vendor.accounts.add_policy(vendor.account, name=kind, seats=CLIENTS // len(LEASES), terms=granted)
        made[kind] = (await vendor.licenses.create(vendor.account, policy=kind)).key
    return made


async def test_applications_see_active_limited_and_active_whatever_happens_to_the_server(
    services: Services,
    redis: Redis,
    vendor: Vendor,
    keys: dict[Kind, str],
    database: Database,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    services.settings["redis"] = {"url": redis.url}
    arena = Arena(services, redis, seed=500 + ROUNDS)
    await arena.activation.ready()
    await arena.heartbeat.ready()

    async with applications(arena, vendor, keys, tmp_path) as running, background(partial(watch, running)):
        for trouble in TROUBLES * ROUNDS:
            await trouble(arena)
            await eventually(lambda: everyone_is_active(running), within_s=BACK_S)
        await asyncio.gather(*(one.client.heartbeat() for one in running))

    assert {name for one in running for name in one.names} <= {Name.ACTIVE, Name.LIMITED}
    assert sum(Name.LIMITED in one.names for one in running) > CLIENTS / 2
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert await seats(database) == [(CLIENTS // len(LEASES), CLIENTS // len(LEASES))] * len(LEASES)
    assert await events_of_devices(database) == {"device.activated": CLIENTS}
    await check_invariants(database)


async def watch(running: Sequence[Application], stop: asyncio.Event) -> None:
    while not stop.is_set():
        await everyone_is_active(running)
        await pause(stop, LOOK_S)


async def everyone_is_active(running: Sequence[Application]) -> bool:
    return False not in [one.look() for one in running]


async def seats(database: Database) -> list[tuple[int, int]]:
    """Of each license, the count and the different devices that hold one."""
    found = await rows(
        database,
        "SELECT l.seats_used, count(DISTINCT d.fingerprint) AS devices FROM license l JOIN device d"
        " ON d.license_id = l.id AND d.state = 'active' GROUP BY l.id, l.seats_used",
    )
    return [(row["seats_used"], row["devices"]) for row in found]


async def events_of_devices(database: Database) -> dict[str, int]:
    found = await rows(database, "SELECT event, count(*) AS n FROM audit WHERE event LIKE 'device.%' GROUP BY event")
    return {row["event"]: row["n"] for row in found}

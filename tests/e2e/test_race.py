"""Eight activation processes, 200 clients, one license of 50 seats: never 51, whatever happens to Redis meanwhile."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest

from services.standalone.embedded import RedisServer
from tests import servers
from tests.conftest import Database
from tests.invariants import check_invariants
from tests.platform import Api, Services, Vendor, rows

pytest_plugins = ["tests.platform"]

PROCESSES, CLIENTS, SEATS, ROUNDS = 8, 200, 50, 10

Disturb = Callable[[], Awaitable[None]]


async def _nothing() -> None:
    pass


class Race:
    """The processes, and rounds over them. Each round has a license and devices of its own."""

    def __init__(self, apis: list[Api], vendor: Vendor, database: Database) -> None:
        self._apis = apis
        self._vendor = vendor
        self._database = database
        self._random = random.Random(20261122)

    async def rounds(self, *, repeats: int = 1, disturb: Disturb = _nothing) -> None:
        for _ in range(ROUNDS):
            await self._round(repeats, disturb)

    async def _round(self, repeats: int, disturb: Disturb) -> None:
        license = await self._vendor.license(seats=SEATS)
        clients = [self._client(license.key, f"device-{number}", repeats) for number in range(CLIENTS)]
        answers, _ = await asyncio.gather(asyncio.gather(*clients), self._meanwhile(disturb))
        won = [statuses for statuses in answers if statuses[201]]
        assert len(won) == SEATS
        assert all(statuses[201] == 1 and set(statuses) <= {200, 201} for statuses in won)
        assert all(set(statuses) == {403} for statuses in answers if not statuses[201])
        (found,) = await rows(
            self._database,
            "SELECT l.seats_used, count(*) AS devices, count(DISTINCT d.fingerprint) AS fingerprints FROM license l"
            " JOIN device d ON d.license_id = l.id AND d.state = 'active' WHERE l.id = $1 GROUP BY l.seats_used",
            license.id,
        )
        assert found == {"seats_used": SEATS, "devices": SEATS, "fingerprints": SEATS}

    async def _client(self, key: str, fingerprint: str, repeats: int) -> Counter[int]:
        """One device; it sends its request up to `repeats` times at once, to processes at random."""
        body = {"licenseKey": key, "fingerprint": fingerprint, "timestamp": int(time.time()), "nonce": fingerprint}
        times = self._random.randint(1, repeats)
        sent = (self._random.choice(self._apis).post("/v1/activate", body) for _ in range(times))
        return Counter([answer.status for answer in await asyncio.gather(*sent)])

    async def _meanwhile(self, disturb: Disturb) -> None:
        await asyncio.sleep(self._random.uniform(0.01, 0.15))
        await disturb()


@pytest.fixture
async def race(
    services: Services, vendor: Vendor, database: Database, private_redis: RedisServer
) -> AsyncIterator[Race]:
    changes = {"redis": {"url": private_redis.tcp_url}, "log": {"level": "warning"}}
    started = [services.start("activation", changes=changes) for _ in range(PROCESSES)]
    await asyncio.gather(*(service.ready() for service in started))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CLIENTS)) as session:
        yield Race([Api(session, service.url) for service in started], vendor, database)


async def test_50_seats_are_never_51(race: Race, database: Database, private_redis: RedisServer) -> None:
    async def empty_redis() -> None:
        await asyncio.to_thread(servers.empty_redis, private_redis)

    async def stop_redis() -> None:
        await asyncio.to_thread(private_redis.stop)

    await race.rounds()
    await race.rounds(repeats=4)
    await race.rounds(repeats=4, disturb=empty_redis)
    await race.rounds(repeats=4, disturb=stop_redis)
    await check_invariants(database)

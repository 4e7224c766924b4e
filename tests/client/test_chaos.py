"""The SDK against a server that rejects, delays, cuts off and answers twice: every call ends right, no seat is lost.

Each device is a client with a folder, a fingerprint and a budget of its own.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeVar

import pytest

import seatkeeper
from seatkeeper.api import Api
from seatkeeper.clock import SystemClock
from seatkeeper.http import HttpTransport
from services.standalone.embedded import RedisServer
from tests.client.chaotic import MUCH, SOME, open_chaotic
from tests.conftest import Database
from tests.invariants import check_invariants
from tests.platform import PRODUCT, Grant, Platform, Vendor

pytest_plugins = ["tests.platform"]

AT_ONCE = 25
HEARTBEATS = 3
PAUSE_S = 0.1
_T = TypeVar("_T")


class Hasty(SystemClock):
    """Ten pauses in the time of one: what is tried is the same."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / 10)


@pytest.fixture
async def chaotic(
    request: pytest.FixtureRequest, database: Database, private_redis: RedisServer
) -> AsyncIterator[Platform]:
    async with open_chaotic(database, private_redis, request.param) as platform:
        yield platform


class Fleet:
    """Devices of one license. `reasons` are those that they saw, `given_up` the calls that ran out of tries."""

    def __init__(self, platform: Platform, vendor: Vendor, grant: Grant, folder: Path) -> None:
        self._url = platform.api.url
        self._root_key = vendor.root_key["x"]
        self._grant = grant
        self._folder = folder
        self._turn = asyncio.Semaphore(AT_ONCE)
        self.reasons: set[str | None] = set()
        self.given_up = 0

    def client(self, name: str) -> seatkeeper.Client:
        return seatkeeper.Client(
            self._url,
            product=PRODUCT,
            root_key=self._root_key,
            license_key=self._grant.key,
            fingerprint=name,
            directory=self._folder / name,
            clock=Hasty(),
        )

    async def live(self, name: str, *, leaves: bool) -> str:
        """A device's day; returns its id."""
        async with self._turn, AsyncExitStack() as stack:
            client = self.client(name)
            client.on_change(lambda _old, new: self.reasons.add(new.reason))
            await self._answered(lambda: stack.enter_async_context(client))
            assert client.state.name is seatkeeper.Name.ACTIVE
            assert client.device_id is not None
            for _ in range(HEARTBEATS):
                await self._answered(client.heartbeat)
                assert client.state.name is seatkeeper.Name.ACTIVE
            await self._validate(name)
            if leaves:
                await self._answered(client.release)
            return client.device_id

    async def _validate(self, name: str) -> None:
        api = Api(HttpTransport(self._url), clock=Hasty())
        try:
            said = await self._answered(lambda: api.validate(self._grant.key, name))
        finally:
            await api.close()
        assert (said.valid, said.code) == (True, "VALID")

    async def _answered(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """What it answers, as a user has it who tries again when the client gave up. A refusal is never right here."""
        while True:
            try:
                return await call()
            except seatkeeper.Unreachable:
                self.given_up += 1
                await asyncio.sleep(PAUSE_S)


@pytest.mark.parametrize(
    ("chaotic", "devices", "patience"),
    [(SOME, 150, 0.02), (MUCH, 30, 1)],
    indirect=["chaotic"],
    ids=["5%", "30%"],
)
async def test_every_call_ends_right_and_seats_never_exceed_devices(
    chaotic: Platform, database: Database, tmp_path: Path, devices: int, patience: float
) -> None:
    """`patience` is the share of calls for which a client may give up: retries have a budget."""
    vendor = await chaotic.vendor()
    grant = await vendor.license(seats=devices)
    fleet = Fleet(chaotic, vendor, grant, tmp_path)

    lives = [fleet.live(f"device-{n}", leaves=n % 3 == 0) for n in range(devices)]
    ids = await asyncio.gather(*lives)

    assert len(set(ids)) == devices
    assert await chaotic.seats_used(grant) == devices - len(range(0, devices, 3))
    (made,) = await chaotic.rows("SELECT count(*) AS devices, max(generation) AS generation FROM device")
    assert made == {"devices": devices, "generation": 1}
    (clones,) = await chaotic.rows("SELECT count(*) AS n FROM audit WHERE event = 'device.clone_suspected'")
    assert clones["n"] == 0
    assert fleet.given_up <= patience * devices * (HEARTBEATS + 2)
    assert fleet.reasons <= {None, "UNREACHABLE", "RELEASED"}
    await check_invariants(database)

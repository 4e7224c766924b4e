"""Redis emptied, started empty, or restored from an hour-old copy, at any moment under load: nothing wrong lasts.

Devices heartbeat, validate, activate and leave all the while. Measured are the longest time for which a device that had
lost its seat was told that it was fine, and the longest for which a license in Redis differed from Postgres.

`MOMENTS` moments of each kind are tried, 1 unless the variable says otherwise, chosen at random by the `SEED` printed.
"""

import asyncio
import contextlib
import os
import random
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import pytest
import redis as redis_sync

from services.standalone.embedded import RedisServer, start_redis, wheel_valkey_binary
from shared.licensing.model import Kind
from shared.runtime.pulse import beat
from shared.seats.watermark import Watermark
from tests.builders import owner
from tests.invariants import check_invariants
from tests.platform import Answer, Grant, Platform, Vendor, eventually

pytest_plugins = ["tests.platform"]

MOMENTS = int(os.environ.get("MOMENTS", "1"))
SEED = int(os.environ.get("SEED", "0")) or random.SystemRandom().getrandbits(32)
ALLOWED_S = 5.0
WATCHED_S = ALLOWED_S + 0.7
SETTLES_S = 0.3
"""A commit may be so much ahead of its push: what differs for less is on its way."""

STEP_S, HOUR_S = 4, 3600
LEASE_S = 1200
_SHIFTED = """
    CREATE TABLE simulated_shift (seconds float NOT NULL);
    INSERT INTO simulated_shift VALUES (0);
    GRANT SELECT ON simulated_shift TO PUBLIC;
    CREATE OR REPLACE FUNCTION ledger_clock() RETURNS timestamptz LANGUAGE sql VOLATILE AS
        'SELECT clock_timestamp() + make_interval(secs => seconds) FROM simulated_shift';
"""
LICENSES = "SELECT account_id, id, version, seats_limit, seats_used FROM license"
FREED = "SELECT device_id, reason FROM audit WHERE event = 'device.released' AND reason IN ('idle', 'lease_expired')"


@dataclass
class Device:
    """One device of the load. `lost_at` is when the test knew that its seat was gone; None while it has it."""

    grant: Grant
    name: str
    id: str
    token: str
    beats: bool = True
    lost_at: float | None = None


@dataclass
class Load:
    """Requests that never stop, and what came of them.

    New devices come to the `busy` licenses alone: the first request of one that Redis does not know makes its license
    right there, and would do so for all others under it.
    """

    platform: Platform
    random: random.Random
    devices: list[Device]
    busy: set[UUID]
    made: int = 0
    disturbed_at: float = 0.0
    wrongly_fine_s: float = 0.0
    wrongly_lost: list[str] = field(default_factory=list)
    differed_s: float = 0.0
    answered: int = 0

    async def heartbeats(self) -> None:
        while True:
            for device in self.random.sample(self.devices, len(self.devices)):
                if device.beats:
                    await self._ask(device, lambda one: self.platform.api.heartbeat(one.token), _is_alive)
            await asyncio.sleep(0.01)

    async def validations(self) -> None:
        while True:
            device = self.random.choice(self.devices)
            if device.beats or device.lost_at is not None:
                await self._ask(device, lambda one: self.platform.api.validate(one.grant.key, one.name), _is_valid)
            await asyncio.sleep(0.005)

    async def comings_and_goings(self) -> None:
        while True:
            busy = [device for device in self.devices if _has_seat(device) and device.grant.id in self.busy]
            await self.come(self.random.choice(busy).grant)
            await self.go(self.random.choice(busy))
            await asyncio.sleep(0.05)

    async def come(self, grant: Grant) -> None:
        self.made += 1
        name = f"newcomer-{self.made}"
        answer = await self.platform.api.activate(grant.key, name)
        if answer.status == 201:
            self.devices.append(_device(grant, name, answer))

    async def go(self, device: Device) -> None:
        device.beats = False
        (await self.platform.api.deactivate(device.grant.key, device.id)).ok()
        device.lost_at, device.beats = time.monotonic(), True

    async def watch_counts(self) -> None:
        """Compare what Redis reflects with what Postgres holds."""
        differs: dict[UUID, tuple[object, float]] = {}
        while True:
            for row in await self.platform.rows(LICENSES):
                standing = await self.platform.resources.projection.standing(row["account_id"], row["id"])
                held = (row["version"], row["seats_limit"], row["seats_used"])
                if standing is None or standing.version > row["version"] or _counts(standing) == held:
                    differs.pop(row["id"], None)
                    continue
                known, since = differs.get(row["id"], (None, 0.0))
                now = time.monotonic()
                differs[row["id"]] = (standing, since if known == standing else now)
                if known == standing and now - since > SETTLES_S:
                    self.differed_s = max(self.differed_s, now - max(since, self.disturbed_at))
            await asyncio.sleep(0.05)

    async def _ask(
        self, device: Device, ask: Callable[[Device], Awaitable[Answer]], is_fine: Callable[[Answer], bool | None]
    ) -> None:
        """Wrong is a yes to what was asked after the seat was lost, and a no where it was there all the while."""
        had, lost_at = _has_seat(device), device.lost_at
        fine = is_fine(await ask(device))
        self.answered += 1
        if lost_at is not None and fine:
            self.wrongly_fine_s = max(self.wrongly_fine_s, time.monotonic() - max(lost_at, self.disturbed_at))
        if had and _has_seat(device) and fine is False:
            self.wrongly_lost.append(device.name)


def _has_seat(device: Device) -> bool:
    return device.lost_at is None and device.beats


def _device(grant: Grant, name: str, answer: Answer) -> Device:
    seat = answer.ok(201)
    return Device(grant=grant, name=name, id=seat["deviceId"], token=seat["deviceToken"])


def _is_alive(answer: Answer) -> bool | None:
    """None where nothing was said: the server could not be asked."""
    return {200: True, 410: False}.get(answer.status)


def _is_valid(answer: Answer) -> bool | None:
    return answer.json["code"] == "VALID" if "valid" in answer.json else None


def _counts(standing: object) -> tuple[int, int, int]:
    return standing.version, standing.seats_limit, standing.seats_used  # type: ignore[attr-defined]


@asynccontextmanager
async def running(load: Load) -> AsyncIterator[None]:
    """The load while the body runs; a request that fails fails the test."""
    works = [load.heartbeats, load.heartbeats, load.validations, load.comings_and_goings, load.watch_counts]
    tasks = [asyncio.create_task(work()) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if not isinstance(outcome, asyncio.CancelledError):
                raise AssertionError("the load came to an end") from outcome


# --- Redis ------------------------------------------------------------------------------------------------------


class Server:
    """The Redis behind the platform's gate, which is stopped and started in its place."""

    def __init__(self, first: RedisServer, stack: ExitStack) -> None:
        self._server = first
        self._folder, self._port = first.log.parent, first.port
        self._stack = stack

    def empty(self) -> None:
        with self.client() as client:
            client.flushall()

    def copy(self) -> Path:
        """Save what it holds, and put a copy aside."""
        with self.client() as client:
            client.save()
            dump = self._dump(client)
        kept = dump.with_name("hour-old.rdb")
        shutil.copyfile(dump, kept)
        dump.unlink()
        return kept

    def restart(self, kept: Path | None = None) -> None:
        """Start it anew: with nothing, or with what was copied."""
        with self.client() as client:
            dump = self._dump(client)
        self._server.stop()
        if kept is not None:
            shutil.copyfile(kept, dump)
            shutil.chown(dump, dump.parent.stat().st_uid, dump.parent.stat().st_gid)
        self._server = start_redis(self._folder, binary=wheel_valkey_binary(), port=self._port)
        self._stack.callback(self._server.stop)
        with self.client() as client:
            assert (client.dbsize() > 0) is (kept is not None)

    @contextlib.contextmanager
    def client(self) -> Iterator["redis_sync.Redis"]:
        with redis_sync.Redis.from_url(self._server.url, protocol=2) as client:
            yield client

    def _dump(self, client: "redis_sync.Redis") -> Path:
        return Path(str(client.config_get("dir")["dir"])) / "dump.rdb"


@pytest.fixture
def server(private_redis: RedisServer) -> Iterator[Server]:
    with ExitStack() as stack:
        yield Server(private_redis, stack)


# --- Tests ------------------------------------------------------------------------------------------------------


async def make_load(platform: Platform, vendor: Vendor, chance: random.Random) -> Load:
    """Node-locked and floating licenses, none of them full, and devices that have been heard."""
    grants = [await vendor.license(seats=60, kind=kind, lease_s=s) for _ in range(4) for kind, s in KINDS]
    load = Load(platform=platform, random=chance, devices=[], busy={grant.id for grant in grants[:4]})
    for grant in grants:
        for number in range(6):
            name = f"device-{number}"
            load.devices.append(_device(grant, name, await platform.api.activate(grant.key, name)))
    return load


KINDS: list[tuple[Kind, int | None]] = [(Kind.NODE_LOCKED, None), (Kind.FLOATING, LEASE_S)]


async def watch(load: Load, disturb: Callable[[], None]) -> None:
    """Disturb Redis some time into the load, and go on until all has to be well again."""
    async with running(load):
        await asyncio.sleep(load.random.uniform(0.2, 1.5))
        disturb()
        load.disturbed_at = time.monotonic()
        await asyncio.sleep(WATCHED_S)


async def check(load: Load, what: str, silent: set[UUID]) -> None:
    print(
        f"SEED={SEED} {what}: {load.answered} answers; told fine without a seat for {load.wrongly_fine_s:.2f} s"
        f" at most; Redis differed from Postgres for {load.differed_s:.2f} s at most"
    )
    assert load.wrongly_lost == []
    assert load.wrongly_fine_s <= ALLOWED_S
    assert load.differed_s <= ALLOWED_S
    assert {row["device_id"] for row in await load.platform.rows(FREED)} == silent
    for device in load.devices:
        if not device.beats and device.lost_at is None:
            continue  # the load came to its end while this one's seat was being given back
        assert _is_valid(await load.platform.api.validate(device.grant.key, device.name)) is (device.lost_at is None)
        if device.beats:
            assert _is_alive(await load.platform.api.heartbeat(device.token)) is (device.lost_at is None)
    for row in await load.platform.rows(LICENSES):
        standing = await load.platform.resources.projection.standing(row["account_id"], row["id"])
        assert _counts(standing) == (row["version"], row["seats_limit"], row["seats_used"])
    await check_invariants(load.platform.database)


@pytest.mark.parametrize("moment", range(MOMENTS))
@pytest.mark.parametrize("what", ["emptied", "started empty"])
async def test_redis_without_its_contents(gated_platform: Platform, server: Server, what: str, moment: int) -> None:
    load = await make_load(gated_platform, await gated_platform.vendor(), random.Random(f"{SEED} {what} {moment}"))

    await watch(load, server.empty if what == "emptied" else server.restart)

    await check(load, what, silent=set())


@pytest.mark.parametrize("moment", range(MOMENTS))
async def test_redis_as_it_was_an_hour_ago(gated_platform: Platform, server: Server, moment: int) -> None:
    platform = gated_platform
    async with owner(platform.database) as connection:
        await connection.execute(_SHIFTED)
    load = await make_load(platform, await platform.vendor(), random.Random(f"{SEED} restored {moment}"))
    for device in load.devices:
        (await platform.api.heartbeat(device.token)).ok()
    kept = server.copy()
    epoch = platform.resources.clock.epoch

    silent = await live_an_hour(load)
    assert platform.resources.clock.epoch == epoch, "the hour itself has made Redis count as lost"
    await watch(load, lambda: server.restart(kept))

    await check(load, "restored from an hour ago", silent)


async def live_an_hour(load: Load) -> set[UUID]:
    """An hour in small steps, in which devices leave, come, and fall silent; returns the ids of those that lost seats.

    The steps are such that the watermark never looks old: only what is done to Redis afterwards can be found out.
    """
    platform, r = load.platform, load.platform.resources
    watermark = Watermark(r.redis, r.clock.raise_epoch)
    silent = [device for device in load.devices if device.name == "device-0"]
    for device in silent:
        device.beats = False
    async with owner(platform.database) as connection:
        for second in range(STEP_S, HOUR_S + 1, STEP_S):
            await connection.execute("UPDATE simulated_shift SET seconds = $1", float(second))
            await beat(r.clock, watermark, r.projection)
            if second % (LEASE_S // 4) == 0:
                await asyncio.gather(*(platform.api.heartbeat(one.token) for one in load.devices if _has_seat(one)))
                for _ in range(2):
                    await load.go(load.random.choice([device for device in load.devices if _has_seat(device)]))
                    await load.come(
                        load.random.choice([one.grant for one in load.devices if one.grant.id in load.busy])
                    )

    async def all_lost() -> bool:
        return len(await platform.rows(FREED)) == len(silent) // 2

    await eventually(all_lost)
    lost = {row["device_id"] for row in await platform.rows(FREED)}
    for device in silent:  # a heartbeat would bring a floating one back
        device.beats = UUID(device.id) not in lost
        device.lost_at = None if device.beats else time.monotonic()
    assert lost == {UUID(device.id) for device in silent if device.lost_at is not None}
    return lost

"""Redis behind Sentinel and as a Cluster: devices are served as from one server, and the loss of a primary, or of what
one shard held, is noticed: nothing wrong lasts.
"""

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import cast
from uuid import UUID, uuid4

import pytest
from redis.crc import key_slot

from services.standalone.embedded import RedisServer
from shared.licensing.model import Change
from shared.runtime.reconciliation import Found, Round
from shared.runtime.resources import Resources
from shared.seats import keys
from shared.seats.connection import RedisConnection
from shared.seats.inspection import Inspection
from shared.seats.node import PAUSE_S
from shared.seats.projection import Clock, Projection
from shared.seats.watermark import Watermark
from tests import servers
from tests.builders import NOW, make_device, make_license
from tests.faults.redis_cluster import THIRDS, ClusterRedis, running_cluster
from tests.faults.redis_sentinel import SentinelRedis, connect, running_sentinel
from tests.integration.test_redis_restored import check, make_load, watch
from tests.platform import Platform, copied_database, open_platform

pytest_plugins = ["tests.platform"]

SEED = random.SystemRandom().getrandbits(32)


@pytest.fixture(scope="module")
def sentinel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelRedis]:
    with running_sentinel(tmp_path_factory.mktemp("sentinel")) as redis:
        yield redis


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterRedis]:
    with running_cluster(tmp_path_factory.mktemp("cluster")) as redis:
        yield redis


@pytest.fixture(params=["sentinel", "cluster"])
def redis(request: pytest.FixtureRequest) -> SentinelRedis | ClusterRedis:
    """Whole, and empty."""
    found: SentinelRedis | ClusterRedis = request.getfixturevalue(request.param)
    found.restart()
    for port in found.primaries:
        with connect(port) as client:
            client.flushall()
    return found


@pytest.fixture
async def served(
    postgres_server: servers.PostgresSource, template_database: str, redis: SentinelRedis | ClusterRedis
) -> AsyncIterator[Platform]:
    async with (
        copied_database(postgres_server, template_database) as database,
        open_platform(database, cast(RedisServer, redis)) as opened,
    ):
        yield opened


class Mirror:
    """A process with a projection of its own, without a pulse; its licenses lie in all parts of a Cluster."""

    def __init__(self, url: str) -> None:
        self.epoch = 1
        self.connection = RedisConnection(url)
        self.projection = Projection(self.connection, Clock(now_s=NOW.timestamp, epoch=lambda: self.epoch))
        self.watermark = Watermark(self.connection, self._raise_epoch)
        self.refs = [(uuid4(), uuid4()) for _ in range(60)]

    async def push(self, version: int = 1) -> None:
        licenses = [make_license(account_id=account, id=id, version=version) for account, id in self.refs]
        await self.projection.push(
            [Change(license=one, base_version=version - 1, devices=(make_device(),)) for one in licenses]
        )

    async def beat(self, seconds: float = 0.0) -> None:
        await self.watermark.keep(now=NOW + timedelta(seconds=seconds), epoch=lambda: self.epoch)

    async def known(self) -> list[bool]:
        """Of each license, whether Redis says something of it."""
        found = await asyncio.gather(*(self.projection.standing(*ref) for ref in self.refs))
        contacts = await asyncio.gather(*(self.projection.contact(*ref, make_device().id, 0) for ref in self.refs))
        known = [standing is not None for standing in found]
        assert [contact.known for contact in contacts] == known
        return known

    def third(self, ref: tuple[UUID, UUID]) -> int:
        slot = key_slot(keys.license_key(*ref))
        return next(number for number, (start, end) in enumerate(THIRDS) if start <= slot <= end)

    async def _raise_epoch(self, seen: int) -> None:
        assert seen == self.epoch
        self.epoch += 1


@pytest.fixture
async def mirror(redis: SentinelRedis | ClusterRedis) -> AsyncIterator[Mirror]:
    mirror = Mirror(redis.url)
    await mirror.beat()
    await mirror.push()
    assert all(await mirror.known())
    yield mirror
    await mirror.connection.close()


of_sentinel = pytest.mark.parametrize("redis", ["sentinel"], indirect=True)
of_cluster = pytest.mark.parametrize("redis", ["cluster"], indirect=True)


# --- Served -----------------------------------------------------------------------------------------------------


async def test_devices_are_served_and_redis_reflects_them(served: Platform) -> None:
    r, vendor, now = served.resources, await served.vendor(), int(time.time())
    grants = [await vendor.license(seats=2) for _ in range(12)]
    for grant in grants:
        seat = (await served.api.activate(grant.key, timestamp=now, nonce="n")).ok(201)
        assert (await served.api.activate(grant.key, "other", timestamp=now, nonce="n")).refusal == (409, "REPLAYED")
        (await served.api.heartbeat(seat["deviceToken"])).ok()
        assert (await served.api.validate(grant.key, "laptop")).ok()["valid"] is True
        assert (await served.api.validate(grant.key, "stranger")).json["code"] != "VALID"
    standings = await asyncio.gather(*(r.projection.standing(*grant.ref) for grant in grants))
    assert [one.seats_used if one else None for one in standings] == [1] * len(grants)
    assert await r.redis.call_one("turn", b"a-turn", [b"who", 100]) == 1


async def test_reconciliation_sees_every_license_and_sweeps_all_servers(served: Platform) -> None:
    r, vendor = served.resources, await served.vendor()
    grants = [await vendor.license() for _ in range(30)]
    for grant in grants:
        (await served.api.activate(grant.key)).ok(201)
    found = await _round(r)
    assert (found.looked_at, found.missing, found.drifted) == (30, 0, {})
    await served.rows("UPDATE license SET version = version + 1")
    assert (found := await _round(r)).repaired == 30, found
    assert (await _round(r)).drifted == {}
    await r.clock.raise_epoch(r.clock.epoch)
    assert (await _round(r)).outdated >= 30
    assert (await _round(r)).outdated == 0


async def _round(resources: Resources) -> Found:
    """A whole round, without the turn."""
    inspection = Inspection(resources.redis, lambda: resources.clock.epoch)
    round, total = Round(resources.pool, inspection, resources.projection, confirm_after_s=0.2), Found()
    assert await inspection.take_turn(b"tests")
    while (found := await round.step()) is not None:
        total.add(found)
    return total


@of_sentinel
async def test_nothing_is_taken_from_a_primary_that_refuses_the_watermark(mirror: Mirror, redis: SentinelRedis) -> None:
    with connect(redis.primary) as client:
        client.config_set("min-replicas-to-write", 2)  # it has one: as if it were cut off
        await mirror.beat(1)
        await asyncio.sleep(PAUSE_S)
        assert not any(await mirror.known())
        client.config_set("min-replicas-to-write", 0)
    await mirror.beat(2)
    assert all(await mirror.known())


# --- Primaries lost ---------------------------------------------------------------------------------------------


async def test_a_killed_primary_is_survived_under_load(served: Platform, redis: SentinelRedis | ClusterRedis) -> None:
    load = await make_load(served, await served.vendor(), random.Random(SEED))
    epoch = served.resources.clock.epoch

    def kill() -> None:
        redis.fail_over(wait=False) if isinstance(redis, SentinelRedis) else redis.kill_primary(0, wait=False)

    await watch(load, kill)

    assert served.resources.clock.epoch > epoch, "what the new primary lacks was not noticed"
    await check(load, f"SEED={SEED} a primary killed", silent=set())
    assert served.resources.redis.reachable


async def test_a_replica_that_became_the_primary_counts_as_set_back(
    mirror: Mirror, redis: SentinelRedis | ClusterRedis
) -> None:
    began = mirror.epoch
    redis.fail_over(kill=False) if isinstance(redis, SentinelRedis) else redis.hand_over(1)
    await asyncio.sleep(PAUSE_S)
    await mirror.beat(1)
    assert mirror.epoch == began + 1
    assert not any(await mirror.known())
    await mirror.push(2)
    await mirror.beat(2)
    assert mirror.epoch == began + 1
    assert all(await mirror.known())


@of_cluster
async def test_keys_that_have_another_primary_are_found_there_at_once(mirror: Mirror, redis: ClusterRedis) -> None:
    redis.hand_over(2)
    assert all(await mirror.known())
    await mirror.push(2)
    standings = await asyncio.gather(*(mirror.projection.standing(*ref) for ref in mirror.refs))
    assert {one.version if one else None for one in standings} == {2}


@of_cluster
async def test_one_primary_away_leaves_the_answers_of_the_others_as_they_are(
    mirror: Mirror, redis: ClusterRedis
) -> None:
    third = 0
    stopped = redis.server(redis.primary(third)).pid
    os.kill(stopped, signal.SIGSTOP)
    try:
        began = time.monotonic()
        known = await mirror.known()
        assert time.monotonic() - began < 1.0
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert known == [mirror.third(ref) != third for ref in mirror.refs]
    await mirror.push(2)  # while it rests, its licenses are missed
    await asyncio.sleep(PAUSE_S)
    assert await mirror.known() == [mirror.third(ref) != third for ref in mirror.refs]
    await mirror.projection.repair()
    await mirror.push(3)
    assert all(await mirror.known())


@of_cluster
async def test_one_shard_that_was_emptied_is_noticed_though_the_others_are_fine(
    mirror: Mirror, redis: ClusterRedis
) -> None:
    began = mirror.epoch
    await mirror.beat(1)
    assert mirror.epoch == began
    with connect(redis.primary(1)) as client:
        client.flushall()
    await mirror.beat(2)
    assert mirror.epoch == began + 1
    await mirror.beat(3)
    assert mirror.epoch == began + 1

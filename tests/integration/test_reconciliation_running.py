"""Reconciliation beside the traffic: nothing is taken for drift that is only on its way, whatever comes and goes."""

import asyncio
import random
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from services.standalone.embedded import RedisServer
from shared.ledger.reader import LicenseRef
from shared.licensing.model import Activate, Extend, Release, device_id
from shared.runtime.background import background
from shared.runtime.reconciliation import Found, Reconciler, Round
from shared.runtime.resources import Resources, open_resources
from shared.runtime.sections import Reconciliation
from shared.seats import inspection as inspecting
from shared.seats import keys
from shared.seats.inspection import Inspection
from tests.builders import add_licenses, ask, floating
from tests.conftest import Database
from tests.integration.admin_process import ROLE, Admin, admin_of
from tests.integration.test_reconciliation import PLANTS, contents, held, is_right, plant
from tests.invariants import check_invariants
from tests.platform import Services, eventually, open_api, open_gates, settings_for

pytest_plugins = ["tests.platform"]

HEARTBEAT, ACTIVATION = "seatkeeper_heartbeat", "seatkeeper_activation"
FAST = Reconciliation(licenses_per_s=100_000, round_s=0.1)


@asynccontextmanager
async def service(dsn: str, redis_url: str) -> AsyncIterator[Resources]:
    async with open_resources(settings_for(dsn, redis_url), application="test") as resources:
        yield resources


def inspection(resources: Resources) -> Inspection:
    return Inspection(resources.redis, lambda: resources.clock.epoch)


def reconciler(resources: Resources, settings: Reconciliation = FAST, *, confirm_after_s: float = 0.2) -> Reconciler:
    r = resources
    return Reconciler(r.pool, inspection(r), r.projection, r.metrics, settings, confirm_after_s=confirm_after_s)


def metric(resources: Resources, name: str, **labels: str) -> float:
    return resources.metrics.registry.get_sample_value(f"seatkeeper_{name}", labels) or 0.0


def drifted(resources: Resources) -> dict[str, float]:
    samples = (
        sample
        for family in resources.metrics.registry.collect()
        if family.name == "seatkeeper_drift"
        for sample in family.samples
        if sample.name.endswith("_total")
    )
    return {sample.labels["kind"]: sample.value for sample in samples if sample.value}


async def wait_for(holds: Callable[[], object], *, within_s: float = 15.0) -> None:
    async def check() -> object:
        return holds()

    await eventually(check, within_s=within_s)


async def seats(resources: Resources, refs: list[LicenseRef], *fingerprints: str) -> None:
    for fingerprint in fingerprints:
        await asyncio.gather(*(resources.ledger.submit(ask(Activate, fingerprint, ref=ref)) for ref in refs))


# --- Under load -----------------------------------------------------------------------------------------------


async def test_under_a_running_load_nothing_is_taken_for_drift(database: Database, redis_url: str) -> None:
    """Two processes move seats and leases of licenses that often rest just as long as a second look waits."""
    refs = await add_licenses(database, 150, seats=4) + await add_licenses(database, 50, seats=4, terms=floating())
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        first, second, looking = [
            await stack.enter_async_context(service(database.dsn_for(role), redis_url))
            for role in (ACTIVATION, HEARTBEAT, HEARTBEAT)
        ]
        await seats(first, refs, "a", "b", "c")
        moves = [asyncio.create_task(move_seats(one, refs, stop)) for one in (first, second) for _ in range(8)]
        total, rounds, suspected, until = Found(), 0, 0, time.monotonic() + 6
        while time.monotonic() < until:
            round = Round(looking.pool, inspection(looking), looking.projection, page=20, confirm_after_s=0.05)
            while (found := await round.step()) is not None:
                total.add(found)
                suspected += len(round._suspects)
            rounds += 1
        stop.set()
        moved = sum(await asyncio.gather(*moves))
        assert moved > 500
        assert rounds > 5
        assert suspected > 0  # or nothing was met on its way, and this test tells nothing
        assert total.drifted == {}
        assert [await agrees(looking, ref) for ref in refs] == [True] * len(refs)
    await check_invariants(database)


async def move_seats(resources: Resources, refs: list[LicenseRef], stop: asyncio.Event) -> int:
    moved = 0
    while not stop.is_set():
        kind: Any = random.choice([Activate, Release, Extend, Extend])
        await resources.ledger.submit(ask(kind, random.choice("abcd"), ref=random.choice(refs)))
        moved += 1
    return moved


async def agrees(resources: Resources, ref: LicenseRef) -> bool:
    """Whether Redis says nothing of this license that Postgres does not hold."""
    change = await held(resources, ref)
    async with Redis.from_url(_url(resources), protocol=2) as client:
        fields = await contents(client, ref)
    expected = {keys.device_field(device.id) for device in change.devices} | {keys.HEADER_FIELD}
    return (
        fields[keys.HEADER_FIELD] == keys.pack_header(resources.clock.epoch, change.license)
        and fields.keys() <= expected
    )


def _url(resources: Resources) -> str:
    options = resources.redis.client.connection_pool.connection_kwargs
    return f"unix://{options['path']}" if "path" in options else f"redis://{options['host']}:{options['port']}/0"


# --- In the background ----------------------------------------------------------------------------------------


async def test_drift_is_repaired_in_the_background_and_counted(database: Database, redis_url: str) -> None:
    refs = await add_licenses(database, 30)
    async with (
        service(database.dsn_for(HEARTBEAT), redis_url) as resources,
        Redis.from_url(redis_url, protocol=2) as client,
    ):
        await seats(resources, refs, "a")
        async with background(reconciler(resources).run):
            for ref in refs[:3]:
                await plant(resources, client, ref, PLANTS["a device that never was"][1])
            await plant(resources, client, refs[4], PLANTS["a floor past the lease"][1])
            await wait_for(lambda: metric(resources, "drift_repaired_total") == 4)
            await wait_for(lambda: metric(resources, "reconciliation_round_seconds") > 0)
        assert drifted(resources) == {"seatless": 3, "floor": 1}
        assert [await is_right(resources, client, ref) for ref in refs] == [True] * 30


async def test_it_takes_its_time(database: Database, redis_url: str) -> None:
    refs = await add_licenses(database, 100)
    async with service(database.dsn_for(HEARTBEAT), redis_url) as resources:
        await seats(resources, refs, "a")
        settings = Reconciliation(licenses_per_s=50, round_s=60)
        async with background(reconciler(resources, settings).run):
            began = time.monotonic()
            await wait_for(lambda: metric(resources, "reconciliation_round_seconds") > 0)
            assert 2.0 <= time.monotonic() - began < 8.0


async def test_one_process_looks_at_a_time_and_another_goes_on_when_it_ends(
    database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspecting, "TURN_S", 1.0)
    monkeypatch.setattr("shared.runtime.reconciliation.RETRY_S", 0.1)
    refs = await add_licenses(database, 20)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Redis.from_url(redis_url, protocol=2))
        first, second = [
            await stack.enter_async_context(service(database.dsn_for(HEARTBEAT), redis_url)) for _ in range(2)
        ]
        other = reconciler(second)
        await seats(first, refs, "a")
        async with background(reconciler(first).run):
            await wait_for(lambda: metric(first, "reconciliation_round_seconds") > 0)
            async with background(other.run):
                holder = await client.get(keys.RECONCILER)
                await asyncio.sleep(1.5)
                assert await client.get(keys.RECONCILER) == holder
                assert metric(second, "reconciliation_round_seconds") == 0
        await plant(second, client, refs[0], PLANTS["another limit"][1])
        async with background(other.run):
            await wait_for(lambda: metric(second, "drift_repaired_total") == 1, within_s=5)


@pytest.mark.parametrize("what", ["redis", "postgres"])
async def test_servers_that_go_away_in_the_middle_are_waited_for(
    database: Database, private_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr("shared.runtime.reconciliation.RETRY_S", 0.1)
    refs = await add_licenses(database, 40)
    async with (
        open_gates(database, private_redis) as gates,
        service(gates.postgres_dsn, gates.redis_url) as resources,
        Redis.from_url(private_redis.url, protocol=2) as client,
    ):
        await seats(resources, refs, "a")
        for ref in refs[-3:]:
            await plant(resources, client, ref, PLANTS["another limit"][1])
        settings = Reconciliation(licenses_per_s=40, round_s=60)
        async with background(reconciler(resources, settings).run):
            await asyncio.sleep(0.3)
            gate = gates.redis if what == "redis" else gates.postgres
            await gate.shut()
            await asyncio.sleep(2)
            assert drifted(resources) == {}
            await gate.open()
            await wait_for(lambda: metric(resources, "drift_repaired_total") == 3)
        assert drifted(resources) == {"header": 3}
        assert [await is_right(resources, client, ref) for ref in refs] == [True] * 40


async def test_a_redis_that_was_emptied_in_the_middle_is_no_drift(
    database: Database, private_redis: RedisServer
) -> None:
    """What was seen before is gone, the epoch rises, and seats go on moving."""
    refs = await add_licenses(database, 60)
    async with (
        service(database.dsn_for(HEARTBEAT), private_redis.url) as resources,
        Redis.from_url(private_redis.url, protocol=2) as client,
    ):
        await seats(resources, refs, "a")
        for ref in refs[:20]:
            await plant(resources, client, ref, PLANTS["another limit"][1])
        stop = asyncio.Event()
        async with background(reconciler(resources, confirm_after_s=3.0).run):
            moving = asyncio.create_task(move_seats(resources, refs, stop))
            await asyncio.sleep(0.5)
            epoch = resources.clock.epoch
            await client.flushall()
            await wait_for(lambda: resources.clock.epoch > epoch)
            await asyncio.sleep(4)
            stop.set()
            await moving
        assert drifted(resources) == {}


# --- As operators have it -------------------------------------------------------------------------------------


async def test_the_heartbeat_service_reconciles_and_says_so(
    services: Services, database: Database, redis_url: str
) -> None:
    (ref,) = await add_licenses(database, 1)
    heartbeat = services.start("heartbeat", changes={"reconciliation": {"round_s": 0.1}})
    await heartbeat.ready()
    async with (
        service(database.dsn_for(ACTIVATION), redis_url) as resources,
        Redis.from_url(redis_url, protocol=2) as client,
        open_api(heartbeat.health_url) as health,
    ):
        await seats(resources, [ref], "a", "gone")
        await resources.ledger.submit(ask(Release, "gone", ref=ref))
        await plant(resources, client, ref, PLANTS["a released device"][1])

        async def is_repaired() -> bool:
            return await is_right(resources, client, ref)

        await eventually(is_repaired, within_s=20)
        text = (await health.ask("GET", "/metrics")).body.decode()
    assert re.search(r'^seatkeeper_drift_total\{kind="seatless"\} 1\.0$', text, re.M)
    assert re.search(r'^seatkeeper_drift_total\{kind="version"\} 0\.0$', text, re.M)
    assert re.search(r"^seatkeeper_drift_repaired_total 1\.0$", text, re.M)
    assert re.search(r"^seatkeeper_reconciliation_round_seconds [0-9.]+$", text, re.M)
    (line,) = [line for line in heartbeat.log() if line["event"] == "projection.drift"]
    field = keys.device_field(device_id(ref[1], "gone")).hex()
    assert (
        line.items() >= {"license_id": str(ref[1]), "version": 4, "drift_seatless": f"{field}: holds no seat"}.items()
    )
    assert await heartbeat.stop() == 0


async def test_none_is_looked_at_where_that_is_switched_off(
    services: Services, database: Database, redis_url: str
) -> None:
    heartbeat = services.start("heartbeat", changes={"reconciliation": {"licenses_per_s": 0}})
    await heartbeat.ready()
    async with open_api(heartbeat.health_url) as health:
        assert "reconciliation_round" not in (await health.ask("GET", "/metrics")).body.decode()
    assert await heartbeat.stop() == 0


@pytest.fixture
def admin(database: Database, redis_url: str) -> Admin:
    return admin_of(database, redis_url)


async def test_an_operator_reconciles_on_command(admin: Admin, database: Database, redis_url: str) -> None:
    refs = await add_licenses(database, 3)
    async with (
        service(database.dsn_for(ROLE), redis_url) as resources,
        Redis.from_url(redis_url, protocol=2) as client,
    ):
        await seats(resources, refs[:2], "a")
        await plant(resources, client, refs[0], PLANTS["another limit"][1])
        before = await contents(client, refs[0])
        dry, plain = await admin.at_once(("reconcile", "--dry-run", "--json"), ("reconcile", "--dry-run"))
        drift = {"version": 0, "header": 1, "generation": 0, "seatless": 0, "floor": 0}
        counts = {"licenses": 3, "missing": 1, "drifted": drift, "outdatedKeys": 0}
        assert dry.json == {**counts, "repaired": 0}
        assert (plain.code, plain.err) == (0, "")
        assert "licenses" in plain.out
        assert await contents(client, refs[0]) == before
        assert (await admin("reconcile", "--json")).json == {**counts, "repaired": 1}
        assert await is_right(resources, client, refs[0])
        assert (await admin("reconcile", "--json")).json["drifted"] == dict.fromkeys(drift, 0)


async def test_without_redis_an_operator_is_told_so(admin: Admin, database: Database) -> None:
    await add_licenses(database, 1)
    line = (await admin("reconcile", SEATKEEPER_REDIS_URL="redis://127.0.0.1:1/0")).refused()
    assert "Redis is out of reach" in line

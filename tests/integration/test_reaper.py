"""The reaper on a simulated clock: it announces, then frees, and nobody who was heard or may still come back."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from prometheus_client import CollectorRegistry

from services.reaper.app import reap
from services.reaper.guard import Guard
from services.reaper.reap import Pass
from services.reaper.settings import Reaper
from services.reaper.worker import Worker
from shared.licensing.facts import Fact
from shared.licensing.model import Expire, Kind, Reinstate, Revoke, Suspend
from shared.runtime.background import background
from shared.runtime.metrics import Metrics
from tests.platform import Grant, Platform, eventually, snapshot

pytest_plugins = ["tests.platform"]

DAY_S = 86_400


async def seat(platform: Platform, grant: Grant, fingerprint: str = "silent") -> UUID:
    return UUID((await platform.api.activate(grant.key, fingerprint)).ok(201)["deviceId"])


async def pass_at(platform: Platform, *, days: float = 0, hours: float = 0) -> Pass:
    await platform.move_clock(days=days, hours=hours)
    done = await platform.standalone.reap()
    assert done.failed == 0
    return done


async def told(platform: Platform, kind: str) -> list[Fact]:
    await platform.standalone.relay.drain()
    return [fact for fact in platform.facts if fact.type == kind]


async def state(platform: Platform, device: UUID) -> str:
    return str((await platform.device(str(device)))["state"])


async def test_a_silent_device_is_freed_a_day_past_its_ninety_and_not_before(fresh_platform: Platform) -> None:
    platform = fresh_platform
    grant = await (await platform.vendor()).license()
    token = (await platform.api.activate(grant.key)).ok(201)["deviceToken"]

    for days in (1, 45, 89.9, 90, 90.99):
        assert (await pass_at(platform, days=days)).freed == 0
        assert await platform.seats_used(grant) == 1
    assert (await pass_at(platform, days=91.01)).freed == 1

    assert await platform.seats_used(grant) == 0
    refused = await platform.api.heartbeat(token)
    assert (*refused.refusal, refused.json["reason"]) == (410, "LEASE_LOST", "idle")
    assert (await pass_at(platform, days=92)).freed == 0
    (fact,) = await told(platform, "device.released")
    assert (fact.reason, fact.seats_used, fact.device and fact.device.fingerprint) == ("idle", 0, "laptop")
    (row,) = await platform.rows("SELECT actor, reason FROM audit WHERE event = 'device.released'")
    assert row == {"actor": "reaper", "reason": "idle"}


async def test_the_end_is_announced_once_a_week_before(fresh_platform: Platform) -> None:
    platform = fresh_platform
    grant = await (await platform.vendor()).license()
    device = await seat(platform, grant)

    assert [(await pass_at(platform, days=days)).announced for days in (82.9, 84, 84, 86, 90)] == [0, 1, 0, 0, 0]

    (fact,) = await told(platform, "lease.expiring")
    assert fact.device is not None
    assert (fact.device.id, fact.seats_used) == (device, 1)
    assert fact.device.lease_expires_at == (await platform.device(str(device)))["lease_expires_at"]
    assert await state(platform, device) == "active"


async def test_a_device_that_is_heard_after_the_announcement_keeps_its_seat(fresh_platform: Platform) -> None:
    platform = fresh_platform
    grant = await (await platform.vendor()).license()
    answer = (await platform.api.activate(grant.key)).ok(201)
    assert (await pass_at(platform, days=84)).announced == 1

    (await platform.api.heartbeat(answer["deviceToken"])).ok()

    assert (await pass_at(platform, days=120)) == Pass()
    assert (await pass_at(platform, days=84 + 84)).announced == 1
    assert (await pass_at(platform, days=84 + 91.1)).freed == 1


async def test_only_the_silent_ones_are_freed(fresh_platform: Platform) -> None:
    platform = fresh_platform
    grant = await (await platform.vendor()).license(seats=3)
    heard = (await platform.api.activate(grant.key, "heard")).ok(201)
    silent = await seat(platform, grant)
    await platform.move_clock(days=45)
    (await platform.api.heartbeat(heard["deviceToken"])).ok()

    assert (await pass_at(platform, days=92)).freed == 1

    assert (await state(platform, silent), await state(platform, UUID(heard["deviceId"]))) == ("released", "active")
    (await platform.api.heartbeat(heard["deviceToken"])).ok()


async def test_a_floating_seat_is_freed_as_soon_as_its_minutes_are_over(fresh_platform: Platform) -> None:
    platform = fresh_platform
    grant = await (await platform.vendor()).license(kind=Kind.FLOATING, seats=1)
    token = (await platform.api.activate(grant.key)).ok(201)["deviceToken"]

    assert (await pass_at(platform, hours=9 / 60)) == Pass()
    assert (await pass_at(platform, hours=10.1 / 60)).freed == 1

    (await platform.api.activate(grant.key, "another")).ok(201)
    refused = await platform.api.heartbeat(token)
    assert (*refused.refusal, refused.json["reason"]) == (410, "LEASE_LOST", "lease_expired")
    assert await told(platform, "lease.expiring") == []


@pytest.mark.parametrize(
    ("lease_s", "announced_after_h", "freed_after_h"),
    [(DAY_S, 21.6, 48), (30 * DAY_S, 27 * 24, 31 * 24), (365 * DAY_S, 358 * 24, 366 * 24)],
)
async def test_the_policy_says_how_long_a_device_may_be_silent(
    fresh_platform: Platform, lease_s: int, announced_after_h: float, freed_after_h: float
) -> None:
    platform = fresh_platform
    await seat(platform, await (await platform.vendor()).license(lease_s=lease_s))

    assert (await pass_at(platform, hours=announced_after_h - 0.1)) == Pass()
    assert (await pass_at(platform, hours=announced_after_h + 0.1)).announced == 1
    assert (await pass_at(platform, hours=freed_after_h - 0.1)).freed == 0
    assert (await pass_at(platform, hours=freed_after_h + 0.1)).freed == 1


async def test_a_suspended_license_keeps_its_seats_until_it_is_reinstated(fresh_platform: Platform) -> None:
    platform = fresh_platform
    vendor = await platform.vendor()
    grant = await vendor.license()
    device = await seat(platform, grant)
    await vendor.licenses.set_status(grant.ref, Suspend)

    assert (await pass_at(platform, days=84)) == Pass()
    assert (await pass_at(platform, days=200)) == Pass()
    assert await state(platform, device) == "active"

    await vendor.licenses.set_status(grant.ref, Reinstate)
    assert (await pass_at(platform, days=200)).freed == 1


async def test_silent_devices_of_revoked_and_expired_licenses_are_freed(fresh_platform: Platform) -> None:
    platform = fresh_platform
    vendor = await platform.vendor()
    revoked = await vendor.license()
    expired = await vendor.license(expires_at=datetime.now(UTC) + timedelta(days=10))
    devices = [await seat(platform, grant) for grant in (revoked, expired)]
    await vendor.licenses.set_status(revoked.ref, Revoke)

    assert (await pass_at(platform, days=92)).freed == 2
    assert [await state(platform, device) for device in devices] == ["released", "released"]


async def test_a_pass_goes_through_every_page(fresh_platform: Platform) -> None:
    platform = fresh_platform
    grant = await (await platform.vendor()).license(seats=7)
    for number in range(7):
        await seat(platform, grant, f"device-{number}")
    await platform.move_clock(days=92)
    small = reap(platform.resources, Reaper(page=2))

    assert len((await small.plan()).devices) == 7
    done = await small()

    assert (done.announced, done.freed, done.failed) == (7, 7, 0)
    assert await platform.seats_used(grant) == 0


async def test_several_reapers_at_once_free_each_device_once(fresh_platform: Platform) -> None:
    platform = fresh_platform
    vendor = await platform.vendor()
    grants = [await vendor.license(seats=5) for _ in range(4)]
    for grant in grants:
        for number in range(5):
            await seat(platform, grant, f"device-{number}")
    await platform.move_clock(days=92)

    passes = await asyncio.gather(*(platform.standalone.reap() for _ in range(4)))

    assert (sum(done.freed for done in passes), sum(done.failed for done in passes)) == (20, 0)
    (found,) = await platform.rows("SELECT count(*) AS n FROM audit WHERE event = 'device.released'")
    assert found["n"] == 20
    assert [await platform.seats_used(grant) for grant in grants] == [0] * 4


async def test_a_reaper_that_was_paused_frees_nobody_who_was_heard_since(fresh_platform: Platform) -> None:
    platform = fresh_platform
    grant = await (await platform.vendor()).license()
    answer = (await platform.api.activate(grant.key)).ok(201)
    await platform.move_clock(days=92)
    (stale,) = (await platform.standalone.reap.plan()).devices
    (await platform.api.heartbeat(answer["deviceToken"])).ok()

    await platform.resources.ledger.submit(
        Expire(
            account_id=stale.account_id,
            license_id=stale.license_id,
            actor="reaper",
            device_id=stale.device_id,
            generation=stale.generation,
        )
    )

    assert await platform.seats_used(grant) == 1
    (await platform.api.heartbeat(answer["deviceToken"])).ok()


async def test_a_plan_names_the_devices_and_changes_nothing(fresh_platform: Platform) -> None:
    platform = fresh_platform
    vendor = await platform.vendor()
    grant = await vendor.license(customer="Ada")
    device = await seat(platform, grant)
    await seat(platform, await vendor.license(), "also silent")
    await platform.move_clock(days=92)
    before = await snapshot(platform.database)

    planned = (await platform.standalone.reap.plan()).devices

    assert len(planned) == 2
    (ours,) = [candidate for candidate in planned if candidate.device_id == device]
    assert (ours.customer, ours.generation, ours.license_id) == ("Ada", 1, grant.id)
    assert grant.key.replace("-", "").startswith(ours.key_prefix)
    assert await snapshot(platform.database) == before


async def test_the_freed_seat_serves_another_and_the_device_may_come_back(fresh_platform: Platform) -> None:
    platform = fresh_platform
    grant = await (await platform.vendor()).license(seats=1)
    await seat(platform, grant)
    assert (await pass_at(platform, days=92)).freed == 1

    other = (await platform.api.activate(grant.key, "other")).ok(201)
    assert (await platform.api.activate(grant.key, "silent")).refusal == (403, "DEVICE_LIMIT_EXCEEDED")
    (await platform.api.deactivate(grant.key, other["deviceId"])).ok()

    assert (await platform.api.activate(grant.key, "silent")).ok(201)["generation"] == 2


async def test_the_worker_goes_on_after_an_outage(gated_platform: Platform) -> None:
    platform = gated_platform
    assert platform.gates is not None
    grant = await (await platform.vendor()).license()
    await seat(platform, grant)
    await platform.move_clock(days=92)
    await platform.gates.postgres.shut()
    metrics = Metrics(CollectorRegistry())

    async def has_freed_one() -> bool:
        return b"seatkeeper_reaper_freed_total 1.0" in metrics.render()

    pool = platform.resources.pool
    guard, stamp = Guard(pool, clock_may_jump=True), platform.resources.trail_stamp
    worker = Worker(platform.standalone.reap, guard, pool, metrics, stamp, interval_s=0.1)
    async with background(worker.run):
        await asyncio.sleep(0.5)
        assert await platform.seats_used(grant) == 1
        await platform.gates.postgres.open()
        await eventually(has_freed_one)

    assert await platform.seats_used(grant) == 0

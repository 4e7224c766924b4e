"""Floating leases, freed within two seconds of their end, by a reaper whose regular passes are an hour apart."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.reaper import floating
from services.reaper.floating import FloatingLeases
from shared.facts.amqp import Publisher
from shared.facts.topology import REAPER
from shared.ledger.ledger import Ledger
from shared.licensing.facts import decode, encode
from shared.licensing.model import Activate, Decision, Granted, Kind, Reason, Reinstate, Release, Suspend
from shared.runtime.background import background
from shared.runtime.resources import Resources, open_resources
from tests.conftest import Database
from tests.facts import make_fact, new_ref, until, until_empty
from tests.invariants import check_invariants
from tests.platform import Grant, Platform, Services, Vendor, eventually, open_api, rows, settings_for

pytest_plugins = ["tests.platform", "tests.rabbitmq"]

SOON = timedelta(seconds=2)
HOURLY = {"reaper": {"interval_s": 3600}}


def over(facts_url: str) -> dict[str, dict[str, Any]]:
    return {"rabbitmq": {"url": facts_url}} | HOURLY


async def lease_end(database: Database, id: UUID | str) -> datetime:
    (found,) = await rows(database, "SELECT state, lease_expires_at FROM device WHERE id = $1", UUID(str(id)))
    assert found["state"] == "active"
    end: datetime = found["lease_expires_at"]
    return end


async def endings(database: Database) -> list[dict[str, Any]]:
    """The seats that ended, and when by the audit."""
    return await rows(
        database,
        "SELECT device_id, generation, actor, reason, at FROM audit WHERE event = 'device.released' ORDER BY version",
    )


async def freed_in_time(database: Database, ends: dict[UUID, datetime]) -> None:
    """The reaper frees each of these seats once, not before its end and within two seconds of it."""

    async def all_ended() -> bool:
        return len(await endings(database)) >= len(ends)

    await eventually(all_ended, within_s=10)
    found = {row["device_id"]: row for row in await endings(database)}
    assert found.keys() == ends.keys()
    for id, row in found.items():
        assert (row["actor"], row["reason"]) == ("reaper", "lease_expired")
        assert ends[id] <= row["at"] <= ends[id] + SOON, (ends[id], row["at"])
    assert len(await endings(database)) == len(ends)
    await check_invariants(database)


# --- Separate services ------------------------------------------------------------------------------------------


async def test_a_lease_is_freed_within_two_seconds_of_its_end_and_not_while_heartbeats_extend_it(
    services: Services, vendor: Vendor, database: Database, facts_url: str
) -> None:
    grant = await vendor.license(kind=Kind.FLOATING, lease_s=2)
    names = ("activation", "heartbeat", "reaper")
    activation, heartbeat, reaper = (services.start(name, changes=over_for(name, facts_url)) for name in names)
    for service in (activation, heartbeat, reaper):
        await service.ready()

    async with open_api(activation.url) as api, open_api(heartbeat.url) as beats:
        heard = (await api.activate(grant.key, "heard")).ok(201)
        silent = (await api.activate(grant.key, "silent")).ok(201)
        ends = {UUID(silent["deviceId"]): await lease_end(database, silent["deviceId"])}
        for _ in range(7):
            (await beats.heartbeat(heard["deviceToken"])).ok()
            await asyncio.sleep(0.5)
        assert {row["device_id"] for row in await endings(database)} == ends.keys()
        ends[UUID(heard["deviceId"])] = await lease_end(database, heard["deviceId"])

        await freed_in_time(database, ends)

        for name in ("one", "two", "three"):
            (await api.activate(grant.key, name)).ok(201)
        assert (await beats.heartbeat(heard["deviceToken"])).refusal == (410, "LEASE_LOST")
    assert await reaper.stop() == 0
    assert [line for line in reaper.log() if line["level"] not in ("debug", "info")] == []


def over_for(name: str, facts_url: str) -> dict[str, dict[str, Any]]:
    changes = over(facts_url)
    return changes if name == "reaper" else {"rabbitmq": changes["rabbitmq"]}


async def test_without_facts_a_lease_that_is_new_waits_for_the_regular_pass(
    services: Services, vendor: Vendor, database: Database
) -> None:
    """What the other tests would see if facts did nothing."""
    grant = await vendor.license(kind=Kind.FLOATING, lease_s=1)
    async with leases_of(database, services) as (_, leases), background(leases.run):
        await asyncio.sleep(0.2)

        await vendor.seat(grant, "laptop")
        await asyncio.sleep(1 + SOON.total_seconds())

        assert await endings(database) == []


async def test_a_reaper_that_starts_later_finds_the_leases_there_are(
    services: Services, vendor: Vendor, database: Database
) -> None:
    """Without facts, so that it can know of them only by looking."""
    grant = await vendor.license(kind=Kind.FLOATING, seats=3, lease_s=3)
    ids = [await vendor.seat(grant, name) for name in ("one", "two", "three")]
    ends = {id: await lease_end(database, id) for id in ids}
    kept = await vendor.seat(await vendor.license(), "node-locked")

    reaper = await services.start("reaper", changes=HOURLY).ready()

    await freed_in_time(database, ends)
    await lease_end(database, kept)
    assert await reaper.stop() == 0


async def test_two_reapers_free_each_lease_once(
    services: Services, vendor: Vendor, database: Database, facts_url: str
) -> None:
    reapers = [services.start("reaper", changes=over(facts_url)) for _ in range(2)]
    for reaper in reapers:
        await reaper.ready()
    grants = [await vendor.license(kind=Kind.FLOATING, seats=4, lease_s=2) for _ in range(3)]

    ids = [await vendor.seat(grant, f"device-{number}") for grant in grants for number in range(4)]

    await freed_in_time(database, {id: await lease_end(database, id) for id in ids})
    assert [await reaper.stop() for reaper in reapers] == [0, 0]


async def test_repeated_late_and_foreign_facts_free_nothing_that_is_held(
    services: Services, vendor: Vendor, database: Database, facts_url: str
) -> None:
    grant = await vendor.license(kind=Kind.FLOATING, seats=2, lease_s=2)
    reaper = await services.start("reaper", changes=over(facts_url)).ready()
    id = await vendor.seat(grant, "laptop")
    await release(services, vendor, database, grant, id)
    assert await vendor.seat(grant, "laptop") == id  # its second generation
    end = await lease_end(database, id)

    facts = [row["fact"] for row in await rows(database, "SELECT fact FROM outbox ORDER BY id")]
    unknown = encode(make_fact(ref=new_ref(), kind=Kind.FLOATING))
    await published(facts_url, [unknown, *reversed(facts), *facts, *facts])
    await until_empty(facts_url, REAPER.queue)

    async def freed() -> bool:
        return len(await endings(database)) > 1

    await eventually(freed)
    given_back, idle = await endings(database)
    assert (given_back["generation"], given_back["reason"]) == (1, "user")
    assert (idle["generation"], idle["reason"]) == (2, "lease_expired")
    assert end <= idle["at"] <= end + SOON
    await published(facts_url, facts)
    await asyncio.sleep(1.0)
    assert len(await endings(database)) == 2
    await check_invariants(database)
    assert await reaper.stop() == 0
    assert [line for line in reaper.log() if line["event"] == "reaper.command_failed"] == []


async def release(services: Services, vendor: Vendor, database: Database, grant: Grant, id: UUID) -> None:
    async with leases_of(database, services) as (resources, _):
        await resources.ledger.submit(
            Release(account_id=grant.account, license_id=grant.id, actor="device", device_id=id, reason=Reason.USER)
        )


async def published(url: str, facts: list[str]) -> None:
    publisher = Publisher(url, name="tests")
    await publisher.publish(facts)
    await publisher.close()


# --- In this process --------------------------------------------------------------------------------------------


@asynccontextmanager
async def leases_of(database: Database, services: Services) -> AsyncIterator[tuple[Resources, FloatingLeases]]:
    """The reaper's role and its floating leases, which nobody tells of facts but the test."""
    dsn, redis_url = database.dsn_for("seatkeeper_reaper"), services.settings["redis"]["url"]
    async with open_resources(settings_for(dsn, redis_url), application="tests") as resources:
        yield resources, FloatingLeases(resources.pool, resources.ledger, resources.clock)


async def test_a_suspended_license_is_left_alone_until_it_is_reinstated(
    services: Services, vendor: Vendor, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("LOOK_EVERY_S", 0.05), ("TRY_AGAIN_S", 0.1), ("FORGET_S", 0.1)):
        monkeypatch.setattr(floating, name, seconds)
    grant = await vendor.license(kind=Kind.FLOATING, lease_s=1)
    id = await vendor.seat(grant, "laptop")
    await vendor.licenses.set_status(grant.ref, Suspend)
    end = await lease_end(database, id)
    async with leases_of(database, services) as (resources, leases):
        asked = counted(resources.ledger, monkeypatch)
        async with background(leases.run):
            await until(lambda: resources.clock.now() > end + timedelta(seconds=0.6))
            assert asked
            asked.clear()
            await asyncio.sleep(0.5)
            assert asked == []

            reinstated_at = resources.clock.now()
            await vendor.licenses.set_status(grant.ref, Reinstate)
            (row,) = await rows(database, "SELECT fact FROM outbox ORDER BY id DESC LIMIT 1")
            await leases([decode(row["fact"])])

            await freed_in_time(database, {id: reinstated_at})


def counted(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The commands that the ledger is given from now on."""
    commands: list[object] = []
    submit = ledger.submit

    async def noted(command: Any) -> Decision:
        commands.append(command)
        return await submit(command)

    monkeypatch.setattr(ledger, "submit", noted)
    return commands


async def test_many_leases_that_end_together_are_all_freed_in_time(
    services: Services, vendor: Vendor, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(floating, "BATCH", 20)
    grant = await vendor.license(kind=Kind.FLOATING, seats=200, lease_s=2)
    async with leases_of(database, services) as (resources, leases):
        answers = await asyncio.gather(*(resources.ledger.submit(activate(grant)) for _ in range(200)))
        assert all(isinstance(decision.answer, Granted) for decision in answers)
        ids = [row["id"] for row in await rows(database, "SELECT id FROM device")]
        ends = {id: await lease_end(database, id) for id in ids}
        async with background(leases.run):
            await freed_in_time(database, ends)


def activate(grant: Grant) -> Activate:
    id = uuid4()
    return Activate(
        account_id=grant.account, license_id=grant.id, actor="device", device_id=id, fingerprint=f"device {id}"
    )


# --- The standalone ---------------------------------------------------------------------------------------------


async def test_the_standalone_frees_floating_leases_too(platform: Platform) -> None:
    grant = await (await platform.vendor()).license(kind=Kind.FLOATING, lease_s=2)
    ids = [UUID((await platform.api.activate(grant.key, name)).ok(201)["deviceId"]) for name in ("one", "two")]

    await freed_in_time(platform.database, {id: await lease_end(platform.database, id) for id in ids})

    assert (await platform.api.activate(grant.key, "one")).ok(201)["generation"] == 2

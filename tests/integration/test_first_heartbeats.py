"""Many devices heard for the first time after Redis was emptied: a few large reads, and no lock, for all of them."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
import redis.asyncio

from shared.batching import OverloadedError
from shared.ledger.ledger import Ledger
from shared.ledger.reader import DeviceRef, Reader
from shared.ledger.statements import load
from shared.licensing.model import Command, Decision, Kind, Rules, Suspend
from shared.runtime import contacts
from shared.runtime.contacts import Contacts
from tests.builders import add_licenses, open_role, owner
from tests.conftest import Database
from tests.integration.test_ledger_plans import MANY_DEVICES, generic_plan, is_whole_scan, nodes
from tests.platform import Grant, Platform, Vendor, eventually

pytest_plugins = ["tests.platform"]

Seat = dict[str, Any]
LICENSES, EACH = 100, 10
DEVICES = LICENSES * EACH


class Asked:
    """What Postgres was asked for: commands to the ledger, and devices in each read without a lock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.commands: list[Command] = []
        self.reads: list[Sequence[DeviceRef]] = []
        submit, seats = Ledger.submit, Reader.seats

        async def submitted(ledger: Ledger, command: Command) -> Decision:
            self.commands.append(command)
            return await submit(ledger, command)

        async def read(reader: Reader, refs: Sequence[DeviceRef]) -> Any:
            self.reads.append(refs)
            return await seats(reader, refs)

        monkeypatch.setattr(Ledger, "submit", submitted)
        monkeypatch.setattr(Reader, "seats", read)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(monkeypatch)


async def empty(platform: Platform) -> None:
    """Empty Redis, and wait until every key of before counts as missing."""
    epoch = platform.resources.clock.epoch
    async with redis.asyncio.Redis.from_url(platform.redis.url) as client:
        await client.flushall()

    async def noticed() -> bool:
        return platform.resources.clock.epoch > epoch

    await eventually(noticed)


async def seats(platform: Platform, vendor: Vendor, licenses: int, each: int, **options: Any) -> list[Seat]:
    grants: list[Grant] = [await vendor.license(seats=each, **options) for _ in range(licenses)]
    answers = await asyncio.gather(
        *(platform.api.activate(grant.key, f"device-{n}") for n in range(each) for grant in grants)
    )
    return [answer.ok(201) for answer in answers]


async def test_first_heartbeats_after_redis_was_emptied_cost_postgres_a_few_reads(
    gated_platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = gated_platform
    assert platform.gates is not None
    devices = await seats(platform, await platform.vendor(), LICENSES, EACH)
    await empty(platform)
    asked = Asked(monkeypatch)
    sent = platform.gates.postgres.requests

    answers = [
        answer
        for at in range(0, DEVICES, 500)
        for answer in (
            await platform.api.post(
                "/v1/heartbeats", {"heartbeats": [{"deviceToken": s["deviceToken"]} for s in devices[at : at + 500]]}
            )
        ).ok()["answers"]
    ]
    sent = platform.gates.postgres.requests - sent

    assert {(answer["status"], answer["state"]) for answer in answers} == {(200, "active")}
    assert [answer["leaseExpiresAt"] for answer in answers] == [seat["leaseExpiresAt"] for seat in devices]
    assert asked.commands == []
    assert sum(map(len, asked.reads)) == DEVICES
    assert len(asked.reads) <= 4
    assert sent < 40, "the pulse and the relay ask too, some ten times a second"


async def test_what_was_read_is_filled_in_for_the_next_heartbeats(platform: Platform, asked: Asked) -> None:
    devices = await seats(platform, await platform.vendor(), 3, 5)
    await empty(platform)
    for _ in range(2):
        answers = await asyncio.gather(*(platform.api.heartbeat(seat["deviceToken"]) for seat in devices))
        assert {answer.ok()["state"] for answer in answers} == {"active"}
        assert sum(map(len, asked.reads)) == len(devices)


async def test_one_device_asked_for_many_times_at_once_is_read_once(platform: Platform, asked: Asked) -> None:
    (seat,) = await seats(platform, await platform.vendor(), 1, 1)
    await empty(platform)

    answers = await asyncio.gather(*(platform.api.heartbeat(seat["deviceToken"]) for _ in range(200)))

    assert {answer.ok()["state"] for answer in answers} == {"active"}
    assert sum(map(len, asked.reads)) <= 2  # those who ask after the first was answered find it filled in


async def test_validations_are_read_the_same_way(platform: Platform, asked: Asked) -> None:
    grant = await (await platform.vendor()).license(seats=20)
    for n in range(20):
        (await platform.api.activate(grant.key, f"device-{n}")).ok(201)
    asked.commands.clear()
    await empty(platform)

    answers = await asyncio.gather(*(platform.api.validate(grant.key, f"device-{n}") for n in range(20)))

    assert {answer.ok()["code"] for answer in answers} == {"VALID"}
    assert (asked.commands, sum(map(len, asked.reads))) == ([], 20)


async def test_every_yes_is_counted_as_heard_and_no_refusal(platform: Platform) -> None:
    vendor = await platform.vendor()
    grant, floating = await vendor.license(), await vendor.license(kind=Kind.FLOATING)
    tokens = [(await platform.api.activate(one.key)).ok(201)["deviceToken"] for one in (grant, floating)]
    heard = platform.resources.contacts.heard

    for token in tokens:
        (await platform.api.heartbeat(token)).ok()
        (await platform.api.heartbeat(token, validUntil=0)).ok()
    for one in (grant, floating):
        (await platform.api.validate(one.key, "laptop")).ok()
        (await platform.api.validate(one.key, "another")).ok()
        (await platform.api.validate(one.key)).ok()
    (await platform.api.heartbeat(tokens[0], leave=True)).ok()
    assert (await platform.api.heartbeat(tokens[0])).status == 410

    assert platform.resources.contacts.heard - heard == 6


# --- What is not answered so ------------------------------------------------------------------------------------


async def test_what_is_no_plain_yes_is_for_the_ledger(
    fresh_platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = fresh_platform
    vendor = await platform.vendor()
    (fresh,) = await seats(platform, vendor, 1, 1)
    (floating,) = await seats(platform, vendor, 1, 1, kind=Kind.FLOATING)
    ranged = await vendor.license(rules=Rules(min_version="2"))
    versioned = (await platform.api.activate(ranged.key, version="2")).ok(201)
    suspended, released = await vendor.license(), await vendor.license()
    withdrawn, gone = [(await platform.api.activate(one.key)).ok(201) for one in (suspended, released)]
    await vendor.licenses.set_status(suspended.ref, Suspend)
    (await platform.api.deactivate(released.key, gone["deviceId"])).ok()
    await empty(platform)
    asked = Asked(monkeypatch)

    told = [
        (await platform.api.heartbeat(seat["deviceToken"], version="2")).json.get("code", "active")
        for seat in (fresh, floating, versioned, withdrawn, gone)
    ]

    assert told == ["active", "active", "active", "LICENSE_SUSPENDED", "LEASE_LOST"]
    assert [command.license_id for command in asked.commands][1:] == [ranged.id, suspended.id, released.id]
    assert len(asked.commands) == 4


async def test_a_lease_whose_floor_is_old_is_committed_though_it_was_just_read(
    fresh_platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = fresh_platform
    (seat,) = await seats(platform, await platform.vendor(), 1, 1)
    await platform.move_clock(hours=13)
    await empty(platform)
    asked = Asked(monkeypatch)

    answer = (await platform.api.heartbeat(seat["deviceToken"])).ok()

    assert len(asked.commands) == 1
    assert answer["leaseExpiresAt"] > seat["leaseExpiresAt"]


async def test_a_crowd_that_was_just_refused_is_not_read_again(platform: Platform, asked: Asked) -> None:
    vendor = await platform.vendor()
    (seat, _) = await seats(platform, vendor, 1, 2)
    (await platform.api.heartbeat(seat["deviceToken"], leave=True)).ok()
    assert (await platform.api.heartbeat(seat["deviceToken"])).status == 410
    asked.reads.clear()
    asked.commands.clear()

    for _ in range(10):
        assert (await platform.api.heartbeat(seat["deviceToken"])).status == 410

    assert (asked.reads, asked.commands) == ([], [])


async def test_a_seat_that_is_released_while_it_is_read_is_not_confirmed_afterwards(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who ask while a read is on its way share it; what was released meanwhile is not filled in over that."""
    grant = await (await platform.vendor()).license()
    seat = (await platform.api.activate(grant.key)).ok(201)
    await empty(platform)
    was_read, go_on = asyncio.Event(), asyncio.Event()
    read = Reader.seats

    async def slowly(reader: Reader, refs: Sequence[DeviceRef]) -> Any:
        found = await read(reader, refs)
        was_read.set()
        await go_on.wait()
        return found

    monkeypatch.setattr(Reader, "seats", slowly)
    first = asyncio.ensure_future(platform.api.heartbeat(seat["deviceToken"]))
    await was_read.wait()
    (await platform.api.deactivate(grant.key, seat["deviceId"])).ok()
    late = asyncio.ensure_future(platform.api.heartbeat(seat["deviceToken"]))
    await asyncio.sleep(0.1)
    go_on.set()

    assert [(await answer).refusal for answer in (first, late)] == [(410, "LEASE_LOST")] * 2


async def test_more_than_can_wait_are_put_off_and_nothing_is_lost(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    r = platform.resources
    devices = await seats(platform, await platform.vendor(), 5, 20)
    claims = [r.device_tokens.verify(seat["deviceToken"]) for seat in devices]
    await empty(platform)
    monkeypatch.setattr(contacts, "READ_CAPACITY", 10)
    narrow = Contacts(r.projection, r.refusals, r.reader, r.clock)

    async def seen(ids: bytes) -> str:
        try:
            return "yes" if (await narrow.seen(ids, 1)).floor_s else "no"
        except OverloadedError:
            return "later"

    told = await asyncio.gather(*(seen(one.ids) for one in claims if one is not None))
    assert set(told) == {"yes", "later"}

    while "later" in told:
        told = await asyncio.gather(*(seen(one.ids) for one in claims if one is not None))
    assert set(told) == {"yes"}


# --- Plans ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("filled", [False, True])
async def test_what_is_read_without_a_lock_is_looked_up_by_the_licenses_own_index(
    database: Database, filled: bool
) -> None:
    if filled:
        await add_licenses(database, 100)
        async with owner(database) as filler:
            await filler.execute(MANY_DEVICES)
    statements = load("reading.sql")
    async with open_role(database.dsn_for("seatkeeper_heartbeat")) as pool, pool.acquire() as connection:
        for name in ("read_seats", "read_holders"):
            plan = await generic_plan(connection, statements[name])
            scans = [node for node in nodes(plan) if "Relation Name" in node]
            assert len(scans) >= (4 if name == "read_seats" else 1)
            assert not any(is_whole_scan(node, "read") for node in scans), plan

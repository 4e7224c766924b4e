"""A round of reconciliation: what differs is found, confirmed, counted and put right, and nothing else is touched."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any
from uuid import uuid4

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from shared.ledger.reader import LicenseRef
from shared.ledger.reconciling import named
from shared.ledger.statements import load
from shared.licensing.model import Activate, Change, Extend, Release, Resize, device_id
from shared.runtime.reconciliation import Found, Round
from shared.runtime.resources import Resources, open_resources
from shared.seats import keys
from shared.seats.drift import Kind, drift
from shared.seats.inspection import Inspection
from tests.builders import add_licenses, ask, floating, open_role
from tests.conftest import Database
from tests.integration.test_ledger_plans import generic_plan, is_whole_scan, nodes
from tests.platform import settings_for

HEARTBEAT = "seatkeeper_heartbeat"


@pytest.fixture
async def resources(database: Database, redis_url: str) -> AsyncIterator[Resources]:
    async with open_resources(settings_for(database.dsn_for(HEARTBEAT), redis_url), application="test") as opened:
        yield opened


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url, protocol=2) as client:
        yield client


@pytest.fixture
async def refs(database: Database, resources: Resources) -> list[LicenseRef]:
    """Four licenses, each with two devices active and one that was released; Redis knows them all."""
    refs = await add_licenses(database, 2) + await add_licenses(database, 2, terms=floating())
    for ref in refs:
        for fingerprint in ("a", "b", "gone"):
            await resources.ledger.submit(ask(Activate, fingerprint, ref=ref))
        await resources.ledger.submit(ask(Release, "gone", ref=ref))
    return refs


def inspection(resources: Resources) -> Inspection:
    return Inspection(resources.redis, lambda: resources.clock.epoch)


def new_round(resources: Resources, *, confirm_after_s: float = 0.2, **options: Any) -> Round:
    inspect = options.pop("inspect", None) or inspection(resources)
    return Round(resources.pool, inspect, resources.projection, confirm_after_s=confirm_after_s, **options)


async def play(round: Round) -> Found:
    total = Found()
    while (found := await round.step()) is not None:
        total.add(found)
    return total


async def held(resources: Resources, ref: LicenseRef) -> Change:
    (change,) = await named(resources.pool, [ref])
    return change


async def contents(client: Redis, ref: LicenseRef) -> dict[bytes, bytes]:
    found: Any = await client.hgetall(keys.license_key(*ref))
    return dict(found)


async def is_right(resources: Resources, client: Redis, ref: LicenseRef) -> bool:
    """Whether Redis holds exactly what Postgres does, every active device included."""
    change = await held(resources, ref)
    seats = {keys.device_field(device.id): keys.pack_seat(device) for device in change.devices}
    header = keys.pack_header(resources.clock.epoch, change.license)
    return await contents(client, ref) == {keys.HEADER_FIELD: header, **seats}


# --- What is drift --------------------------------------------------------------------------------------------

Plant = Callable[[int, Change], dict[bytes, bytes | None]]
"""Given epoch and license, the fields to write; None removes one."""


def field_of(change: Change, fingerprint: str = "a") -> bytes:
    return keys.device_field(device_id(change.license.id, fingerprint))


def seat_of(change: Change, **changes: int) -> bytes:
    """The seat of device `a` with some of its numbers moved by so much."""
    (device,) = (one for one in change.devices if one.fingerprint == "a")
    packed = keys.pack_seat(device)
    assert packed is not None
    names = ("generation", "floor", "heard", "counter")
    moved = (value + changes.get(name, 0) for name, value in zip(names, keys.unpack_seat(packed), strict=True))
    return keys.pack_numbers_of_seat(*moved)


def header_of(epoch: int, change: Change, **changes: Any) -> bytes:
    return keys.pack_header(epoch, replace(change.license, **changes))


PLANTS: dict[str, tuple[Kind, Plant]] = {
    "an older version": (
        Kind.VERSION,
        lambda epoch, c: {keys.HEADER_FIELD: header_of(epoch, c, version=c.license.version - 1)},
    ),
    "a version that never was": (
        Kind.VERSION,
        lambda epoch, c: {keys.HEADER_FIELD: header_of(epoch, c, version=c.license.version + 9)},
    ),
    "another limit": (Kind.HEADER, lambda epoch, c: {keys.HEADER_FIELD: header_of(epoch, c, seats_limit=77)}),
    "no header": (Kind.HEADER, lambda _, __: {keys.HEADER_FIELD: None}),
    "a header of another shape": (Kind.HEADER, lambda _, __: {keys.HEADER_FIELD: b"short"}),
    "an older generation": (Kind.GENERATION, lambda _, c: {field_of(c): seat_of(c, generation=-1)}),
    "a later generation": (Kind.GENERATION, lambda _, c: {field_of(c): seat_of(c, generation=1)}),
    "a seat of another shape": (Kind.GENERATION, lambda _, c: {field_of(c): seat_of(c)[:9]}),
    "a released device": (Kind.SEATLESS, lambda _, c: {field_of(c, "gone"): seat_of(c)}),
    "a device that never was": (Kind.SEATLESS, lambda _, c: {uuid4().bytes[:8]: seat_of(c)}),
    "a floor past the lease": (Kind.FLOOR, lambda _, c: {field_of(c): seat_of(c, floor=1)}),
}


async def plant(resources: Resources, client: Redis, ref: LicenseRef, what: Plant) -> None:
    fields = what(resources.clock.epoch, await held(resources, ref))
    for field, value in fields.items():
        name = keys.license_key(*ref)
        await (client.hdel(name, field) if value is None else client.hset(name, field, value))


@pytest.mark.parametrize("what", PLANTS)
async def test_drift_is_counted_by_its_kind_and_put_right(
    resources: Resources, client: Redis, refs: list[LicenseRef], what: str
) -> None:
    kind, planted = PLANTS[what]
    others = {ref: await contents(client, ref) for ref in refs[1:]}
    await plant(resources, client, refs[0], planted)
    found = await play(new_round(resources))
    assert (found.looked_at, found.missing, found.repaired, found.outdated) == (4, 0, 1, 0)
    assert found.drifted == {kind: 1}
    assert await is_right(resources, client, refs[0])
    assert {ref: await contents(client, ref) for ref in refs[1:]} == others
    assert (await play(new_round(resources))).drifted == {}


@pytest.mark.parametrize("what", PLANTS)
async def test_a_dry_run_counts_the_same_and_changes_nothing(
    resources: Resources, client: Redis, refs: list[LicenseRef], what: str
) -> None:
    kind, planted = PLANTS[what]
    await plant(resources, client, refs[0], planted)
    await plant(resources, client, refs[1], OLDER_EPOCH)
    before = [await contents(client, ref) for ref in refs]
    found = await play(new_round(resources, repair=False))
    assert (found.drifted, found.repaired, found.outdated, found.missing) == ({kind: 1}, 0, 1, 1)
    assert [await contents(client, ref) for ref in refs] == before


async def test_several_differences_of_many_licenses_are_counted_by_license_and_kind(
    resources: Resources, client: Redis, refs: list[LicenseRef]
) -> None:
    for ref in refs:
        await plant(resources, client, ref, PLANTS["another limit"][1])
        await plant(resources, client, ref, PLANTS["a released device"][1])
        await plant(resources, client, ref, PLANTS["a device that never was"][1])
    found = await play(new_round(resources, page=3))
    assert (found.drifted, found.repaired) == ({Kind.HEADER: 4, Kind.SEATLESS: 4}, 4)
    assert [await is_right(resources, client, ref) for ref in refs] == [True] * 4


# --- What is none ---------------------------------------------------------------------------------------------


def OLDER_EPOCH(epoch: int, change: Change) -> dict[bytes, bytes | None]:  # noqa: N802 - one of the plants
    return {keys.HEADER_FIELD: header_of(epoch - 1, change)}


HARMLESS: dict[str, Plant] = {
    "a later contact": lambda _, c: {field_of(c): seat_of(c, heard=3600)},
    "a higher count": lambda _, c: {field_of(c): seat_of(c, counter=12)},
    "an earlier floor": lambda _, c: {field_of(c): seat_of(c, floor=-500)},
    "a device without its field": lambda _, c: {field_of(c): None},
}


@pytest.mark.parametrize("what", HARMLESS)
async def test_what_redis_knows_later_or_not_at_all_is_no_drift(
    resources: Resources, client: Redis, refs: list[LicenseRef], what: str
) -> None:
    await plant(resources, client, refs[0], HARMLESS[what])
    before = await contents(client, refs[0])
    found = await play(new_round(resources))
    assert (found.looked_at, found.missing, found.drifted, found.repaired) == (4, 0, {}, 0)
    assert await contents(client, refs[0]) == before


async def test_licenses_that_redis_does_not_know_are_missing_and_stay_so(
    resources: Resources, client: Redis, refs: list[LicenseRef]
) -> None:
    await client.delete(keys.license_key(*refs[0]))
    found = await play(new_round(resources))
    assert (found.looked_at, found.missing, found.drifted) == (4, 1, {})
    assert await contents(client, refs[0]) == {}


async def test_keys_of_older_epochs_are_removed_and_nothing_else(
    resources: Resources, client: Redis, refs: list[LicenseRef]
) -> None:
    """Some hundreds of them, so that the scan has several parts, among the keys of other things."""
    change = await held(resources, refs[0])
    for number in range(1200):
        stale = {keys.HEADER_FIELD: header_of(number % 2, change), b"12345678": seat_of(change)}
        await client.hset(b"Lstale-%d" % number, mapping=stale)  # type: ignore[arg-type]
    await client.set(keys.nonce_key(*refs[0], b"digest"), b"body")
    before = [await contents(client, ref) for ref in refs]
    found = await play(new_round(resources))
    assert (found.outdated, found.missing, found.drifted) == (1200, 0, {})
    assert [await contents(client, ref) for ref in refs] == before
    assert sorted(await client.keys()) == sorted(
        [keys.nonce_key(*refs[0], b"digest"), keys.WATERMARK, *(keys.license_key(*ref) for ref in refs)]
    )


async def test_a_license_without_devices_and_one_with_many_are_compared_whole(
    database: Database, resources: Resources, client: Redis
) -> None:
    empty, crowded = await add_licenses(database, 2, seats=400)
    await asyncio.gather(
        *(resources.ledger.submit(ask(Activate, f"device {number}", ref=crowded)) for number in range(400))
    )
    await resources.projection.push([await held(resources, empty)])
    await client.hset(keys.license_key(*empty), b"12345678", b"x" * 16)
    await client.hset(keys.license_key(*crowded), b"12345678", b"x" * 16)
    found = await play(new_round(resources))
    assert (found.looked_at, found.drifted, found.repaired) == (2, {Kind.SEATLESS: 2}, 2)
    assert await is_right(resources, client, empty)
    assert await is_right(resources, client, crowded)


# --- The second look ------------------------------------------------------------------------------------------


async def test_what_arrives_before_the_second_look_is_no_drift(
    resources: Resources, client: Redis, refs: list[LicenseRef]
) -> None:
    await plant(resources, client, refs[0], PLANTS["an older version"][1])
    round = new_round(resources, confirm_after_s=0.3)
    await round.step()
    await resources.projection.push([await held(resources, refs[0])])
    assert (await play(round)).drifted == {}


async def test_what_postgres_changed_meanwhile_waits_for_the_next_round(
    resources: Resources, client: Redis, refs: list[LicenseRef]
) -> None:
    """The change was not pushed, as when Redis was away: its fact may still be on its way."""
    await plant(resources, client, refs[0], PLANTS["a device that never was"][1])
    round = new_round(resources, confirm_after_s=0.3)
    await round.step()
    await without_push(resources, ask(Resize, ref=refs[0], seats=9))
    assert (await play(round)).drifted == {}
    assert (await play(new_round(resources))).drifted == {Kind.VERSION: 1}
    assert await is_right(resources, client, refs[0])


async def test_a_second_look_comes_no_sooner_than_it_should(
    resources: Resources, client: Redis, refs: list[LicenseRef]
) -> None:
    await plant(resources, client, refs[0], PLANTS["a floor past the lease"][1])
    round, began = new_round(resources, confirm_after_s=1.0), asyncio.get_running_loop().time()
    while not (found := await round.step() or Found()).drifted:
        pass
    assert 1.0 <= asyncio.get_running_loop().time() - began < 1.5
    assert found.repaired == 1


@pytest.mark.parametrize("when", ["read", "discard"])
async def test_what_becomes_newer_during_the_repair_wins(
    resources: Resources, client: Redis, refs: list[LicenseRef], when: str
) -> None:
    """A seat is released between a look and what comes of it: the release stays, and is no drift afterwards."""
    ref = refs[0]
    await plant(resources, client, ref, PLANTS["another limit"][1])

    async def happen() -> None:
        await resources.ledger.submit(ask(Release, "a", ref=ref))
        await resources.ledger.submit(ask(Activate, "a", ref=ref))
        await resources.ledger.submit(ask(Release, "a", ref=ref))

    found = await play(new_round(resources, inspect=Interrupted(resources, when, happen)))
    assert found.repaired == 0
    assert field_of(await held(resources, ref)) not in await contents(client, ref)
    assert (await play(new_round(resources))).drifted == {}
    assert await is_right(resources, client, ref)


@pytest.mark.parametrize("when", ["before", "read"])
async def test_a_lease_that_moves_during_the_second_look_is_no_drift(
    resources: Resources, client: Redis, refs: list[LicenseRef], when: str
) -> None:
    """It moves without a version, so that only the order of the readings tells."""
    ref = refs[-1]
    await plant(resources, client, ref, PLANTS["a floor past the lease"][1])

    async def happen() -> None:
        await resources.ledger.submit(ask(Extend, "a", ref=ref))

    interrupted = Interrupted(resources, when, happen)
    found = await play(new_round(resources, confirm_after_s=2.1, inspect=interrupted))
    assert found.drifted == {}
    assert await is_right(resources, client, ref)


class Interrupted(Inspection):
    """Something happens before or after the second reading, or just before the removal."""

    def __init__(self, resources: Resources, when: str, happen: Callable[[], Awaitable[None]]) -> None:
        super().__init__(resources.redis, lambda: resources.clock.epoch)
        self._readings = 0
        self._when = when
        self._happen = happen

    async def read(self, refs: Sequence[LicenseRef]) -> Any:
        self._readings += 1
        if self._when == "before" and self._readings == 2:
            await self._happen()
        found = await super().read(refs)
        if self._when == "read" and self._readings == 2:
            await self._happen()
        return found

    async def discard(self, seen: Any) -> int:
        if self._when == "discard":
            await self._happen()
        return await super().discard(seen)


async def test_what_was_seen_otherwise_is_not_removed(
    resources: Resources, client: Redis, refs: list[LicenseRef]
) -> None:
    seen = {ref: await contents(client, ref) for ref in refs[:3]}
    await resources.ledger.submit(ask(Release, "a", ref=refs[1]))
    await client.delete(keys.license_key(*refs[2]))
    assert await inspection(resources).discard(seen) == 1
    assert [bool(await contents(client, ref)) for ref in refs] == [False, True, False, True]


async def test_an_epoch_that_rises_in_the_middle_makes_all_of_it_missing(
    resources: Resources, client: Redis, refs: list[LicenseRef]
) -> None:
    for ref in refs:
        await plant(resources, client, ref, PLANTS["another limit"][1])
    round = new_round(resources)
    await round.step()
    await resources.clock.raise_epoch(resources.clock.epoch)
    found = await play(round)
    assert (found.drifted, found.repaired, found.outdated) == ({}, 0, 4)


async def without_push(resources: Resources, command: Any) -> None:
    """Decide, with Redis out of this ledger's reach."""
    from shared.ledger.ledger import Ledger

    async def lose(_: object) -> None:
        pass

    ledger = Ledger(resources.pool, after_commit=lose)
    await ledger.submit(command)
    await ledger.close()


# --- How it reads ---------------------------------------------------------------------------------------------


async def test_pages_are_read_by_index(database: Database, refs: list[LicenseRef]) -> None:
    async with open_role(database.dsn_for(HEARTBEAT)) as pool, pool.acquire() as connection:
        for name in ("page", "named"):
            plan = await generic_plan(connection, load("reconciling.sql")[name])
            scanned = [node["Relation Name"] for node in nodes(plan) if is_whole_scan(node, name)]
            assert scanned == [], name


async def test_a_round_looks_at_every_license_once_whatever_the_page(
    resources: Resources, refs: list[LicenseRef]
) -> None:
    assert [(await play(new_round(resources, page=page))).looked_at for page in (1, 2, 3, 4, 5)] == [4] * 5


def test_a_difference_is_told_in_words_that_hold_no_secret() -> None:
    """Numbers and the field that stands for a device; no key, name or fingerprint."""
    from tests.builders import make_device, make_license

    device = make_device("laptop")
    change = Change(license=make_license([device]), base_version=7, devices=(device,))
    seat = keys.pack_seat(device)
    assert seat is not None
    fields = {
        keys.HEADER_FIELD: keys.pack_header(3, replace(change.license, seats_used=2)),
        keys.device_field(device.id): keys.pack_numbers_of_seat(4, *keys.unpack_seat(seat)[1:]),
    }
    assert drift(3, fields, change) == {
        Kind.HEADER: "seats_used 2 for 1",
        Kind.GENERATION: f"{device.id.bytes[8:].hex()}: 4 for 1",
    }

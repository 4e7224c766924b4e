"""Counted heartbeats: a copy of a device shows by counting on from a state that the other has left behind."""

import asyncio
from typing import Any

import pytest
import redis.asyncio

from shared.licensing.model import Kind, OnClone, Rules
from tests.platform import Grant, Platform, eventually

pytest_plugins = ["tests.platform"]

Seat = dict[str, Any]
CLONED = (403, "CLONE_SUSPECTED")
KINDS = list(Kind)


async def suspicions(platform: Platform, grant: Grant) -> int:
    """How often the trail tells of a clone; as often as a fact does."""
    (row,) = await platform.rows(
        "SELECT count(*) AS n FROM audit WHERE license_id = $1 AND event = 'device.clone_suspected'", grant.id
    )
    (told,) = await platform.rows(
        "SELECT count(*) AS n FROM outbox WHERE license_id = $1 AND fact LIKE '%device.clone_suspected%'", grant.id
    )
    assert row["n"] == told["n"]
    return int(row["n"])


async def beat(platform: Platform, seat: Seat, *counters: int) -> list[str]:
    """How each is answered."""
    answers = [await platform.api.heartbeat(seat["deviceToken"], counter=counter) for counter in counters]
    return [answer.json.get("code", "active") for answer in answers]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_device_that_counts_on_is_no_clone(platform: Platform, kind: Kind) -> None:
    grant = await (await platform.vendor()).license(kind=kind, rules=Rules(on_clone=OnClone.REFUSE))
    seat = (await platform.api.activate(grant.key)).ok(201)

    assert set(await beat(platform, seat, 1, 2, 3, 3, 3, 50, 4_294_967_295, 4_294_967_295)) == {"active"}

    assert await suspicions(platform, grant) == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("on_clone", OnClone)
async def test_a_count_that_goes_back_shows_a_clone(platform: Platform, kind: Kind, on_clone: OnClone) -> None:
    grant = await (await platform.vendor()).license(kind=kind, rules=Rules(on_clone=on_clone))
    seat = (await platform.api.activate(grant.key)).ok(201)

    told = await beat(platform, seat, 10, 11, 12, 11, 13, 12, 14)

    behind = "CLONE_SUSPECTED" if on_clone is OnClone.REFUSE else "active"
    assert told == ["active", "active", "active", behind, "active", behind, "active"]
    assert await suspicions(platform, grant) == 1  # once a day is enough
    assert await platform.seats_used(grant) == 1


async def test_a_clone_is_noted_again_the_next_day(fresh_platform: Platform) -> None:
    grant = await (await fresh_platform.vendor()).license()
    seat = (await fresh_platform.api.activate(grant.key)).ok(201)
    await beat(fresh_platform, seat, 10, 5)
    assert await suspicions(fresh_platform, grant) == 1

    await fresh_platform.move_clock(hours=25)
    await beat(fresh_platform, seat, 11, 6, 7)

    assert await suspicions(fresh_platform, grant) == 2


@pytest.mark.parametrize("kind", KINDS)
async def test_a_count_may_begin_anew(platform: Platform, kind: Kind) -> None:
    grant = await (await platform.vendor()).license(kind=kind, rules=Rules(on_clone=OnClone.REFUSE))
    seat = (await platform.api.activate(grant.key)).ok(201)

    assert set(await beat(platform, seat, 100, 1, 2, 3)) == {"active"}
    assert await beat(platform, seat, 2) == ["CLONE_SUSPECTED"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_count_that_began_anew_is_known_after_redis_was_lost(fresh_platform: Platform, kind: Kind) -> None:
    platform = fresh_platform
    grant = await (await platform.vendor()).license(kind=kind, rules=Rules(on_clone=OnClone.REFUSE))
    seat = (await platform.api.activate(grant.key)).ok(201)
    await platform.move_clock(hours=13)  # past the floor: 100 is committed
    if kind is Kind.FLOATING:
        (await platform.api.heartbeat(seat["deviceToken"])).ok()
    assert set(await beat(platform, seat, 100, 1, 2)) == {"active"}

    async with redis.asyncio.Redis.from_url(platform.redis.url) as client:
        await client.flushall()

    assert set(await beat(platform, seat, 3, 4)) == {"active"}
    await platform.move_clock(hours=26)
    assert set(await beat(platform, seat, 5, 6)) == {"active"}


async def test_a_device_that_does_not_count_is_no_clone_of_one_that_does(platform: Platform) -> None:
    grant = await (await platform.vendor()).license(rules=Rules(on_clone=OnClone.REFUSE))
    seat = (await platform.api.activate(grant.key)).ok(201)
    assert await beat(platform, seat, 40) == ["active"]

    (await platform.api.heartbeat(seat["deviceToken"])).ok()

    assert await beat(platform, seat, 39) == ["CLONE_SUSPECTED"]


async def test_a_new_seat_counts_for_itself(platform: Platform) -> None:
    grant = await (await platform.vendor()).license(rules=Rules(on_clone=OnClone.REFUSE))
    seat = (await platform.api.activate(grant.key)).ok(201)
    assert await beat(platform, seat, 40) == ["active"]
    (await platform.api.heartbeat(seat["deviceToken"], leave=True)).ok()

    seat = (await platform.api.activate(grant.key)).ok(201)

    assert await beat(platform, seat, 7, 8) == ["active", "active"]


async def test_a_clone_shows_though_redis_is_away(gated_platform: Platform) -> None:
    platform = gated_platform
    assert platform.gates is not None
    grant = await (await platform.vendor()).license(kind=Kind.FLOATING, rules=Rules(on_clone=OnClone.REFUSE))
    seat = (await platform.api.activate(grant.key)).ok(201)
    await platform.gates.redis.shut()

    assert await beat(platform, seat, 10, 11, 10, 12) == ["active", "active", "CLONE_SUSPECTED", "active"]


async def test_what_redis_knows_of_a_count_is_told_to_the_ledger(fresh_platform: Platform) -> None:
    """Postgres holds what was committed with the floor, half a day ago; the clone is behind Redis's count alone."""
    platform = fresh_platform
    grant = await (await platform.vendor()).license(rules=Rules(on_clone=OnClone.REFUSE))
    seat = (await platform.api.activate(grant.key)).ok(201)
    await beat(platform, seat, 10)
    assert (await platform.device(seat["deviceId"]))["counter"] == 0
    await platform.move_clock(hours=13)

    assert await beat(platform, seat, 9) == ["CLONE_SUSPECTED"]

    assert await beat(platform, seat, 11) == ["active"]
    assert (await platform.device(seat["deviceId"]))["counter"] == 11


async def test_the_seat_that_comes_back_keeps_its_count(fresh_platform: Platform) -> None:
    platform = fresh_platform
    rules = Rules(on_clone=OnClone.REFUSE)
    grant = await (await platform.vendor()).license(kind=Kind.FLOATING, lease_s=60, rules=rules)
    seat = (await platform.api.activate(grant.key)).ok(201)
    await beat(platform, seat, 10)
    await platform.move_clock(hours=0.1)

    async def freed() -> bool:
        return await platform.seats_used(grant) == 0

    await eventually(freed)
    assert await beat(platform, seat, 11) == ["active"]

    assert await beat(platform, seat, 11, 10, 12) == ["active", "CLONE_SUSPECTED", "active"]


@pytest.mark.parametrize("counter", [0, -1, 2**32, 1.5, "1", True])
async def test_a_count_is_a_whole_number_from_one(platform: Platform, counter: object) -> None:
    assert (await platform.api.heartbeat("skd1.x", counter=counter)).refusal == (400, "REQUEST_INVALID")


async def test_heartbeats_of_one_device_that_arrive_together_are_counted_in_their_order(platform: Platform) -> None:
    grant = await (await platform.vendor()).license(rules=Rules(on_clone=OnClone.REFUSE))
    seat = (await platform.api.activate(grant.key)).ok(201)

    same = await asyncio.gather(*(platform.api.heartbeat(seat["deviceToken"], counter=5) for _ in range(50)))

    assert {answer.status for answer in same} == {200}
    assert await suspicions(platform, grant) == 0

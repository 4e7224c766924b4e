"""A floating device that was silent past its lease: its seat again if one is free, else who holds them."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.licensing.model import Kind, Rules, Suspend
from tests.platform import Grant, Platform, eventually
from tests.unit.test_signing_answer_mac import by_the_book

pytest_plugins = ["tests.platform"]

LEASE_S = 60
Seat = dict[str, Any]


@pytest.fixture
async def platform(fresh_platform: Platform) -> Platform:
    """One whose clock may be moved."""
    return fresh_platform


async def silent(platform: Platform, grant: Grant, *, minutes: float = 2) -> None:
    """Let the time pass, and the floating leases end."""
    await platform.move_clock(hours=minutes / 60)

    async def all_free() -> bool:
        return await platform.seats_used(grant) == 0

    await eventually(all_free)


async def floating(platform: Platform, **options: Any) -> Grant:
    return await (await platform.vendor()).license(kind=Kind.FLOATING, lease_s=LEASE_S, **options)


async def events(platform: Platform, grant: Grant) -> list[str]:
    rows = await platform.rows("SELECT event FROM audit WHERE license_id = $1 ORDER BY version", grant.id)
    return [row["event"] for row in rows]


async def test_a_device_that_was_silent_has_its_seat_again_if_one_is_free(platform: Platform) -> None:
    grant = await floating(platform, seats=1)
    seat = (await platform.api.activate(grant.key)).ok(201)
    await silent(platform, grant)

    answer = (await platform.api.heartbeat(seat["deviceToken"], nonce="n")).ok()

    assert (answer["state"], answer["generation"], answer["deviceId"]) == ("active", 1, seat["deviceId"])
    assert datetime.fromisoformat(answer["leaseExpiresAt"]) > datetime.fromisoformat(answer["serverTime"])
    assert answer["mac"] == by_the_book(seat["deviceToken"], answer)
    assert await platform.seats_used(grant) == 1
    assert await events(platform, grant) == [
        *("license.created", "device.activated", "device.released", "device.resumed"),
    ]


async def test_a_heartbeat_that_brought_the_seat_back_can_be_repeated(platform: Platform) -> None:
    grant = await floating(platform, seats=1)
    seat = (await platform.api.activate(grant.key)).ok(201)
    await silent(platform, grant)

    answers = await asyncio.gather(*(platform.api.heartbeat(seat["deviceToken"], counter=9) for _ in range(20)))
    answers.append(await platform.api.heartbeat(seat["deviceToken"], counter=9))

    assert {answer.ok()["generation"] for answer in answers} == {1}
    assert (await events(platform, grant)).count("device.resumed") == 1
    assert await platform.seats_used(grant) == 1


async def test_many_who_come_back_at_once_take_no_more_seats_than_there_are(platform: Platform) -> None:
    grant = await floating(platform, seats=3)
    seats: list[Seat] = []
    for turn in range(3):
        await platform.move_clock(hours=turn / 10)
        seats += [(await platform.api.activate(grant.key, f"{turn}-{n}")).ok(201) for n in range(3)]
    await silent(platform, grant, minutes=20)

    answers = await asyncio.gather(*(platform.api.heartbeat(seat["deviceToken"]) for seat in seats * 2))

    alive = {answer.json["deviceId"] for answer in answers if answer.status == 200}
    assert len(alive) == 3 == await platform.seats_used(grant)
    assert {answer.refusal for answer in answers if answer.status != 200} == {(410, "LEASE_LOST")}


@pytest.mark.parametrize("shown", [True, False])
async def test_a_device_for_which_no_seat_is_left_is_told_who_holds_them_if_the_policy_allows(
    platform: Platform, shown: bool
) -> None:
    grant = await floating(platform, seats=2, rules=Rules(show_holders=shown))
    late = (await platform.api.activate(grant.key, "late")).ok(201)
    await silent(platform, grant)
    holders = [
        (await platform.api.activate(grant.key, name, name=f"{name}'s machine")).ok(201) for name in ("ada", "bob")
    ]

    for _ in range(2):
        refused = await platform.api.heartbeat(late["deviceToken"])
        assert (*refused.refusal, refused.json["reason"]) == (410, "LEASE_LOST", "lease_expired")
        assert (refused.json["limit"], refused.json["used"]) == (2, 2)
        assert refused.json["mac"] == by_the_book(late["deviceToken"], refused.json)
        if not shown:
            assert "holders" not in refused.json
            continue
        assert refused.json["holders"] == [
            {
                "name": f"{name}'s machine",
                "deviceId": seat["deviceId"],
                "lastContactAt": told["lastContactAt"],
                "leaseExpiresAt": seat["leaseExpiresAt"],
            }
            for name, seat, told in zip(("ada", "bob"), holders, refused.json["holders"], strict=True)
        ]
        for told in refused.json["holders"]:
            length = datetime.fromisoformat(told["leaseExpiresAt"]) - datetime.fromisoformat(told["lastContactAt"])
            assert length == timedelta(seconds=LEASE_S)


async def test_twenty_holders_are_told_and_no_more(platform: Platform) -> None:
    grant = await floating(platform, seats=30, rules=Rules(show_holders=True))
    late = (await platform.api.activate(grant.key, "late")).ok(201)
    await silent(platform, grant)
    held = [(await platform.api.activate(grant.key, f"device-{n}")).ok(201)["deviceId"] for n in range(30)]

    refused = await platform.api.heartbeat(late["deviceToken"])

    assert refused.json["used"] == 30
    assert [holder["deviceId"] for holder in refused.json["holders"]] == held[:20]


async def test_a_seat_that_was_given_back_or_taken_is_not_had_again_by_heartbeat(platform: Platform) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license(kind=Kind.FLOATING, lease_s=LEASE_S, rules=Rules(show_holders=True))
    seat = (await platform.api.activate(grant.key)).ok(201)
    (await platform.api.heartbeat(seat["deviceToken"], leave=True)).ok()

    refused = await platform.api.heartbeat(seat["deviceToken"])

    assert (*refused.refusal, refused.json["reason"]) == (410, "LEASE_LOST", "user")
    assert "holders" not in refused.json
    assert await platform.seats_used(grant) == 0


async def test_an_old_generation_does_not_come_back(platform: Platform) -> None:
    grant = await floating(platform)
    old = (await platform.api.activate(grant.key)).ok(201)
    await silent(platform, grant)
    (await platform.api.activate(grant.key)).ok(201)
    await silent(platform, grant, minutes=4)

    refused = await platform.api.heartbeat(old["deviceToken"])

    assert (*refused.refusal, refused.json["reason"]) == (410, "LEASE_LOST", "superseded")


async def test_validating_brings_no_seat_back(platform: Platform) -> None:
    grant = await floating(platform)
    (await platform.api.activate(grant.key)).ok(201)
    await silent(platform, grant)

    assert (await platform.api.validate(grant.key, "laptop")).ok()["code"] == "DEVICE_NOT_ACTIVATED"

    assert await platform.seats_used(grant) == 0


async def test_nobody_comes_back_to_a_suspended_license(platform: Platform) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license(kind=Kind.FLOATING, lease_s=LEASE_S)
    seat = (await platform.api.activate(grant.key)).ok(201)
    await silent(platform, grant)
    await vendor.licenses.set_status(grant.ref, Suspend)

    assert (await platform.api.heartbeat(seat["deviceToken"])).refusal == (403, "LICENSE_SUSPENDED")

    assert await platform.seats_used(grant) == 0


async def test_a_node_locked_device_that_lost_its_seat_has_to_activate_again(platform: Platform) -> None:
    grant = await (await platform.vendor()).license()
    seat = (await platform.api.activate(grant.key)).ok(201)
    await platform.move_clock(days=92)
    await platform.standalone.reap()
    assert await platform.seats_used(grant) == 0

    refused = await platform.api.heartbeat(seat["deviceToken"])

    assert (*refused.refusal, refused.json["reason"]) == (410, "LEASE_LOST", "idle")


async def test_the_signed_lease_of_a_floating_device_never_outlives_what_postgres_holds(platform: Platform) -> None:
    grant = await floating(platform)
    seat = (await platform.api.activate(grant.key)).ok(201)
    far = datetime(2999, 1, 1, tzinfo=UTC).isoformat()

    for minutes in (0.5, 1.4, 4, 4.9):  # the third comes after its lease
        await platform.move_clock(hours=minutes / 60)
        for held in (far, seat["validUntil"]):
            answer = (await platform.api.heartbeat(seat["deviceToken"], validUntil=held)).ok()
            promised = (await platform.device(seat["deviceId"]))["lease_expires_at"]
            assert datetime.fromisoformat(answer["validUntil"]) <= promised

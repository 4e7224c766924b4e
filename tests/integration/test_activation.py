"""Activation by license key, over HTTP."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from shared.licensing.model import Approval, Kind, Reinstate, Revoke, Suspend, device_id
from tests.platform import Platform, mistyped

pytest_plugins = ["tests.platform"]


async def test_a_device_activates_once_however_often_it_asks(platform: Platform) -> None:
    grant = await (await platform.vendor()).license(seats=3)

    first = (await platform.api.activate(grant.key)).ok(201)
    second = (await platform.api.activate(grant.key)).ok(200)

    assert first["deviceId"] == second["deviceId"] == str(device_id(grant.id, "laptop"))
    assert first["generation"] == second["generation"] == 1
    assert (first["state"], first["used"], first["limit"]) == ("active", 1, 3)
    assert second["used"] == 1
    assert await platform.seats_used(grant) == 1


async def test_an_answer_says_what_the_ledger_holds(platform: Platform) -> None:
    grant = await (await platform.vendor()).license()

    answer = (await platform.api.activate(grant.key, name="Ada’s laptop 💻")).ok(201)

    device = await platform.device(answer["deviceId"])
    assert answer["leaseExpiresAt"] == device["lease_expires_at"].strftime("%Y-%m-%dT%H:%M:%SZ")
    assert device["lease_expires_at"] - device["activated_at"] == timedelta(days=90)
    assert (device["name"], device["fingerprint"], device["state"]) == ("Ada’s laptop 💻", "laptop", "active")
    valid_for = datetime.fromisoformat(answer["validUntil"]) - device["activated_at"]
    assert timedelta(days=7, seconds=-5) < valid_for <= timedelta(days=7)
    assert 2880 <= answer["nextHeartbeatIn"] <= 4320


async def test_a_device_too_many_is_told_the_limit_and_takes_nothing(platform: Platform) -> None:
    grant = await (await platform.vendor()).license(seats=2)
    for fingerprint in ("a", "b"):
        (await platform.api.activate(grant.key, fingerprint)).ok(201)

    refused = await platform.api.activate(grant.key, "c")

    assert refused.refusal == (403, "DEVICE_LIMIT_EXCEEDED")
    assert (refused.json["limit"], refused.json["used"], refused.json["retryable"]) == (2, 2, False)
    (await platform.api.activate(grant.key, "a")).ok(200)
    assert await platform.seats_used(grant) == 2


async def test_a_loop_that_repeats_its_request_until_200_ends_after_two_tries_with_one_seat(
    platform: Platform,
) -> None:
    grant = await (await platform.vendor()).license(seats=5)
    body = {"licenseKey": grant.key, "fingerprint": "laptop", "timestamp": int(time.time()), "nonce": "n-1"}
    statuses: list[int] = []

    while 200 not in statuses and len(statuses) < 5:
        statuses.append((await platform.api.post("/v1/activate", body)).status)

    assert statuses == [201, 200]
    assert await platform.seats_used(grant) == 1


async def test_requests_at_the_same_time_get_one_seat_and_one_201(platform: Platform) -> None:
    grant = await (await platform.vendor()).license(seats=2)

    answers = await asyncio.gather(*(platform.api.activate(grant.key) for _ in range(20)))

    assert sorted(answer.status for answer in answers) == [200] * 19 + [201]
    assert {answer.json["generation"] for answer in answers} == {1}
    assert await platform.seats_used(grant) == 1


async def test_activating_after_a_deactivation_raises_the_generation(platform: Platform) -> None:
    grant = await (await platform.vendor()).license()
    first = (await platform.api.activate(grant.key)).ok(201)
    (await platform.api.deactivate(grant.key, first["deviceId"])).ok()

    again = (await platform.api.activate(grant.key)).ok(201)

    assert again["deviceId"] == first["deviceId"]
    assert (first["generation"], again["generation"]) == (1, 2)
    assert again["deviceToken"] != first["deviceToken"]


@pytest.mark.parametrize("shape", ["lower case", "no hyphens", "spaces around", "look-alikes"])
async def test_a_key_is_read_as_people_type_it(platform: Platform, shape: str) -> None:
    grant = await (await platform.vendor()).license()
    typed = {
        "lower case": grant.key.lower(),
        "no hyphens": grant.key.replace("-", ""),
        "spaces around": f"  {grant.key.replace('-', ' ')}\n",
        "look-alikes": grant.key.replace("1", "l").replace("0", "O"),
    }[shape]

    (await platform.api.activate(typed)).ok(201)


async def test_a_key_that_was_issued_elsewhere_serves_as_it_is(platform: Platform) -> None:
    key = f"ACME/{uuid4()}/ßü"
    grant = await (await platform.vendor()).license(imported_key=key)

    (await platform.api.activate(key)).ok(201)
    assert (await platform.api.activate(key.lower())).refusal == (401, "LICENSE_KEY_INVALID")
    assert await platform.seats_used(grant) == 1


async def test_an_unknown_and_a_mistyped_key_are_refused_alike(platform: Platform) -> None:
    unknown = "1" + "0" * 27
    grant = await (await platform.vendor()).license()

    for key in (unknown, mistyped(grant.key), "", "short", "x" * 200, "a key with \x00 a NUL in it"):
        answer = await platform.api.activate(key)
        assert answer.refusal == (401, "LICENSE_KEY_INVALID"), key
        assert "WWW-Authenticate" in answer.headers
    assert "mistyped" in (await platform.api.activate(mistyped(grant.key))).json["detail"]


async def test_a_key_opens_only_its_own_license(platform: Platform) -> None:
    ours, theirs = await platform.vendor(), await platform.vendor()
    mine, other = await ours.license(), await theirs.license()

    first = (await platform.api.activate(mine.key)).ok(201)
    second = (await platform.api.activate(other.key)).ok(201)

    assert first["deviceId"] != second["deviceId"]
    assert (await platform.seats_used(mine), await platform.seats_used(other)) == (1, 1)


@pytest.mark.parametrize(
    ("verbs", "expected"),
    [
        ([Suspend], (403, "LICENSE_SUSPENDED")),
        ([Revoke], (403, "LICENSE_REVOKED")),
        ([Suspend, Revoke], (403, "LICENSE_REVOKED")),
    ],
)
async def test_a_license_that_was_withdrawn_gives_no_seat(
    platform: Platform, verbs: list[type[Suspend] | type[Revoke]], expected: tuple[int, str]
) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license()
    (await platform.api.activate(grant.key, "held")).ok(201)
    for verb in verbs:
        await vendor.licenses.set_status(grant.ref, verb)

    assert (await platform.api.activate(grant.key, "new")).refusal == expected
    assert (await platform.api.activate(grant.key, "held")).refusal == expected
    assert await platform.seats_used(grant) == 1


async def test_a_reinstated_license_serves_again(platform: Platform) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license()
    await vendor.licenses.set_status(grant.ref, Suspend)
    assert (await platform.api.activate(grant.key)).refusal == (403, "LICENSE_SUSPENDED")

    await vendor.licenses.set_status(grant.ref, Reinstate)

    (await platform.api.activate(grant.key)).ok(201)


async def test_an_expired_license_gives_no_seat(platform: Platform) -> None:
    grant = await (await platform.vendor()).license(expires_at=datetime.now(UTC) - timedelta(seconds=1))

    assert (await platform.api.activate(grant.key)).refusal == (403, "LICENSE_EXPIRED")


async def test_nothing_outlives_the_license(platform: Platform) -> None:
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
    grant = await (await platform.vendor()).license(expires_at=end)

    answer = (await platform.api.activate(grant.key)).ok(201)

    assert datetime.fromisoformat(answer["validUntil"]) == end


async def test_a_floating_seat_is_held_for_minutes(platform: Platform) -> None:
    grant = await (await platform.vendor()).license(kind=Kind.FLOATING, seats=2)

    answer = (await platform.api.activate(grant.key)).ok(201)

    held = datetime.fromisoformat(answer["leaseExpiresAt"]) - datetime.now(UTC)
    assert timedelta(seconds=590) < held <= timedelta(seconds=600)
    assert abs(datetime.fromisoformat(answer["validUntil"]) - datetime.fromisoformat(answer["leaseExpiresAt"])) <= (
        timedelta(seconds=1)
    )
    assert 160 <= answer["nextHeartbeatIn"] <= 240


async def test_a_full_license_gives_the_seats_of_its_silent_devices_to_others(fresh_platform: Platform) -> None:
    grant = await (await fresh_platform.vendor()).license(kind=Kind.FLOATING, seats=1)
    silent = (await fresh_platform.api.activate(grant.key, "silent")).ok(201)
    assert (await fresh_platform.api.activate(grant.key, "new")).refusal == (403, "DEVICE_LIMIT_EXCEEDED")

    await fresh_platform.move_clock(hours=0.2)

    (await fresh_platform.api.activate(grant.key, "new")).ok(201)
    assert await fresh_platform.seats_used(grant) == 1
    lost = await fresh_platform.api.heartbeat(silent["deviceToken"])
    assert (*lost.refusal, lost.json["reason"]) == (410, "LEASE_LOST", "lease_expired")


# --- Approval ---------------------------------------------------------------------------------------------------


async def test_a_device_waits_for_approval_without_a_seat(platform: Platform) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license(seats=1, approval=Approval.ALLOW_LIST)

    first = (await platform.api.activate(grant.key)).ok(202)
    second = (await platform.api.activate(grant.key)).ok(202)

    assert first == second == {"deviceId": str(device_id(grant.id, "laptop")), "state": "pending", "retryAfter": 30}
    assert await platform.seats_used(grant) == 0

    await vendor.licenses.approve(grant.ref, "laptop")
    activated = (await platform.api.activate(grant.key)).ok(201)

    assert (activated["deviceId"], activated["generation"]) == (first["deviceId"], 1)
    assert (await platform.api.activate(grant.key, "other")).ok(202)["state"] == "pending"
    assert await platform.seats_used(grant) == 1


async def test_a_fingerprint_can_be_approved_before_it_asks(platform: Platform) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license(approval=Approval.ALLOW_LIST)

    await vendor.licenses.approve(grant.ref, "laptop")

    (await platform.api.activate(grant.key)).ok(201)


async def test_a_blocked_device_is_refused_until_it_is_unblocked(platform: Platform) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license()
    device = (await platform.api.activate(grant.key)).ok(201)["deviceId"]
    await vendor.licenses.set_blocked(grant.ref, UUID(device), blocked=True)

    assert (await platform.api.activate(grant.key)).refusal == (403, "DEVICE_BLOCKED")
    assert await platform.seats_used(grant) == 0

    await vendor.licenses.set_blocked(grant.ref, UUID(device), blocked=False)
    assert (await platform.api.activate(grant.key)).ok(201)["generation"] == 2


# --- Nonces -----------------------------------------------------------------------------------------------------


async def test_a_nonce_with_the_same_body_gets_the_same_outcome(platform: Platform) -> None:
    grant = await (await platform.vendor()).license()
    now = int(time.time())

    first = (await platform.api.activate(grant.key, timestamp=now, nonce="n")).ok(201)
    second = (await platform.api.activate(grant.key, timestamp=now, nonce="n")).ok(200)

    assert (first["deviceId"], first["generation"]) == (second["deviceId"], second["generation"])


async def test_a_nonce_with_another_body_is_refused(platform: Platform) -> None:
    grant = await (await platform.vendor()).license()
    (await platform.api.activate(grant.key, "a", nonce="n")).ok(201)

    assert (await platform.api.activate(grant.key, "b", nonce="n")).refusal == (409, "REPLAYED")
    assert await platform.seats_used(grant) == 1


async def test_a_nonce_belongs_to_its_license(platform: Platform) -> None:
    vendor = await platform.vendor()
    one, other = await vendor.license(), await vendor.license()

    (await platform.api.activate(one.key, "a", nonce="n")).ok(201)
    (await platform.api.activate(other.key, "b", nonce="n")).ok(201)


@pytest.mark.parametrize("members", [{"nonce": "two"}, {}])
async def test_the_nonce_of_an_earlier_generation_makes_no_other_either(
    platform: Platform, members: dict[str, str]
) -> None:
    grant = await (await platform.vendor()).license()
    now = int(time.time())
    for sent in ({"nonce": "one"}, members):
        seat = (await platform.api.activate(grant.key, timestamp=now, **sent)).ok(201)
        (await platform.api.deactivate(grant.key, seat["deviceId"])).ok()

    assert (await platform.api.activate(grant.key, timestamp=now, nonce="one")).refusal == (409, "REPLAYED")
    assert await platform.seats_used(grant) == 0


@pytest.mark.parametrize("emptied", [False, True])
async def test_the_nonce_of_an_ended_generation_makes_no_other(fresh_platform: Platform, emptied: bool) -> None:
    platform = fresh_platform
    grant = await (await platform.vendor()).license()
    now = int(time.time())
    first = (await platform.api.activate(grant.key, timestamp=now, nonce="n")).ok(201)
    (await platform.api.deactivate(grant.key, first["deviceId"])).ok()
    if emptied:
        await platform.resources.redis.client.flushall()

    replayed = await platform.api.activate(grant.key, timestamp=now, nonce="n")

    assert replayed.refusal == (409, "REPLAYED")
    assert replayed.json["retryable"] is False
    assert await platform.seats_used(grant) == 0
    (await platform.api.activate(grant.key, nonce="fresh")).ok(201)

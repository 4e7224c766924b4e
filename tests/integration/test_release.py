"""Giving seats back: deactivate on both of its paths, and reset."""

import json
from datetime import datetime
from uuid import UUID, uuid4

import pytest

from shared.licensing.model import Approval, Reinstate, Revoke, Suspend, device_id
from tests.platform import Grant, Platform, mistyped

pytest_plugins = ["tests.platform"]

PATHS = ["/v1/deactivate", "/api/deactivate"]
EVERY_PATH = [*PATHS, "/v1/reset"]


async def events(platform: Platform, grant: Grant) -> list[tuple[str, str | None, str]]:
    """What the trail tells of the license, without its creation."""
    found = await platform.rows(
        "SELECT event, reason, actor FROM audit WHERE license_id = $1 AND version > 1 ORDER BY version", grant.id
    )
    return [(row["event"], row["reason"], row["actor"]) for row in found]


@pytest.mark.parametrize("path", PATHS)
async def test_a_seat_is_given_back_once_however_often_it_is_said(platform: Platform, path: str) -> None:
    grant = await (await platform.vendor()).license(seats=1)
    device = (await platform.api.activate(grant.key)).ok(201)["deviceId"]
    body = {"deviceId": device, "licenseKey": grant.key}

    for _ in range(3):
        assert (await platform.api.post(path, body)).ok() == {"success": True}

    assert await platform.seats_used(grant) == 0
    assert await events(platform, grant) == [
        ("device.activated", None, "device"),
        ("device.released", "user", "holder"),
    ]
    (await platform.api.activate(grant.key, "another")).ok(201)


@pytest.mark.parametrize("content_type", [None, "application/json", "text/plain;charset=UTF-8"])
async def test_a_browsers_fetch_needs_no_content_type(platform: Platform, content_type: str | None) -> None:
    grant = await (await platform.vendor()).license()
    device = (await platform.api.activate(grant.key)).ok(201)["deviceId"]
    body = json.dumps({"deviceId": device, "licenseKey": grant.key}).encode()
    headers = {"Content-Type": content_type} if content_type else {}

    answer = await platform.api.post("/api/deactivate", data=body, headers=headers)

    assert answer.ok() == {"success": True}


async def test_a_generation_that_is_over_gives_back_nothing_more(platform: Platform) -> None:
    grant = await (await platform.vendor()).license()
    device = (await platform.api.activate(grant.key)).ok(201)["deviceId"]
    (await platform.api.deactivate(grant.key, device, generation=1)).ok()
    (await platform.api.activate(grant.key)).ok(201)

    assert (await platform.api.deactivate(grant.key, device, generation=1)).ok() == {"success": True}

    assert await platform.seats_used(grant) == 1
    (await platform.api.deactivate(grant.key, device, generation=2)).ok()
    assert await platform.seats_used(grant) == 0


async def test_a_generation_that_never_was_is_not_found(platform: Platform) -> None:
    grant = await (await platform.vendor()).license()
    device = (await platform.api.activate(grant.key)).ok(201)["deviceId"]

    assert (await platform.api.deactivate(grant.key, device, generation=2)).refusal == (404, "DEVICE_NOT_FOUND")
    assert await platform.seats_used(grant) == 1


async def test_a_device_that_waits_for_approval_can_withdraw(platform: Platform) -> None:
    grant = await (await platform.vendor()).license(approval=Approval.ALLOW_LIST)
    device = (await platform.api.activate(grant.key)).ok(202)["deviceId"]

    assert (await platform.api.deactivate(grant.key, device)).ok() == {"success": True}

    assert (await platform.device(device))["state"] == "released"
    (found,) = await platform.rows("SELECT devices_pending FROM license WHERE id = $1", grant.id)
    assert found["devices_pending"] == 0


@pytest.mark.parametrize("verb", [Suspend, Revoke])
async def test_a_seat_of_a_withdrawn_license_can_be_given_back(
    platform: Platform, verb: type[Suspend] | type[Revoke]
) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license()
    device = (await platform.api.activate(grant.key)).ok(201)["deviceId"]
    await vendor.licenses.set_status(grant.ref, verb)

    assert (await platform.api.deactivate(grant.key, device)).ok() == {"success": True}
    assert await platform.seats_used(grant) == 0


async def test_a_seat_above_a_lowered_limit_serves_nobody_else(platform: Platform) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license(seats=2)
    first = (await platform.api.activate(grant.key, "a")).ok(201)["deviceId"]
    (await platform.api.activate(grant.key, "b")).ok(201)
    await vendor.licenses.resize(grant.ref, 1)

    (await platform.api.deactivate(grant.key, first)).ok()

    refused = await platform.api.activate(grant.key, "c")
    assert (*refused.refusal, refused.json["limit"], refused.json["used"]) == (403, "DEVICE_LIMIT_EXCEEDED", 1, 1)


# --- Reset ------------------------------------------------------------------------------------------------------


async def test_a_reset_frees_the_seat_and_says_since_when(platform: Platform) -> None:
    grant = await (await platform.vendor()).license()
    device = (await platform.api.activate(grant.key)).ok(201)["deviceId"]

    first = (await platform.api.reset(grant.key, device)).ok()
    second = (await platform.api.reset(grant.key, device)).ok()

    row = await platform.device(device)
    assert (row["state"], row["ended_reason"]) == ("released", "reset")
    assert first == second == {"activated": False, "lastResetTime": row["reset_at"].strftime("%Y-%m-%dT%H:%M:%SZ")}
    assert await platform.seats_used(grant) == 0
    assert await events(platform, grant) == [
        ("device.activated", None, "device"),
        ("device.released", "reset", "holder"),
    ]


async def test_each_reset_of_a_new_seat_has_its_own_time(fresh_platform: Platform) -> None:
    platform = fresh_platform
    grant = await (await platform.vendor()).license()
    device = (await platform.api.activate(grant.key)).ok(201)["deviceId"]
    first = (await platform.api.reset(grant.key, device)).ok()
    (await platform.api.activate(grant.key)).ok(201)
    await platform.move_clock(hours=1)

    second = (await platform.api.reset(grant.key, device)).ok()

    times = [datetime.fromisoformat(answer["lastResetTime"]) for answer in (first, second)]
    assert 3599 <= (times[1] - times[0]).total_seconds() <= 3660


async def test_a_device_that_gave_its_seat_back_can_be_reset_too(platform: Platform) -> None:
    grant = await (await platform.vendor()).license()
    device = (await platform.api.activate(grant.key)).ok(201)["deviceId"]
    (await platform.api.deactivate(grant.key, device)).ok()

    first = (await platform.api.reset(grant.key, device)).ok()

    assert first == (await platform.api.reset(grant.key, device)).ok()
    assert (await platform.device(device))["ended_reason"] == "user"


# --- Whose device -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", EVERY_PATH)
async def test_another_licenses_and_another_accounts_devices_are_not_found(platform: Platform, path: str) -> None:
    vendor, stranger = await platform.vendor(), await platform.vendor()
    grant, other, strange = await vendor.license(), await vendor.license(), await stranger.license()
    device = (await platform.api.activate(grant.key)).ok(201)["deviceId"]

    for key in (other.key, strange.key):
        answer = await platform.api.post(path, {"deviceId": device, "licenseKey": key})
        assert answer.refusal == (404, "DEVICE_NOT_FOUND")
    assert await platform.seats_used(grant) == 1


@pytest.mark.parametrize("path", EVERY_PATH)
async def test_a_device_nobody_knows_is_not_found(platform: Platform, path: str) -> None:
    grant = await (await platform.vendor()).license()

    for device in (str(uuid4()), str(device_id(grant.id, "never-seen")), "laptop", "💻", "0" * 32, "{}"):
        answer = await platform.api.post(path, {"deviceId": device, "licenseKey": grant.key})
        assert answer.refusal == (404, "DEVICE_NOT_FOUND"), device
    assert await events(platform, grant) == []


@pytest.mark.parametrize("path", EVERY_PATH)
async def test_without_the_right_key_nothing_is_given_back(platform: Platform, path: str) -> None:
    grant = await (await platform.vendor()).license()
    device = (await platform.api.activate(grant.key)).ok(201)["deviceId"]

    for key in (mistyped(grant.key), "1" + "0" * 27, "short", "a key of somebody else"):
        answer = await platform.api.post(path, {"deviceId": device, "licenseKey": key})
        assert answer.refusal == (401, "LICENSE_KEY_INVALID")
    assert await platform.seats_used(grant) == 1


async def test_a_blocked_device_stays_blocked_when_it_is_given_back(platform: Platform) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license()
    device = (await platform.api.activate(grant.key)).ok(201)["deviceId"]
    await vendor.licenses.set_blocked(grant.ref, UUID(device), blocked=True)

    (await platform.api.deactivate(grant.key, device)).ok()
    (await platform.api.reset(grant.key, device)).ok()

    assert (await platform.device(device))["state"] == "blocked"
    assert (await platform.api.activate(grant.key)).refusal == (403, "DEVICE_BLOCKED")


async def test_a_reinstated_license_keeps_the_seats_it_had(platform: Platform) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license(seats=1)
    (await platform.api.activate(grant.key)).ok(201)
    for verb in (Suspend, Reinstate):
        await vendor.licenses.set_status(grant.ref, verb)

    (await platform.api.activate(grant.key)).ok(200)

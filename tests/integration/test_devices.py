"""A holder's own devices: seen and freed with the license key in a header."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from shared.licensing.model import Approval
from tests.platform import Answer, Grant, Platform, license_header, mistyped

pytest_plugins = ["tests.platform"]


async def delete(platform: Platform, key: str, device: str) -> Answer:
    return await platform.api.ask("DELETE", f"/v1/devices/{device}", headers=license_header(key))


async def activated(platform: Platform, grant: Grant, count: int) -> list[str]:
    ids = [(await platform.api.activate(grant.key, f"device-{n}")).ok(201)["deviceId"] for n in range(count)]
    return sorted(ids, key=lambda text: UUID(text).bytes)


async def test_a_holder_sees_the_devices_that_hold_a_seat(platform: Platform) -> None:
    grant = await (await platform.vendor()).license(seats=3)
    first = (await platform.api.activate(grant.key, "laptop", name="Ada’s laptop")).ok(201)
    gone = (await platform.api.activate(grant.key, "phone")).ok(201)["deviceId"]
    (await platform.api.deactivate(grant.key, gone)).ok()

    answer = (await platform.api.devices(grant.key)).ok()

    (device,) = answer["devices"]
    assert (answer["limit"], answer["used"]) == (3, 1)
    assert "next" not in answer
    times = {name: datetime.fromisoformat(device.pop(name)) for name in ("activatedAt", "lastContactAt")}
    assert device == {
        "deviceId": first["deviceId"],
        "name": "Ada’s laptop",
        "fingerprint": "laptop",
        "state": "active",
        "generation": 1,
        "leaseExpiresAt": first["leaseExpiresAt"],
    }
    assert times["activatedAt"] == times["lastContactAt"]


async def test_a_holder_can_ask_for_the_devices_of_the_past(platform: Platform) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license()
    released, blocked, _ = [(await platform.api.activate(grant.key, name)).ok(201)["deviceId"] for name in "rba"]
    (await platform.api.deactivate(grant.key, released)).ok()
    await vendor.licenses.set_blocked(grant.ref, UUID(blocked), blocked=True)

    past = (await platform.api.devices(grant.key, "?state=released&state=blocked")).ok()["devices"]

    told = {device["deviceId"]: (device["state"], device["endedReason"]) for device in past}
    assert told == {released: ("released", "user"), blocked: ("blocked", "blocked")}
    assert all(datetime.fromisoformat(device["endedAt"]) for device in past)


async def test_devices_that_wait_for_approval_are_shown_without_a_seat(platform: Platform) -> None:
    grant = await (await platform.vendor()).license(approval=Approval.ALLOW_LIST)
    (await platform.api.activate(grant.key)).ok(202)

    answer = (await platform.api.devices(grant.key)).ok()

    assert (answer["used"], [device["state"] for device in answer["devices"]]) == (0, ["pending"])
    assert "activatedAt" not in answer["devices"][0]


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7, 500])
async def test_pages_hold_every_device_once(platform: Platform, limit: int) -> None:
    grant = await (await platform.vendor()).license(seats=6)
    expected = await activated(platform, grant, 6)

    seen: list[str] = []
    pages = 0
    query = f"?limit={limit}"
    while query:
        page: dict[str, Any] = (await platform.api.devices(grant.key, query)).ok()
        assert len(page["devices"]) <= limit
        seen += [device["deviceId"] for device in page["devices"]]
        pages += 1
        query = f"?limit={limit}&after={page['next']}" if "next" in page else ""

    assert seen == expected
    assert pages == -(-6 // limit)


async def test_a_license_without_devices_has_an_empty_page(platform: Platform) -> None:
    grant = await (await platform.vendor()).license(seats=2)

    assert (await platform.api.devices(grant.key)).ok() == {"limit": 2, "used": 0, "devices": []}


async def test_a_holder_sees_nobody_elses_devices(platform: Platform) -> None:
    vendor, stranger = await platform.vendor(), await platform.vendor()
    grant, other, strange = await vendor.license(), await vendor.license(), await stranger.license()
    (await platform.api.activate(other.key)).ok(201)
    (await platform.api.activate(strange.key)).ok(201)

    assert (await platform.api.devices(grant.key)).ok()["devices"] == []


@pytest.mark.parametrize(
    "query", ["?limit=0", "?limit=501", "?limit=ten", "?limit=", "?after=first", "?state=gone", "?state=", "?limit=-1"]
)
async def test_a_query_that_makes_no_sense_is_refused(platform: Platform, query: str) -> None:
    grant = await (await platform.vendor()).license()

    assert (await platform.api.devices(grant.key, query)).refusal == (400, "REQUEST_INVALID")


async def test_a_holder_frees_a_device_once_however_often_it_is_said(platform: Platform) -> None:
    grant = await (await platform.vendor()).license(seats=1)
    device = (await platform.api.activate(grant.key)).ok(201)["deviceId"]

    for _ in range(2):
        assert (await delete(platform, grant.key, device)).ok() == {"success": True}

    assert (await platform.api.devices(grant.key)).ok()["devices"] == []
    (await platform.api.activate(grant.key, "another")).ok(201)


async def test_another_licenses_and_another_accounts_devices_cannot_be_freed(platform: Platform) -> None:
    vendor, stranger = await platform.vendor(), await platform.vendor()
    grant, other, strange = await vendor.license(), await vendor.license(), await stranger.license()
    device = (await platform.api.activate(grant.key)).ok(201)["deviceId"]

    for key in (other.key, strange.key):
        assert (await delete(platform, key, device)).refusal == (404, "DEVICE_NOT_FOUND")
    for unknown in (str(uuid4()), "laptop", "%00", "a" * 5000):
        assert (await delete(platform, grant.key, unknown)).refusal == (404, "DEVICE_NOT_FOUND")
    assert await platform.seats_used(grant) == 1


@pytest.mark.parametrize(
    "authorization",
    [None, "", "License", "License  ", "Bearer KEY", "Basic KEY", "KEY", "License \u00e9\u00e9", "LicenseKEY"],
)
async def test_without_the_key_in_the_header_nothing_is_told(platform: Platform, authorization: str | None) -> None:
    grant = await (await platform.vendor()).license()
    device = (await platform.api.activate(grant.key)).ok(201)["deviceId"]
    headers = {} if authorization is None else {"Authorization": authorization.replace("KEY", grant.key)}

    for method, path in (("GET", "/v1/devices"), ("DELETE", f"/v1/devices/{device}")):
        answer = await platform.api.ask(method, path, headers=headers)
        assert answer.refusal == (401, "LICENSE_KEY_INVALID")
        assert answer.headers["WWW-Authenticate"].startswith("License")
    assert await platform.seats_used(grant) == 1


async def test_the_scheme_is_read_in_any_case(platform: Platform) -> None:
    grant = await (await platform.vendor()).license()

    answer = await platform.api.ask("GET", "/v1/devices", headers={"Authorization": f"license   {grant.key.lower()} "})

    assert answer.ok()["devices"] == []


async def test_a_mistyped_or_unknown_key_sees_nothing(platform: Platform) -> None:
    grant = await (await platform.vendor()).license()

    for key in (mistyped(grant.key), "1" + "0" * 27, "short"):
        assert (await platform.api.devices(key)).refusal == (401, "LICENSE_KEY_INVALID")

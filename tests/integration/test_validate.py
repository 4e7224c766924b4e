"""Validation, as the clients that users already have ask for it."""

import asyncio
import json
import os
from datetime import UTC, datetime, timedelta

import pytest

from shared.licensing.model import Kind, Reinstate, Revoke, Suspend, device_id
from tests.platform import Answer, Grant, Platform, Vendor, mistyped

pytest_plugins = ["tests.platform"]

CURL = """curl -s POST "$URL/v1/validate" -H "Content-Type: application/json" -d '{"key": "%s"}'"""
UNKNOWN = "1" + "0" * 27


async def full_license(platform: Platform, vendor: Vendor) -> Grant:
    grant = await vendor.license(seats=1)
    (await platform.api.activate(grant.key, "holder")).ok(201)
    return grant


async def test_the_users_own_client_prints_true_or_false_for_any_key_and_state(platform: Platform) -> None:
    vendor = await platform.vendor()
    good, suspended, revoked = await vendor.license(), await vendor.license(), await vendor.license()
    await vendor.licenses.set_status(suspended.ref, Suspend)
    await vendor.licenses.set_status(revoked.ref, Revoke)
    expired = await vendor.license(expires_at=datetime.now(UTC) - timedelta(days=1))
    full = await full_license(platform, vendor)
    expected = {
        good.key: "true",
        full.key: "true",
        good.key.lower(): "true",
        UNKNOWN: "false",
        "an-imported-key-nobody-issued": "false",
        mistyped(good.key): "false",
        "": "false",
        "short": "false",
        "x" * 5000: "false",
        "\\u0000" * 20: "false",
        "\\ud800": "false",
        suspended.key: "false",
        revoked.key: "false",
        expired.key: "false",
    }

    printed = await asyncio.gather(*(print_valid(platform.api.url, key) for key in expected))

    assert dict(zip(expected, printed, strict=True)) == expected


async def print_valid(url: str, key: str) -> str:
    """What `… | jq '.valid'` prints."""
    process = await asyncio.create_subprocess_shell(
        CURL % key, stdout=asyncio.subprocess.PIPE, env={**os.environ, "URL": url}
    )
    output, _ = await process.communicate()
    return json.dumps(json.loads(output).get("valid"))


@pytest.mark.parametrize("asked", ["first", "again"])
async def test_a_good_key_is_valid_with_its_counts(platform: Platform, asked: str) -> None:
    grant = await (await platform.vendor()).license(seats=2)
    (await platform.api.activate(grant.key)).ok(201)
    if asked == "again":
        await platform.api.validate(grant.key)

    answer = (await platform.api.validate(grant.key)).ok()

    assert answer == {"valid": True, "code": "VALID", "full": False, "limit": 2, "used": 1}


async def test_a_full_license_is_valid_and_says_that_it_is_full(platform: Platform) -> None:
    grant = await full_license(platform, await platform.vendor())

    answer = (await platform.api.validate(grant.key)).ok()

    assert answer == {"valid": True, "code": "VALID", "full": True, "limit": 1, "used": 1}


@pytest.mark.parametrize(("verb", "code"), [(Suspend, "LICENSE_SUSPENDED"), (Revoke, "LICENSE_REVOKED")])
@pytest.mark.parametrize("fingerprint", [None, "laptop", "another"])
async def test_a_withdrawn_license_is_not_valid_at_once(
    platform: Platform, verb: type[Suspend] | type[Revoke], code: str, fingerprint: str | None
) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license()
    (await platform.api.activate(grant.key)).ok(201)
    assert (await platform.api.validate(grant.key, fingerprint)).ok()["valid"] is True

    await vendor.licenses.set_status(grant.ref, verb)

    answer = (await platform.api.validate(grant.key, fingerprint)).ok()
    assert (answer["valid"], answer["code"]) == (False, code)


async def test_a_reinstated_license_is_valid_at_once(platform: Platform) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license()
    (await platform.api.activate(grant.key)).ok(201)
    for verb, valid in ((Suspend, False), (Reinstate, True), (Suspend, False), (Reinstate, True)):
        await vendor.licenses.set_status(grant.ref, verb)

        assert (await platform.api.validate(grant.key)).ok()["valid"] is valid
        assert (await platform.api.validate(grant.key, "laptop")).ok()["valid"] is valid


async def test_a_license_stops_being_valid_when_it_expires(fresh_platform: Platform) -> None:
    vendor = await fresh_platform.vendor()
    grant = await vendor.license(expires_at=datetime.now(UTC) + timedelta(hours=1))
    (await fresh_platform.api.activate(grant.key)).ok(201)
    assert (await fresh_platform.api.validate(grant.key)).ok()["valid"] is True

    await fresh_platform.move_clock(hours=1.1)

    for fingerprint in (None, "laptop", "another"):
        answer = (await fresh_platform.api.validate(grant.key, fingerprint)).ok()
        assert (answer["valid"], answer["code"]) == (False, "LICENSE_EXPIRED"), fingerprint


# --- With a fingerprint -----------------------------------------------------------------------------------------


async def test_a_device_with_a_seat_is_valid_though_the_license_is_full(platform: Platform) -> None:
    grant = await full_license(platform, await platform.vendor())

    answer = (await platform.api.validate(grant.key, "holder")).ok()

    assert answer == {"valid": True, "code": "VALID", "full": True, "limit": 1, "used": 1}


async def test_a_device_without_a_seat_of_a_full_license_is_refused(platform: Platform) -> None:
    grant = await full_license(platform, await platform.vendor())

    for _ in range(2):  # the second answer comes from the refusals kept
        refused = await platform.api.validate(grant.key, "another")

        assert refused.refusal == (403, "DEVICE_LIMIT_EXCEEDED")
        assert (refused.json["valid"], refused.json["limit"], refused.json["used"]) == (False, 1, 1)


async def test_a_device_without_a_seat_is_told_to_activate_where_there_is_room(platform: Platform) -> None:
    grant = await (await platform.vendor()).license(seats=2)
    (await platform.api.activate(grant.key, "holder")).ok(201)

    answer = (await platform.api.validate(grant.key, "another")).ok()

    assert answer == {"valid": True, "code": "DEVICE_NOT_ACTIVATED", "full": False, "limit": 2, "used": 1}
    assert await platform.seats_used(grant) == 1


async def test_a_refused_device_is_valid_as_soon_as_it_got_the_seat(platform: Platform) -> None:
    grant = await full_license(platform, await platform.vendor())
    assert (await platform.api.validate(grant.key, "another")).status == 403
    (await platform.api.deactivate(grant.key, str(device_id(grant.id, "holder")))).ok()
    assert (await platform.api.validate(grant.key, "another")).ok()["code"] == "DEVICE_NOT_ACTIVATED"

    (await platform.api.activate(grant.key, "another")).ok(201)

    assert (await platform.api.validate(grant.key, "another")).ok()["code"] == "VALID"
    assert (await platform.api.validate(grant.key, "holder")).refusal == (403, "DEVICE_LIMIT_EXCEEDED")


async def test_a_blocked_device_is_refused_though_there_is_room(platform: Platform) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license()
    (await platform.api.activate(grant.key)).ok(201)
    await vendor.licenses.set_blocked(grant.ref, device_id(grant.id, "laptop"), blocked=True)

    refused = await platform.api.validate(grant.key, "laptop")

    assert (*refused.refusal, refused.json["valid"]) == (403, "DEVICE_BLOCKED", False)


async def test_validating_extends_a_floating_lease(platform: Platform) -> None:
    grant = await (await platform.vendor()).license(kind=Kind.FLOATING)
    device = (await platform.api.activate(grant.key)).ok(201)["deviceId"]
    before = await platform.device(device)

    assert (await platform.api.validate(grant.key, "laptop")).ok()["valid"] is True

    after = await platform.device(device)
    assert after["lease_expires_at"] > before["lease_expires_at"]
    assert after["last_contact_at"] > before["last_contact_at"]
    assert after["generation"] == before["generation"]


async def test_validating_without_a_seat_extends_nothing(platform: Platform) -> None:
    grant = await (await platform.vendor()).license(kind=Kind.FLOATING)
    device = (await platform.api.activate(grant.key)).ok(201)["deviceId"]
    before = await platform.device(device)

    (await platform.api.validate(grant.key)).ok()
    (await platform.api.validate(grant.key, "another")).ok()

    assert await platform.device(device) == before


async def test_validating_once_in_half_a_year_keeps_no_seat_but_once_in_a_month_does(fresh_platform: Platform) -> None:
    platform = fresh_platform
    grant = await (await platform.vendor()).license()
    for fingerprint in ("heard", "silent"):
        (await platform.api.activate(grant.key, fingerprint)).ok(201)

    for day in (30, 60, 90, 120):
        await platform.move_clock(days=day)
        assert (await platform.api.validate(grant.key, "heard")).ok()["code"] == "VALID"
        await platform.standalone.reap()

    assert (await platform.api.validate(grant.key, "silent")).ok()["code"] == "DEVICE_NOT_ACTIVATED"
    assert await platform.seats_used(grant) == 1


# --- Refusals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fingerprint", [None, "laptop"])
async def test_an_unknown_key_is_refused(platform: Platform, fingerprint: str | None) -> None:
    answer = await platform.api.validate(UNKNOWN, fingerprint)

    assert (*answer.refusal, answer.json["valid"]) == (401, "LICENSE_KEY_INVALID", False)
    assert "limit" not in answer.json


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b'{"key": 7}', b'{"key": null}', b'{"key": "k", "fingerprint": ""}', b"\xff"]
)
async def test_a_request_that_cannot_be_read_is_not_valid_either(platform: Platform, body: bytes) -> None:
    answer = await platform.api.post("/v1/validate", data=body)

    assert (*answer.refusal, answer.json["valid"]) == (400, "REQUEST_INVALID", False)


async def test_too_large_a_request_is_not_valid_either(platform: Platform) -> None:
    answer = await platform.api.validate("x" * 70_000)

    assert (*answer.refusal, answer.json["valid"]) == (413, "REQUEST_TOO_LARGE", False)


async def test_what_cannot_be_told_is_neither_valid_nor_invalid(gated_platform: Platform) -> None:
    platform = gated_platform
    assert platform.gates is not None
    grant = await (await platform.vendor()).license()

    await platform.gates.postgres.shut()

    for fingerprint in (None, "laptop"):
        answer = await platform.api.validate(grant.key, fingerprint)
        assert_unknown(answer)
    await platform.gates.postgres.open()
    assert (await platform.api.validate(grant.key)).ok()["valid"] is True


def assert_unknown(answer: Answer) -> None:
    assert answer.refusal == (503, "OVERLOADED")
    assert "valid" not in answer.json
    assert answer.json["retryable"] is True
    assert int(answer.headers["Retry-After"]) >= 1


async def test_a_key_with_a_typing_error_is_refused_without_a_look_up(gated_platform: Platform) -> None:
    platform = gated_platform
    assert platform.gates is not None
    grant = await (await platform.vendor()).license()
    await platform.gates.postgres.shut()
    await platform.gates.redis.shut()

    for key in (mistyped(grant.key), "", "short", "x" * 200):
        answer = await platform.api.validate(key)
        assert (*answer.refusal, answer.json["valid"]) == (401, "LICENSE_KEY_INVALID", False)
    assert "mistyped" in (await platform.api.validate(mistyped(grant.key))).json["detail"]


async def test_redis_says_yes_while_postgres_is_away_but_never_no(gated_platform: Platform) -> None:
    platform = gated_platform
    assert platform.gates is not None
    grant = await full_license(platform, await platform.vendor())
    assert (await platform.api.validate(grant.key, "another")).status == 403
    await asyncio.sleep(1.1)  # what was refused is forgotten

    await platform.gates.postgres.shut()

    assert (await platform.api.validate(grant.key)).ok()["valid"] is True
    assert (await platform.api.validate(grant.key, "holder")).ok()["valid"] is True
    assert_unknown(await platform.api.validate(grant.key, "another"))

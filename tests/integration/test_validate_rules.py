"""Validation under a policy's rules: versions, entitlements, an end that only warns, more devices than seats."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.licensing.model import Kind, OnExpiry, Overage, Rules, Suspend
from tests.platform import Grant, Platform

pytest_plugins = ["tests.platform"]

RULES = Rules(min_version="2.1", entitlements={"export": None, "render": 4})
KINDS = list(Kind)


async def validate(platform: Platform, grant: Grant, fingerprint: str | None = None, **members: Any) -> Any:
    named = {"fingerprint": fingerprint} if fingerprint else {}
    return await platform.api.post("/v1/validate", {"key": grant.key, **named, **members})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fingerprint", [None, "holder", "another"])
@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"version": "2.1"}, None),
        ({"version": "2.0"}, "VERSION_NOT_SUPPORTED"),
        ({}, "VERSION_NOT_SUPPORTED"),
        ({"version": "3", "entitlements": ["export", "render"]}, None),
        ({"version": "3", "entitlements": ["export", "print"]}, "ENTITLEMENT_MISSING"),
        ({"version": "1", "entitlements": ["print"]}, "VERSION_NOT_SUPPORTED"),
    ],
)
async def test_a_key_is_valid_for_what_its_policy_covers(
    platform: Platform, kind: Kind, fingerprint: str | None, members: dict[str, Any], code: str | None
) -> None:
    grant = await (await platform.vendor()).license(kind=kind, rules=RULES)
    (await platform.api.activate(grant.key, "holder", version="2.1")).ok(201)

    for _ in range(2):
        answer = await validate(platform, grant, fingerprint, **members)
        if code is None:
            assert answer.ok()["code"] == ("DEVICE_NOT_ACTIVATED" if fingerprint == "another" else "VALID")
        else:
            assert (*answer.refusal, answer.json["valid"]) == (403, code, False)
            assert (answer.json["limit"], answer.json["used"]) == (3, 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fingerprint", [None, "holder"])
async def test_entitlements_are_asked_for_without_a_range_of_versions_too(
    platform: Platform, kind: Kind, fingerprint: str | None
) -> None:
    grant = await (await platform.vendor()).license(kind=kind, rules=Rules(entitlements={"export": 0}))
    (await platform.api.activate(grant.key, "holder")).ok(201)

    assert (await validate(platform, grant, fingerprint)).ok()["valid"] is True
    assert (await validate(platform, grant, fingerprint, entitlements=["export"])).ok()["code"] == "VALID"
    refused = await validate(platform, grant, fingerprint, entitlements=["print"])
    assert (*refused.refusal, refused.json["valid"]) == (403, "ENTITLEMENT_MISSING", False)
    assert (await validate(platform, grant, fingerprint, entitlements=["export"])).ok()["valid"] is True


async def test_the_license_itself_counts_for_more_than_the_application(platform: Platform) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license(seats=1, rules=RULES)
    (await platform.api.activate(grant.key, "holder", version="2.1")).ok(201)
    refused = await validate(platform, grant, "another", version="2.1")
    assert refused.refusal == (403, "DEVICE_LIMIT_EXCEEDED")

    await vendor.licenses.set_status(grant.ref, Suspend)

    for fingerprint in (None, "holder", "another"):
        answer = (await validate(platform, grant, fingerprint, version="1")).ok()
        assert (answer["valid"], answer["code"]) == (False, "LICENSE_SUSPENDED")


@pytest.mark.parametrize(
    "members",
    [{"version": ""}, {"version": 2}, {"entitlements": "export"}, {"entitlements": [""]}, {"entitlements": [7]}],
)
async def test_what_is_asked_has_to_be_readable(platform: Platform, members: dict[str, Any]) -> None:
    grant = await (await platform.vendor()).license()

    answer = await validate(platform, grant, **members)

    assert (*answer.refusal, answer.json["valid"]) == (400, "REQUEST_INVALID", False)


# --- The license's end ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("on_expiry", "expected"),
    [
        (OnExpiry.REFUSE_ALL, {None: "LICENSE_EXPIRED", "holder": "LICENSE_EXPIRED", "another": "LICENSE_EXPIRED"}),
        (OnExpiry.REFUSE_NEW, {None: "VALID", "holder": "VALID", "another": "LICENSE_EXPIRED"}),
        (OnExpiry.WARN, {None: "VALID", "holder": "VALID", "another": "DEVICE_NOT_ACTIVATED"}),
    ],
)
async def test_what_the_end_means_is_the_policys(
    fresh_platform: Platform, kind: Kind, on_expiry: OnExpiry, expected: dict[str | None, str]
) -> None:
    platform = fresh_platform
    end = datetime.now(UTC) + timedelta(minutes=5)
    grant = await (await platform.vendor()).license(kind=kind, expires_at=end, rules=Rules(on_expiry=on_expiry))
    (await platform.api.activate(grant.key, "holder")).ok(201)
    for fingerprint in expected:
        assert "warning" not in (await validate(platform, grant, fingerprint)).ok()

    await platform.move_clock(hours=0.1)

    for fingerprint, code in expected.items():
        for _ in range(2):
            answer = (await validate(platform, grant, fingerprint)).ok()
            valid = code != "LICENSE_EXPIRED"
            assert (fingerprint, answer["code"], answer["valid"]) == (fingerprint, code, valid)
            assert answer.get("warning") == ("LICENSE_EXPIRED" if valid else None)


# --- More devices than seats ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_where_more_devices_than_seats_are_sold_none_is_refused_for_want_of_one(
    platform: Platform, kind: Kind
) -> None:
    rules = Rules(overage=Overage.UNLIMITED)
    grant = await (await platform.vendor()).license(seats=1, kind=kind, rules=rules)
    for name in ("first", "second"):
        (await platform.api.activate(grant.key, name)).ok(201)

    expected: dict[str | None, str] = {None: "VALID", "second": "VALID", "another": "DEVICE_NOT_ACTIVATED"}
    for fingerprint, code in expected.items():
        for _ in range(2):
            answer = (await validate(platform, grant, fingerprint)).ok()
            assert answer == {"valid": True, "code": code, "full": True, "limit": 1, "used": 2, "overage": True}

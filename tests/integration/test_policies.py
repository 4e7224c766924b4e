"""Policies as a user's application meets them: what is granted, marked, warned of or refused, and what it is told."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from services.portal.accounts import terms
from shared.ledger.catalog import CatalogError
from shared.licensing.model import Approval, HoldOffline, Kind, OnExpiry, Overage, Rules, device_id
from shared.signing import base64url
from tests.invariants import check_invariants
from tests.platform import Grant, Platform

pytest_plugins = ["tests.platform"]


async def license(platform: Platform, *, seats: int = 1, **rules: Any) -> Grant:
    return await (await platform.vendor()).license(seats=seats, rules=Rules(**rules))


def claims(lease: str) -> dict[str, Any]:
    payload = base64url.decode(lease.split(".")[1].encode())
    assert payload is not None
    found: dict[str, Any] = msgspec.json.decode(payload)
    return found


async def hold_offline(platform: Platform, grant: Grant, fingerprint: str, days: int) -> None:
    """As the issuing of an offline file does."""
    row = await platform.rows("SELECT ledger_clock() AS now")
    await platform.resources.ledger.submit(
        HoldOffline(
            account_id=grant.account,
            license_id=grant.id,
            actor="holder",
            device_id=device_id(grant.id, fingerprint),
            until=row[0]["now"] + timedelta(days=days),
        )
    )


async def test_overage_serves_and_marks_what_is_beyond_the_seats(platform: Platform) -> None:
    grant = await license(platform, overage=Overage.UNLIMITED)
    first = (await platform.api.activate(grant.key, "one")).ok(201)
    second = (await platform.api.activate(grant.key, "two")).ok(201)

    assert "overage" not in first
    assert (second["overage"], second["limit"], second["used"]) == (True, 1, 2)
    trail = await platform.rows(
        "SELECT seats_limit, seats_used FROM audit WHERE license_id = $1 ORDER BY version DESC LIMIT 1", grant.id
    )
    assert trail == [{"seats_limit": 1, "seats_used": 2}]
    await check_invariants(platform.database)


async def test_a_trial_says_so_and_ends_a_time_after_its_first_activation(fresh_platform: Platform) -> None:
    platform = fresh_platform
    grant = await license(platform, trial=True, valid_s=30 * 86_400)
    before = (await platform.rows("SELECT expires_at FROM license WHERE id = $1", grant.id))[0]
    activated = (await platform.api.activate(grant.key)).ok(201)

    assert before == {"expires_at": None}
    assert activated["trial"] is True
    ends = datetime.fromisoformat(activated["expiresAt"]) - datetime.now(UTC)
    assert timedelta(days=29, hours=23) < ends <= timedelta(days=30)
    assert claims(activated["lease"])["trial"] is True

    await platform.move_clock(days=31)
    assert (await platform.api.activate(grant.key)).refusal == (403, "LICENSE_EXPIRED")


async def test_what_is_sold_stands_in_the_answer_and_in_the_signed_lease(platform: Platform) -> None:
    grant = await license(platform, entitlements={"export": None, "projects": 5})
    activated = (await platform.api.activate(grant.key, entitlements=["export"])).ok(201)
    sold = {"export": None, "projects": 5}
    assert (activated["entitlements"], claims(activated["lease"])["entitlements"]) == (sold, sold)

    plain = (await platform.api.activate((await license(platform)).key)).ok(201)
    assert not {"entitlements", "trial", "overage", "warning"} & plain.keys()
    assert not {"entitlements", "trial"} & claims(plain["lease"]).keys()


async def test_what_is_not_sold_is_refused_before_a_seat_is_taken(platform: Platform) -> None:
    grant = await license(platform, entitlements={"export": None})
    answer = await platform.api.activate(grant.key, entitlements=["export", "import"])
    assert answer.refusal == (403, "ENTITLEMENT_MISSING")
    assert await platform.seats_used(grant) == 0


@pytest.mark.parametrize(("version", "served"), [("2.4.1", True), ("1.9", False), ("3.0", False), (None, False)])
async def test_versions_outside_the_range_get_no_seat(platform: Platform, version: str | None, served: bool) -> None:
    grant = await license(platform, min_version="2", max_version="2")
    answer = await platform.api.activate(grant.key, **({"version": version} if version else {}))
    if served:
        answer.ok(201)
    else:
        assert answer.refusal == (403, "VERSION_NOT_SUPPORTED")
    assert await platform.seats_used(grant) == int(served)


async def test_more_activations_than_the_policy_allows_in_an_hour_wait(fresh_platform: Platform) -> None:
    platform = fresh_platform
    grant = await license(platform, seats=5, activations_per_hour=2)
    for fingerprint, status in (("one", 201), ("two", 201), ("one", 200)):
        (await platform.api.activate(grant.key, fingerprint)).ok(status)

    refused = await platform.api.activate(grant.key, "three")
    assert refused.refusal == (429, "TOO_MANY_REQUESTS")
    assert refused.json["retryable"] is True
    assert 3500 < refused.json["retryAfter"] <= 3600

    await platform.move_clock(hours=1)
    (await platform.api.activate(grant.key, "three")).ok(201)


async def test_more_releases_than_the_policy_allows_in_a_year_are_the_vendors_to_make(platform: Platform) -> None:
    grant = await license(platform, seats=2, releases_per_year=1)
    devices = [(await platform.api.activate(grant.key, name)).ok(201)["deviceId"] for name in ("one", "two")]
    for _ in range(2):
        (await platform.api.deactivate(grant.key, devices[0])).ok()

    for refused in (
        await platform.api.deactivate(grant.key, devices[1]),
        await platform.api.reset(grant.key, devices[1]),
    ):
        assert refused.refusal == (403, "RELEASE_LIMIT_EXCEEDED")
        assert datetime.fromisoformat(refused.json["until"]) - datetime.now(UTC) > timedelta(days=364)
    assert await platform.seats_used(grant) == 1


@pytest.mark.parametrize(
    ("on_expiry", "repeated", "new"),
    [
        (OnExpiry.REFUSE_ALL, 403, 403),
        (OnExpiry.REFUSE_NEW, 200, 403),
        (OnExpiry.WARN, 200, 201),
    ],
)
async def test_the_end_of_a_license_means_what_the_policy_says(
    platform: Platform, on_expiry: OnExpiry, repeated: int, new: int
) -> None:
    grant = await license(platform, seats=2, on_expiry=on_expiry)
    (await platform.api.activate(grant.key, "old")).ok(201)
    await platform.rows("UPDATE license SET expires_at = now() - interval '1 hour' WHERE id = $1", grant.id)

    for fingerprint, status in (("old", repeated), ("new", new)):
        answer = await platform.api.activate(grant.key, fingerprint)
        if status == 403:
            assert answer.refusal == (403, "LICENSE_EXPIRED")
        else:
            told = answer.ok(status)
            assert told["warning"] == "LICENSE_EXPIRED"
            assert claims(told["lease"])["exp"] > datetime.now(UTC).timestamp() + 86_400


async def test_a_seat_behind_an_offline_file_is_not_given_back(platform: Platform) -> None:
    grant = await license(platform, offline_max_days=30)
    device = (await platform.api.activate(grant.key)).ok(201)["deviceId"]
    await hold_offline(platform, grant, "laptop", 20)

    refused = await platform.api.deactivate(grant.key, device)
    assert refused.refusal == (409, "OFFLINE_HELD")
    left = datetime.fromisoformat(refused.json["until"]) - datetime.now(UTC)
    assert timedelta(days=19) < left <= timedelta(days=20)
    assert await platform.seats_used(grant) == 1


async def test_waiting_devices_are_few_and_approved_ones_count_no_more(platform: Platform) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license(seats=1, approval=Approval.ALLOW_LIST)
    for number in range(100):
        assert (await platform.api.activate(grant.key, f"device-{number}")).status == 202
    assert (await platform.api.activate(grant.key, "one too many")).refusal == (403, "DEVICE_NOT_ALLOWED")

    await vendor.licenses.approve(grant.ref, "device-7")
    assert (await platform.api.activate(grant.key, "one too many")).status == 202
    (await platform.api.activate(grant.key, "device-7")).ok(201)
    await check_invariants(platform.database)


async def test_a_policy_with_faults_is_not_made_and_all_are_told(platform: Platform) -> None:
    vendor = await platform.vendor()
    wrong = terms(
        kind=Kind.FLOATING,
        product_code="app",
        lease_s=90_000,
        rules=Rules(trial=True, releases_per_year=3, max_version="newest"),
    )
    with pytest.raises(CatalogError, match=r"floating lease.*trial has an end.*version begins.*node-locked"):
        await vendor.accounts.add_policy(vendor.account, name="wrong", seats=1, terms=wrong)
    assert await platform.rows("SELECT FROM policy WHERE name = 'wrong'") == []


async def test_a_device_without_a_seat_is_told_who_holds_them_where_the_policy_lets_it_know(platform: Platform) -> None:
    for show_holders in (True, False):
        grant = await license(platform, seats=2, show_holders=show_holders)
        ids = {(await platform.api.activate(grant.key, name, name=name)).ok(201)["deviceId"] for name in ("one", "two")}
        refused = await platform.api.activate(grant.key, "three")
        assert refused.refusal == (403, "DEVICE_LIMIT_EXCEEDED")
        assert (refused.json["limit"], refused.json["used"]) == (2, 2)
        told = {one["deviceId"] for one in refused.json.get("holders", [])}
        assert told == (ids if show_holders else set())

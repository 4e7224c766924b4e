"""What a heartbeat's answer says besides yes or no: who wrote it, what it warns of, and when to come again."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.portal.accounts import terms
from shared.licensing.model import Kind, OnExpiry, Overage, Revoke, Rules, Suspend
from shared.licensing.policy_rules import faults
from shared.runtime.issuing import next_heartbeat_s
from tests.platform import Grant, Platform, Vendor
from tests.unit.test_signing_answer_mac import by_the_book

pytest_plugins = ["tests.platform"]

Seat = dict[str, Any]


# --- Genuine ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("nonce", [{}, {"nonce": "n-1"}, {"nonce": ""}, {"nonce": "ñ\n💻"}])
async def test_a_device_can_verify_every_answer_under_its_token(
    platform: Platform, kind: Kind, nonce: dict[str, str]
) -> None:
    grant = await (await platform.vendor()).license(kind=kind)
    seat = (await platform.api.activate(grant.key)).ok(201)
    token = seat["deviceToken"]
    members: list[dict[str, Any]] = [{}, {"validUntil": seat["validUntil"]}, {"counter": 1}, {"leave": True}, {}]

    answers = [(await platform.api.heartbeat(token, **more, **nonce)).json for more in members]

    assert [answer.get("code") or answer["state"] for answer in answers] == [*["active"] * 3, "released", "LEASE_LOST"]
    for answer in answers:
        assert answer["mac"] == by_the_book(token, answer)
        assert (answer["deviceId"], answer["generation"]) == (seat["deviceId"], 1)
        assert answer.get("nonce") == (nonce.get("nonce"))
        assert abs(datetime.fromisoformat(answer["serverTime"]) - datetime.now(UTC)) < timedelta(seconds=5)


async def test_nobody_is_answered_under_a_token_that_was_not_issued(platform: Platform) -> None:
    refused = await platform.api.heartbeat("skd1.forged", nonce="n")
    assert refused.refusal == (401, "TOKEN_INVALID")
    assert not refused.json.keys() & {"mac", "deviceId", "nonce", "serverTime"}


async def suspend(vendor: Vendor, grant: Grant, _device: UUID) -> None:
    await vendor.licenses.set_status(grant.ref, Suspend)


async def revoke(vendor: Vendor, grant: Grant, _device: UUID) -> None:
    await vendor.licenses.set_status(grant.ref, Revoke)


async def release(vendor: Vendor, grant: Grant, device: UUID) -> None:
    await vendor.licenses.release(grant.ref, device, forced=False)


@pytest.mark.parametrize(
    ("end", "refusal", "used"),
    [
        (suspend, (403, "LICENSE_SUSPENDED"), 2),
        (revoke, (403, "LICENSE_REVOKED"), 2),
        (release, (410, "LEASE_LOST"), 1),
    ],
)
async def test_a_refusal_says_how_many_seats_there_are(
    platform: Platform, end: Callable[..., Awaitable[None]], refusal: tuple[int, str], used: int
) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license(seats=5)
    seat = (await platform.api.activate(grant.key)).ok(201)
    (await platform.api.activate(grant.key, "another")).ok(201)

    await end(vendor, grant, UUID(seat["deviceId"]))

    for _ in range(2):  # the second comes from the refusals that are kept
        refused = await platform.api.heartbeat(seat["deviceToken"])
        assert refused.refusal == refusal
        assert (refused.json["limit"], refused.json["used"]) == (5, used)
        assert refused.json["mac"] == by_the_book(seat["deviceToken"], refused.json)


# --- Warnings ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("on_expiry", [OnExpiry.REFUSE_NEW, OnExpiry.WARN])
async def test_a_device_goes_on_past_the_licenses_end_with_a_warning(
    fresh_platform: Platform, kind: Kind, on_expiry: OnExpiry
) -> None:
    platform = fresh_platform
    end = datetime.now(UTC) + timedelta(hours=1)
    grant = await (await platform.vendor()).license(kind=kind, expires_at=end, rules=Rules(on_expiry=on_expiry))
    token = (await platform.api.activate(grant.key)).ok(201)["deviceToken"]
    if kind is Kind.NODE_LOCKED:
        assert "warning" not in (await platform.api.heartbeat(token)).ok()

    await platform.move_clock(hours=1.1)
    if kind is Kind.FLOATING and on_expiry is OnExpiry.REFUSE_NEW:
        (await platform.api.heartbeat(token)).ok()  # its lease ended meanwhile, and nobody took the seat

    far = (end + timedelta(days=6)).timestamp()
    for held in (far, 0):  # the one is answered by Redis where the lease is long, the other by the ledger
        answer = (await platform.api.heartbeat(token, validUntil=held)).ok()
        assert answer["warning"] == "LICENSE_EXPIRED"
        assert datetime.fromisoformat(answer["validUntil"]) > datetime.fromisoformat(answer["serverTime"])
    assert await platform.seats_used(grant) == 1


async def test_a_license_that_ends_for_all_ends_whatever_redis_says(fresh_platform: Platform) -> None:
    end = datetime.now(UTC) + timedelta(hours=1)
    grant = await (await fresh_platform.vendor()).license(expires_at=end)
    token = (await fresh_platform.api.activate(grant.key)).ok(201)["deviceToken"]

    await fresh_platform.move_clock(hours=1.1)

    assert (await fresh_platform.api.heartbeat(token)).refusal == (403, "LICENSE_EXPIRED")


@pytest.mark.parametrize("kind", Kind)
async def test_more_devices_than_seats_are_told_of_it(platform: Platform, kind: Kind) -> None:
    grant = await (await platform.vendor()).license(seats=1, kind=kind, rules=Rules(overage=Overage.UNLIMITED))
    token = (await platform.api.activate(grant.key)).ok(201)["deviceToken"]
    assert "overage" not in (await platform.api.heartbeat(token)).ok()

    (await platform.api.activate(grant.key, "another")).ok(201)

    assert (await platform.api.heartbeat(token)).ok()["overage"] is True


# --- Versions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", Kind)
async def test_only_the_versions_that_the_policy_serves_are_served(platform: Platform, kind: Kind) -> None:
    rules = Rules(min_version="2.1", max_version="2.3")
    grant = await (await platform.vendor()).license(kind=kind, rules=rules)
    token = (await platform.api.activate(grant.key, version="2.1.0")).ok(201)["deviceToken"]

    told = [
        (await platform.api.heartbeat(token, **version)).json.get("code", "active")
        for version in ({"version": "2.1"}, {"version": "2.0.9"}, {}, {"version": "2.3.9"}, {"version": "2.4"})
    ]

    refused = "VERSION_NOT_SUPPORTED"
    assert told == ["active", refused, refused, "active", refused]
    assert (await platform.api.heartbeat(token, version="1")).refusal == (403, refused)


@pytest.mark.parametrize("member", [{"version": ""}, {"version": "x" * 65}, {"version": 2}, {"version": "2\n"}])
async def test_a_version_is_a_short_text(platform: Platform, member: dict[str, object]) -> None:
    assert (await platform.api.heartbeat("skd1.x", **member)).refusal == (400, "REQUEST_INVALID")


# --- Coming again -----------------------------------------------------------------------------------------------


@given(lease_s=st.integers(1, 86_400), interval_s=st.integers(1, 86_400))
def test_no_floating_device_is_asked_back_later_than_its_lease(lease_s: int, interval_s: int) -> None:
    granted = terms(kind=Kind.FLOATING, product_code="p", lease_s=lease_s, heartbeat_interval_s=interval_s)
    if faults(granted, shortest_floating_lease_s=1):
        return
    assert max(next_heartbeat_s(interval_s) for _ in range(20)) <= lease_s


@pytest.mark.parametrize(("lease_s", "interval_s"), [(60, 50), (60, None), (3, 2), (86_400, 72_000)])
async def test_the_longest_interval_of_a_floating_policy_ends_within_the_lease(
    platform: Platform, lease_s: int, interval_s: int | None
) -> None:
    vendor = await platform.vendor()
    granted = terms(kind=Kind.FLOATING, product_code="app", lease_s=lease_s, heartbeat_interval_s=interval_s)
    await vendor.accounts.add_policy(vendor.account, name="longest", seats=1, terms=granted)
    key = (await vendor.licenses.create(vendor.account, policy="longest")).key
    token = (await platform.api.activate(key)).ok(201)["deviceToken"]

    answers = await asyncio.gather(*(platform.api.heartbeat(token) for _ in range(60)))

    for answer in (one.ok() for one in answers):
        left = datetime.fromisoformat(answer["leaseExpiresAt"]) - datetime.fromisoformat(answer["serverTime"])
        assert answer["nextHeartbeatIn"] <= left.total_seconds() == lease_s

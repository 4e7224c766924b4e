"""Heartbeats over HTTP: what a device is told while it holds its seat, and once it has lost it."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest

from shared.licensing.model import Kind, Reinstate, Revoke, Suspend
from shared.signing.device_token import DeviceClaims, DeviceTokens
from shared.signing.secrets import MasterSecrets
from tests.platform import PRODUCT, Grant, Platform, Vendor

pytest_plugins = ["tests.platform"]

INVALID = (401, "TOKEN_INVALID")
LOST = (410, "LEASE_LOST")
Seat = dict[str, Any]


async def lost(platform: Platform, seat: Seat) -> tuple[int, str, str | None]:
    """How a heartbeat is refused, and the reason it gives."""
    answer = await platform.api.heartbeat(seat["deviceToken"])
    return *answer.refusal, answer.json.get("reason")


# --- Alive ------------------------------------------------------------------------------------------------------


async def test_a_device_with_a_seat_is_told_how_long_it_is_held(platform: Platform) -> None:
    grant = await (await platform.vendor()).license()
    seat = (await platform.api.activate(grant.key)).ok(201)

    answer = (await platform.api.heartbeat(seat["deviceToken"])).ok()

    assert (answer["deviceId"], answer["state"], answer["generation"]) == (seat["deviceId"], "active", 1)
    assert answer["leaseExpiresAt"] == seat["leaseExpiresAt"]
    assert abs(datetime.fromisoformat(answer["serverTime"]) - datetime.now(UTC)) < timedelta(seconds=5)
    assert not answer.keys() & {"nonce", "lease", "validUntil"}


async def test_the_nonce_comes_back(platform: Platform) -> None:
    grant = await (await platform.vendor()).license()
    token = (await platform.api.activate(grant.key)).ok(201)["deviceToken"]

    for nonce in ("n-1", "n-1", "ñ💻", "x" * 64):
        assert (await platform.api.heartbeat(token, nonce=nonce)).ok()["nonce"] == nonce
    assert (await platform.api.heartbeat(token, nonce="bye", leave=True)).ok()["nonce"] == "bye"


async def test_devices_are_asked_back_at_different_times(platform: Platform) -> None:
    grant = await (await platform.vendor()).license()
    token = (await platform.api.activate(grant.key)).ok(201)["deviceToken"]

    answers = await asyncio.gather(*(platform.api.heartbeat(token) for _ in range(200)))

    intervals = [answer.ok()["nextHeartbeatIn"] for answer in answers]
    assert 2880 <= min(intervals) < 3200
    assert 4000 < max(intervals) <= 4320
    assert len(set(intervals)) > 50


async def test_the_token_can_come_in_the_header(platform: Platform) -> None:
    grant = await (await platform.vendor()).license()
    token = (await platform.api.activate(grant.key)).ok(201)["deviceToken"]

    for scheme in ("Bearer", "bearer", "BEARER "):
        answer = await platform.api.post("/v1/heartbeat", {}, headers={"Authorization": f"{scheme} {token}"})
        assert answer.ok()["state"] == "active"
    for headers in ({}, {"Authorization": "Bearer"}, {"Authorization": f"License {token}"}, {"Authorization": token}):
        assert (await platform.api.post("/v1/heartbeat", {}, headers=headers)).refusal == INVALID


async def test_heartbeats_that_arrive_together_are_each_answered(platform: Platform) -> None:
    vendor = await platform.vendor()
    node_locked, floating = await vendor.license(seats=30), await vendor.license(seats=30, kind=Kind.FLOATING)
    seats = [
        (await platform.api.activate(grant.key, f"device-{n}")).ok(201)
        for grant in (node_locked, floating)
        for n in range(30)
    ]

    answers = await asyncio.gather(*(platform.api.heartbeat(seat["deviceToken"]) for seat in seats * 3))

    assert [answer.ok()["deviceId"] for answer in answers] == [seat["deviceId"] for seat in seats * 3]


async def test_a_floating_lease_is_longer_in_postgres_after_each_heartbeat(platform: Platform) -> None:
    grant = await (await platform.vendor()).license(kind=Kind.FLOATING)
    seat = (await platform.api.activate(grant.key)).ok(201)
    ends = [(await platform.device(seat["deviceId"]))["lease_expires_at"]]

    for _ in range(3):
        answer = (await platform.api.heartbeat(seat["deviceToken"])).ok()
        ends.append((await platform.device(seat["deviceId"]))["lease_expires_at"])
        assert answer["leaseExpiresAt"] == ends[-1].strftime("%Y-%m-%dT%H:%M:%SZ")
        assert 160 <= answer["nextHeartbeatIn"] <= 240

    assert ends == sorted(set(ends))
    (events,) = await platform.rows("SELECT count(*) AS n FROM audit WHERE license_id = $1", grant.id)
    assert events["n"] == 2  # the license's and the activation's: a lease that moves leaves no trace


async def test_nothing_is_held_past_the_licenses_end(platform: Platform) -> None:
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
    grant = await (await platform.vendor()).license(expires_at=end)
    token = (await platform.api.activate(grant.key)).ok(201)["deviceToken"]

    answer = (await platform.api.heartbeat(token, validUntil=(end + timedelta(days=1)).isoformat())).ok()

    assert datetime.fromisoformat(answer["validUntil"]) == end
    assert "lease" not in answer


# --- A new lease ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", Kind)
async def test_a_lease_is_signed_anew_once_the_old_one_is_past_half_its_life(platform: Platform, kind: Kind) -> None:
    grant = await (await platform.vendor()).license(kind=kind)
    seat = (await platform.api.activate(grant.key)).ok(201)
    life = timedelta(days=7) if kind is Kind.NODE_LOCKED else timedelta(minutes=10)
    now = datetime.now(UTC)

    for held, due in ((life, False), (life * 0.52, False), (life * 0.48, True), (timedelta(0), True), (-life, True)):
        until = (now + held).isoformat(timespec="seconds")
        answer = (await platform.api.heartbeat(seat["deviceToken"], validUntil=until)).ok()
        assert ("lease" in answer) is due, held
        assert due or answer["validUntil"] == datetime.fromisoformat(until).strftime("%Y-%m-%dT%H:%M:%SZ")

    claims = jwt.decode(answer["lease"], options={"verify_signature": False}, audience=PRODUCT)
    assert (claims["sub"], claims["gen"]) == (seat["deviceId"], 1)
    assert claims["exp"] == datetime.fromisoformat(answer["validUntil"]).timestamp()


async def test_the_end_of_the_lease_may_be_written_in_three_ways(platform: Platform) -> None:
    grant = await (await platform.vendor()).license()
    token = (await platform.api.activate(grant.key)).ok(201)["deviceToken"]
    soon = datetime.now(UTC) + timedelta(days=1)

    for written in (soon.isoformat(), soon.timestamp(), int(soon.timestamp()), int(soon.timestamp() * 1000)):
        assert "lease" in (await platform.api.heartbeat(token, validUntil=written)).ok(), written
    for nonsense in ("tomorrow", "", -1, [1], True):
        assert (await platform.api.heartbeat(token, validUntil=nonsense)).refusal == (400, "REQUEST_INVALID"), nonsense


@pytest.mark.parametrize("fraction", [0, 700_000])
async def test_a_lease_that_cannot_be_longer_is_not_signed_anew(platform: Platform, fraction: int) -> None:
    end = datetime.now(UTC).replace(microsecond=fraction) + timedelta(minutes=2)
    grant = await (await platform.vendor()).license(kind=Kind.FLOATING, expires_at=end)
    seat = (await platform.api.activate(grant.key)).ok(201)

    answer = (await platform.api.heartbeat(seat["deviceToken"], validUntil=seat["validUntil"])).ok()

    assert answer["validUntil"] == seat["validUntil"]
    assert "lease" not in answer


# --- The seat is gone -------------------------------------------------------------------------------------------


async def deactivate(platform: Platform, _vendor: Vendor, grant: Grant, device: str) -> None:
    (await platform.api.deactivate(grant.key, device)).ok()


async def reset(platform: Platform, _vendor: Vendor, grant: Grant, device: str) -> None:
    (await platform.api.reset(grant.key, device)).ok()


async def free(_platform: Platform, vendor: Vendor, grant: Grant, device: str) -> None:
    await vendor.licenses.release(grant.ref, UUID(device), forced=False)


async def force(_platform: Platform, vendor: Vendor, grant: Grant, device: str) -> None:
    await vendor.licenses.release(grant.ref, UUID(device), forced=True)


async def block(_platform: Platform, vendor: Vendor, grant: Grant, device: str) -> None:
    await vendor.licenses.set_blocked(grant.ref, UUID(device), blocked=True)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize(
    ("end", "reason"),
    [(deactivate, "user"), (reset, "reset"), (free, "admin"), (force, "forced"), (block, "blocked")],
)
async def test_a_device_that_lost_its_seat_is_told_at_once_and_why(
    platform: Platform, kind: Kind, end: Callable[..., Awaitable[None]], reason: str
) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license(kind=kind)
    seat = (await platform.api.activate(grant.key)).ok(201)
    (await platform.api.heartbeat(seat["deviceToken"])).ok()

    await end(platform, vendor, grant, seat["deviceId"])

    for _ in range(2):
        assert await lost(platform, seat) == (*LOST, reason)


async def test_a_device_that_activated_again_is_heard_under_its_new_token_alone(platform: Platform) -> None:
    grant = await (await platform.vendor()).license()
    old = (await platform.api.activate(grant.key)).ok(201)
    (await platform.api.deactivate(grant.key, old["deviceId"])).ok()
    assert await lost(platform, old) == (*LOST, "user")

    new = (await platform.api.activate(grant.key)).ok(201)

    assert await lost(platform, old) == (*LOST, "superseded")
    assert (await platform.api.heartbeat(new["deviceToken"])).ok()["generation"] == 2


async def test_an_old_token_cannot_give_the_new_seat_back(platform: Platform) -> None:
    grant = await (await platform.vendor()).license()
    old = (await platform.api.activate(grant.key)).ok(201)
    (await platform.api.deactivate(grant.key, old["deviceId"])).ok()
    (await platform.api.activate(grant.key)).ok(201)

    (await platform.api.heartbeat(old["deviceToken"], leave=True)).ok()

    assert await platform.seats_used(grant) == 1


async def test_a_device_leaves_once_however_often_it_says_so(platform: Platform) -> None:
    grant = await (await platform.vendor()).license(seats=1, kind=Kind.FLOATING)
    seat = (await platform.api.activate(grant.key)).ok(201)

    for _ in range(2):
        answer = (await platform.api.heartbeat(seat["deviceToken"], leave=True)).ok()
        assert (answer["deviceId"], answer["state"], answer["generation"]) == (seat["deviceId"], "released", 1)

    assert await platform.seats_used(grant) == 0
    assert await lost(platform, seat) == (*LOST, "user")
    (await platform.api.activate(grant.key, "another")).ok(201)


# --- The license ------------------------------------------------------------------------------------------------


async def test_a_heartbeat_counts_while_the_license_is_suspended(platform: Platform) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license(kind=Kind.FLOATING)
    seat = (await platform.api.activate(grant.key)).ok(201)
    await vendor.licenses.set_status(grant.ref, Suspend)
    before = await platform.device(seat["deviceId"])

    refused = await platform.api.heartbeat(seat["deviceToken"])

    after = await platform.device(seat["deviceId"])
    assert (*refused.refusal, refused.json["retryable"]) == (403, "LICENSE_SUSPENDED", False)
    assert after["state"] == "active"
    assert after["lease_expires_at"] > before["lease_expires_at"]
    assert after["last_contact_at"] > before["last_contact_at"]
    await vendor.licenses.set_status(grant.ref, Reinstate)
    assert (await platform.api.heartbeat(seat["deviceToken"])).ok()["generation"] == 1


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize(("verb", "code"), [(Suspend, "LICENSE_SUSPENDED"), (Revoke, "LICENSE_REVOKED")])
async def test_a_withdrawn_license_is_told_at_once(
    platform: Platform, kind: Kind, verb: type[Suspend] | type[Revoke], code: str
) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license(kind=kind)
    seat = (await platform.api.activate(grant.key)).ok(201)
    (await platform.api.heartbeat(seat["deviceToken"])).ok()

    await vendor.licenses.set_status(grant.ref, verb)

    for _ in range(2):
        assert (await platform.api.heartbeat(seat["deviceToken"])).refusal == (403, code)


async def test_a_device_of_a_suspended_license_may_still_leave(platform: Platform) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license()
    seat = (await platform.api.activate(grant.key)).ok(201)
    await vendor.licenses.set_status(grant.ref, Suspend)

    (await platform.api.heartbeat(seat["deviceToken"], leave=True)).ok()

    assert await platform.seats_used(grant) == 0


# --- Tokens -----------------------------------------------------------------------------------------------------


async def test_a_forged_or_truncated_token_is_refused(platform: Platform) -> None:
    grant = await (await platform.vendor()).license()
    token: str = (await platform.api.activate(grant.key)).ok(201)["deviceToken"]
    changed = [token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :] for at in range(0, len(token), 9)]
    broken = ["", "skd1.", token[:-1], token + "A", token.upper(), f" {token}", token.replace("skd1", "skd2"), "токен"]

    refused = await asyncio.gather(*(platform.api.heartbeat(text) for text in [*changed, *broken]))

    assert {answer.refusal for answer in refused} == {INVALID}
    (await platform.api.heartbeat(token)).ok()


async def test_a_token_of_another_installation_is_refused(platform: Platform) -> None:
    grant = await (await platform.vendor()).license()
    seat = (await platform.api.activate(grant.key)).ok(201)
    theirs = DeviceTokens(MasterSecrets({"k1": os.urandom(32)}, "k1"))

    forged = theirs.issue(
        DeviceClaims(account=grant.account, license=grant.id, device=UUID(seat["deviceId"]), generation=1)
    )

    assert (await platform.api.heartbeat(forged)).refusal == INVALID


@pytest.mark.parametrize("leave", [False, True])
async def test_a_token_of_a_license_that_a_restore_lost_is_refused(platform: Platform, leave: bool) -> None:
    token = platform.resources.device_tokens.issue(
        DeviceClaims(account=uuid4(), license=uuid4(), device=uuid4(), generation=1)
    )

    assert (await platform.api.heartbeat(token, leave=leave)).refusal == INVALID


async def test_a_token_of_a_generation_that_a_restore_lost_is_refused(platform: Platform) -> None:
    grant = await (await platform.vendor()).license()
    seat = (await platform.api.activate(grant.key)).ok(201)
    token = platform.resources.device_tokens.issue(
        DeviceClaims(account=grant.account, license=grant.id, device=UUID(seat["deviceId"]), generation=2)
    )

    assert (await platform.api.heartbeat(token)).refusal == INVALID
    assert await platform.seats_used(grant) == 1


async def test_another_signed_document_is_no_device_token(platform: Platform) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license()
    seat = (await platform.api.activate(grant.key)).ok(201)

    for document in (seat["lease"], (await vendor.token(grant)).token, grant.key, seat["deviceId"]):
        assert (await platform.api.heartbeat(document)).refusal == INVALID

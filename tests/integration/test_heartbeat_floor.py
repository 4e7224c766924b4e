"""The floor: what Postgres already promises a device is told from Redis alone; anything beyond is committed first."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import jwt
import pytest

from shared.licensing.leases import FLOOR_MIN_LEASE_S
from shared.licensing.model import Kind, Suspend
from tests.platform import Gate, Platform

pytest_plugins = ["tests.platform"]


def postgres_gate(platform: Platform) -> Gate:
    assert platform.gates is not None
    return platform.gates.postgres


async def test_heartbeats_inside_the_floor_read_nothing_from_postgres(gated_platform: Platform) -> None:
    platform, gate = gated_platform, postgres_gate(gated_platform)
    grant = await (await platform.vendor()).license()
    token = (await platform.api.activate(grant.key)).ok(201)["deviceToken"]
    before, begun = gate.requests, time.monotonic()

    for _ in range(10):
        answers = await asyncio.gather(*(platform.api.heartbeat(token) for _ in range(50)))
        assert {answer.status for answer in answers} == {200}

    of_pulse_and_relay = 30 + 10 * (time.monotonic() - begun)
    assert gate.requests - before < of_pulse_and_relay < 400


async def test_heartbeats_inside_the_floor_are_answered_while_postgres_is_away(gated_platform: Platform) -> None:
    platform, gate = gated_platform, postgres_gate(gated_platform)
    grant = await (await platform.vendor()).license()
    seat = (await platform.api.activate(grant.key)).ok(201)

    await gate.shut()

    answer = (await platform.api.heartbeat(seat["deviceToken"], validUntil=seat["validUntil"])).ok()
    assert answer["leaseExpiresAt"] == seat["leaseExpiresAt"]


async def test_a_due_lease_waits_for_postgres_but_the_heartbeat_does_not(gated_platform: Platform) -> None:
    platform, gate = gated_platform, postgres_gate(gated_platform)
    grant = await (await platform.vendor()).license()
    seat = (await platform.api.activate(grant.key)).ok(201)
    soon = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")

    await gate.shut()

    answer = (await platform.api.heartbeat(seat["deviceToken"], validUntil=soon)).ok()
    assert answer["validUntil"] == soon
    assert "lease" not in answer
    await gate.open()
    assert "lease" in (await platform.api.heartbeat(seat["deviceToken"], validUntil=soon)).ok()


async def test_heartbeats_of_short_leases_are_never_answered_without_postgres(gated_platform: Platform) -> None:
    platform, gate = gated_platform, postgres_gate(gated_platform)
    vendor = await platform.vendor()
    floating = await vendor.license(kind=Kind.FLOATING)
    short = await vendor.license(lease_s=FLOOR_MIN_LEASE_S - 1)
    tokens = [(await platform.api.activate(grant.key)).ok(201)["deviceToken"] for grant in (floating, short)]

    await gate.shut()

    for token in tokens:
        refused = await platform.api.heartbeat(token)
        assert (*refused.refusal, refused.json["retryable"]) == (503, "OVERLOADED", True)
        assert "Retry-After" in refused.headers
    await gate.open()
    for token in tokens:
        (await platform.api.heartbeat(token)).ok()


async def test_a_lost_seat_is_never_told_without_postgres(gated_platform: Platform) -> None:
    platform, gate = gated_platform, postgres_gate(gated_platform)
    vendor = await platform.vendor()
    released, suspended = await vendor.license(), await vendor.license()
    tokens = []
    for grant in (released, suspended):
        seat = (await platform.api.activate(grant.key)).ok(201)
        tokens.append(seat["deviceToken"])
        if grant is released:
            (await platform.api.deactivate(grant.key, seat["deviceId"])).ok()
    await vendor.licenses.set_status(suspended.ref, Suspend)

    await gate.shut()

    for token in tokens:
        assert (await platform.api.heartbeat(token)).refusal == (503, "OVERLOADED")


@pytest.mark.parametrize(("hours", "committed"), [(11.9, False), (12.1, True)])
async def test_a_floor_of_half_a_day_is_committed_anew(fresh_platform: Platform, hours: float, committed: bool) -> None:
    platform = fresh_platform
    grant = await (await platform.vendor()).license()
    seat = (await platform.api.activate(grant.key)).ok(201)
    before = await platform.device(seat["deviceId"])
    await platform.move_clock(hours=hours)

    for _ in range(3):
        answer = (await platform.api.heartbeat(seat["deviceToken"])).ok()

    after = await platform.device(seat["deviceId"])
    assert (after["lease_expires_at"] > before["lease_expires_at"]) is committed
    assert (after["last_contact_at"] > before["last_contact_at"]) is committed
    assert answer["leaseExpiresAt"] == after["lease_expires_at"].strftime("%Y-%m-%dT%H:%M:%SZ")


async def test_a_floor_that_is_too_old_is_not_answered_without_postgres(gated_platform: Platform) -> None:
    platform = gated_platform
    grant = await (await platform.vendor()).license()
    token = (await platform.api.activate(grant.key)).ok(201)["deviceToken"]
    await platform.move_clock(hours=11.9)
    (await platform.api.heartbeat(token)).ok()
    await platform.move_clock(hours=12.1)

    await postgres_gate(platform).shut()

    assert (await platform.api.heartbeat(token)).refusal == (503, "OVERLOADED")


async def test_the_end_last_told_is_never_later_than_what_postgres_holds(fresh_platform: Platform) -> None:
    platform = fresh_platform
    grant = await (await platform.vendor()).license()
    seat = (await platform.api.activate(grant.key)).ok(201)
    far = datetime(2999, 1, 1, tzinfo=UTC).isoformat()

    for hours in range(5, 60, 5):
        await platform.move_clock(hours=hours)
        answer = (await platform.api.heartbeat(seat["deviceToken"], validUntil=far)).ok()
        promised = (await platform.device(seat["deviceId"]))["lease_expires_at"]
        assert datetime.fromisoformat(answer["leaseExpiresAt"]) <= promised
        assert datetime.fromisoformat(answer["validUntil"]) <= promised
        assert promised - datetime.fromisoformat(answer["serverTime"]) > timedelta(days=89, hours=11)


async def test_the_floor_ends_with_the_license(gated_platform: Platform) -> None:
    platform = gated_platform
    (now,) = await platform.rows("SELECT now()")
    grant = await (await platform.vendor()).license(expires_at=now["now"] + timedelta(hours=1))
    seat = (await platform.api.activate(grant.key)).ok(201)
    (await platform.api.heartbeat(seat["deviceToken"])).ok()

    await platform.move_clock(hours=1.1)

    for _ in range(2):
        assert (await platform.api.heartbeat(seat["deviceToken"])).refusal == (403, "LICENSE_EXPIRED")


async def test_a_device_that_repeats_the_end_it_was_told_always_holds_a_lease_that_is_good(
    fresh_platform: Platform,
) -> None:
    """The usual client keeps the newest lease and the newest `validUntil`, and sends the latter with each heartbeat."""
    platform = fresh_platform
    grant = await (await platform.vendor()).license()
    seat = (await platform.api.activate(grant.key)).ok(201)
    told, lease = seat["validUntil"], seat["lease"]

    for hours in range(8, 12 * 24, 8):
        await platform.move_clock(hours=hours)
        answer = (await platform.api.heartbeat(seat["deviceToken"], validUntil=told)).ok()
        told, lease = answer["validUntil"], answer.get("lease", lease)

        end = jwt.decode(lease, options={"verify_signature": False})["exp"]
        assert end == datetime.fromisoformat(told).timestamp()
        assert end - datetime.fromisoformat(answer["serverTime"]).timestamp() >= 3.5 * 86_400 - 1

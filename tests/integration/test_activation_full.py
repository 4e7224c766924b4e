"""A full license and the crowd that tries it: refused without its lock, for as long as the ledger would refuse."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from shared.ledger import reader
from shared.licensing.model import Approval, Kind, Overage, Reinstate, Rules, Suspend
from tests.builders import names, owner
from tests.platform import Answer, Grant, Platform, Vendor

pytest_plugins = ["tests.platform"]

FULL = (403, "DEVICE_LIMIT_EXCEEDED")
IN_TIME_S = 2.0


async def full_license(platform: Platform, *, seats: int = 2, **options: Any) -> tuple[Vendor, Grant]:
    """A license whose seats are all held, which a device was refused for already."""
    vendor = await platform.vendor()
    grant = await vendor.license(seats=seats, **options)
    for holder in names(seats, "holder"):
        (await platform.api.activate(grant.key, holder)).ok(201)
    assert (await platform.api.activate(grant.key, "the first")).refusal == FULL
    return vendor, grant


async def crowd(platform: Platform, grant: Grant, count: int) -> list[Answer]:
    async with asyncio.timeout(IN_TIME_S):
        return await asyncio.gather(*(platform.api.activate(grant.key, name) for name in names(count)))


async def test_a_crowd_is_refused_while_somebody_else_has_the_lock(platform: Platform) -> None:
    _, grant = await full_license(platform)
    async with owner(platform.database) as holder, holder.transaction():
        await holder.execute("SELECT FROM license WHERE id = $1 FOR UPDATE", grant.id)
        answers = await crowd(platform, grant, 50)

    assert {answer.refusal for answer in answers} == {FULL}
    assert {(answer.json["limit"], answer.json["used"]) for answer in answers} == {(2, 2)}
    assert await platform.seats_used(grant) == 2


async def test_a_crowd_costs_a_few_look_ups(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    _, grant = await full_license(platform)
    looked_up: list[int] = []
    fetch = reader.fetch

    async def counted(pool: Any, statement: str, *arguments: Any) -> Any:
        looked_up.append(len(arguments[0]))
        return await fetch(pool, statement, *arguments)

    monkeypatch.setattr(reader, "fetch", counted)
    answers = await crowd(platform, grant, 200)
    assert {answer.refusal for answer in answers} == {FULL}
    assert sum(looked_up) == 200
    assert len(looked_up) < 100


async def test_a_seat_that_was_freed_is_had_at_once(platform: Platform) -> None:
    _, grant = await full_license(platform)
    (held, *_) = (await platform.api.devices(grant.key)).ok()["devices"]
    (await platform.api.deactivate(grant.key, held["deviceId"])).ok()
    (await platform.api.activate(grant.key, "the second")).ok(201)
    assert (await platform.api.activate(grant.key, "the third")).refusal == FULL


async def test_a_device_that_holds_a_seat_gets_it_again(platform: Platform) -> None:
    _, grant = await full_license(platform)
    (await platform.api.activate(grant.key, "holder-0")).ok(200)


async def test_a_device_that_the_license_knows_is_decided_about_by_the_ledger(platform: Platform) -> None:
    vendor, grant = await full_license(platform)
    blocked = UUID((await platform.api.activate(grant.key, "holder-1")).ok()["deviceId"])
    await vendor.licenses.set_blocked(grant.ref, blocked, blocked=True)
    (await platform.api.activate(grant.key, "holder-2", nonce="once")).ok(201)
    (await platform.api.deactivate(grant.key, (await holding(platform, grant, "holder-2")))).ok()
    (await platform.api.activate(grant.key, "holder-3")).ok(201)
    assert (await platform.api.activate(grant.key, "stranger")).refusal == FULL

    assert (await platform.api.activate(grant.key, "holder-1")).refusal == (403, "DEVICE_BLOCKED")
    assert (await platform.api.activate(grant.key, "holder-2")).refusal == FULL


async def holding(platform: Platform, grant: Grant, fingerprint: str) -> str:
    found: list[dict[str, str]] = (await platform.api.devices(grant.key)).ok()["devices"]
    return next(device["deviceId"] for device in found if device["fingerprint"] == fingerprint)


async def test_a_larger_license_has_room_at_once(platform: Platform) -> None:
    vendor, grant = await full_license(platform)
    await vendor.licenses.resize(grant.ref, 3)
    (await platform.api.activate(grant.key, "the second")).ok(201)
    refused = await platform.api.activate(grant.key, "the third")
    assert (refused.refusal, refused.json["limit"], refused.json["used"]) == (FULL, 3, 3)


async def test_a_license_that_is_withdrawn_says_so_at_once(platform: Platform) -> None:
    vendor, grant = await full_license(platform)
    await vendor.licenses.set_status(grant.ref, Suspend)
    assert (await platform.api.activate(grant.key, "the second")).refusal == (403, "LICENSE_SUSPENDED")
    await vendor.licenses.set_status(grant.ref, Reinstate)
    assert (await platform.api.activate(grant.key, "the second")).refusal == FULL


@pytest.mark.parametrize(
    ("kind", "lease_s", "within", "past"),
    [
        (Kind.FLOATING, 600, timedelta(seconds=500), timedelta(seconds=601)),
        (Kind.NODE_LOCKED, None, timedelta(days=90, hours=20), timedelta(days=91, seconds=60)),
    ],
)
async def test_a_seat_whose_lease_has_ended_is_had_once_its_slack_is_over(
    fresh_platform: Platform, kind: Kind, lease_s: int | None, within: timedelta, past: timedelta
) -> None:
    platform = fresh_platform
    _, grant = await full_license(platform, kind=kind, lease_s=lease_s)
    await platform.move_clock(hours=within.total_seconds() / 3600)
    assert (await platform.api.activate(grant.key, "the second")).refusal == FULL
    await platform.move_clock(hours=past.total_seconds() / 3600)
    (await platform.api.activate(grant.key, "the third")).ok(201)


async def test_a_license_that_has_ended_is_refused_for_that(fresh_platform: Platform) -> None:
    platform = fresh_platform
    _, grant = await full_license(platform, rules=Rules(valid_s=86_400))
    await platform.move_clock(days=2)
    assert (await platform.api.activate(grant.key, "the second")).refusal == (403, "LICENSE_EXPIRED")


async def test_who_asks_something_else_of_the_license_is_told_something_else(platform: Platform) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license(seats=1, rules=Rules(min_version="2", entitlements={"export": None}))
    (await platform.api.activate(grant.key, "holder", version="2.0")).ok(201)
    for version, entitlements, refusal in [
        ("2.0", ["export"], FULL),
        ("1.0", ["export"], (403, "VERSION_NOT_SUPPORTED")),
        ("2.0", ["import"], (403, "ENTITLEMENT_MISSING")),
        ("2.0", ["export"], FULL),
    ]:
        answer = await platform.api.activate(grant.key, "stranger", version=version, entitlements=entitlements)
        assert answer.refusal == refusal


async def test_a_token_is_looked_at_before_the_seats(platform: Platform) -> None:
    vendor, grant = await full_license(platform)
    token = await vendor.token(grant)
    assert (await platform.api.activate(None, "the second", token=token.token)).refusal == FULL
    await vendor.licenses.revoke_token(grant.account, token.id)
    assert (await platform.api.activate(None, "the second", token=token.token)).refusal == (401, "TOKEN_REVOKED")


async def test_a_device_that_has_to_be_approved_waits_for_that_first(platform: Platform) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license(seats=1, approval=Approval.ALLOW_LIST)
    for name in ("one", "two"):
        await vendor.licenses.approve(grant.ref, name)
    (await platform.api.activate(grant.key, "one")).ok(201)
    assert (await platform.api.activate(grant.key, "two")).refusal == FULL
    assert (await platform.api.activate(grant.key, "stranger")).status == 202


async def test_those_who_hold_the_seats_are_told_as_they_are_now(platform: Platform) -> None:
    _, grant = await full_license(platform, rules=Rules(show_holders=True, overage=Overage.NONE))
    refused = await platform.api.activate(grant.key, "the second")
    assert (refused.refusal, len(refused.json["holders"])) == (FULL, 2)


async def test_what_is_changed_by_hand_is_seen_before_long(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.seats.refusals.FULL_LIFE_S", 0.1)
    _, grant = await full_license(platform)
    await platform.rows(
        'UPDATE policy SET rules = rules || \'{"overage": "unlimited"}\''
        " WHERE id = (SELECT policy_id FROM license WHERE id = $1)",
        grant.id,
    )
    await asyncio.sleep(0.2)
    assert (await platform.api.activate(grant.key, "the second")).ok(201)["overage"] is True

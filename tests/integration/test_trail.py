"""The trail of a license, read by the admin command: every grant and release in order, with its reason."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from services.portal import app
from shared.ledger.reader import LicenseRef
from shared.ledger.trail import keep_partitions
from shared.licensing.model import Activate, Expire, Granted, Reason, Release, Reset, Resize, device_id
from tests.builders import STAMP, ask, fetch, open_ledger, open_role, shift_clock
from tests.conftest import Database
from tests.integration.admin_process import ROLE, Admin, Vendor, admin_of, as_service, make_vendor
from tests.invariants import check_invariants

REAPER = "seatkeeper_reaper"


@pytest.fixture
def admin(database: Database, redis_url: str) -> Admin:
    return admin_of(database, redis_url)


@pytest.fixture
async def vendor(database: Database, redis_url: str) -> Vendor:
    return await make_vendor(database, redis_url)


async def trail(admin: Admin, ref: LicenseRef, *options: object) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = (await admin("license", "trail", *ref, "--json", *options)).json
    return entries


async def floating_license(database: Database, redis_url: str, vendor: Vendor) -> LicenseRef:
    async with as_service(database, redis_url, ROLE) as resources:
        made = await app.licenses(resources).create(vendor.account, policy="Float")
    return vendor.account, made.id


async def test_every_seat_is_seen_to_come_and_to_go_with_its_reason(
    admin: Admin, vendor: Vendor, database: Database, redis_url: str
) -> None:
    """Each kind of end is brought about as it happens: by device, vendor and reaper."""
    ref, device = vendor.ref, device_id(vendor.license, "laptop")
    async with open_ledger(database) as ledger:

        async def lived(command: Any) -> None:
            assert isinstance((await ledger.submit(ask(Activate, "laptop", ref=ref))).answer, Granted)
            assert isinstance((await ledger.submit(command)).answer, Granted)

        await lived(ask(Release, "laptop", ref=ref))
        await lived(ask(Reset, "laptop", ref=ref))
        await ledger.submit(ask(Activate, "laptop", ref=ref))
        assert (await admin("device", "release", *ref, device)).code == 0
        await ledger.submit(ask(Activate, "laptop", ref=ref))
        assert (await admin("device", "release", *ref, device, "--force", "--yes")).code == 0
        await ledger.submit(ask(Activate, "laptop", ref=ref))
        await shift_clock(database, timedelta(days=92))
        await ledger.submit(ask(Expire, "laptop", ref=ref))
        await ledger.submit(ask(Activate, "laptop", ref=ref))
        assert (await admin("device", "block", *ref, device, "--yes")).code == 0
        floating = await floating_license(database, redis_url, vendor)
        await ledger.submit(ask(Activate, "desktop", ref=floating))
        await shift_clock(database, timedelta(days=94))
        await ledger.submit(ask(Expire, "desktop", ref=floating))

    entries = await trail(admin, ref)
    assert [entry["version"] for entry in entries] == list(range(1, 14))
    assert [(entry["event"], entry["reason"], entry["generation"]) for entry in entries[1:]] == [
        step
        for generation, (event, reason) in enumerate(
            [
                ("device.released", "user"),
                ("device.released", "reset"),
                ("device.released", "admin"),
                ("device.released", "forced"),
                ("device.released", "idle"),
                ("device.blocked", "blocked"),
            ],
            1,
        )
        for step in (("device.activated", None, generation), (event, reason, generation))
    ]
    assert [(entry["seatsUsed"], entry["seats"]) for entry in entries] == [(0, 3), *[(1, 3), (0, 3)] * 6]
    assert {entry["deviceId"] for entry in entries[1:]} == {str(device)}
    assert [entry["at"] for entry in entries] == sorted(entry["at"] for entry in entries)

    of_floating = await trail(admin, floating)
    assert [(entry["event"], entry["reason"]) for entry in of_floating] == [
        ("license.created", None),
        ("device.activated", None),
        ("device.released", "lease_expired"),
    ]
    shown = {entry["reason"] for entry in [*entries, *of_floating]} - {None}
    assert shown == {reason.value for reason in Reason} - {"superseded"}  # which ends no seat: it is told to its loser
    table = (await admin("license", "trail", *ref)).out
    assert [column in table.splitlines()[0] for column in ("generation", "reason", "seats used", "seats")] == [True] * 4
    await check_invariants(database)


async def test_a_lowered_limit_shows_beside_the_seats_that_are_still_allowed(
    admin: Admin, vendor: Vendor, database: Database
) -> None:
    async with open_ledger(database) as ledger:
        for fingerprint in "abc":
            await ledger.submit(ask(Activate, fingerprint, ref=vendor.ref))
        await ledger.submit(ask(Resize, ref=vendor.ref, seats=1))
        await ledger.submit(ask(Release, "a", ref=vendor.ref))
    entries = await trail(admin, vendor.ref, "--after", 4)
    assert [(entry["seatsUsed"], entry["seats"], entry["seatsAllowed"]) for entry in entries] == [(3, 1, 3), (2, 1, 2)]


async def test_of_a_trail_past_its_retention_it_is_said_from_which_version_it_is_kept(
    admin: Admin, vendor: Vendor, database: Database
) -> None:
    for days in (0, 40, 80, 500):
        await come_and_go(database, vendor, days=days)
    await drop(database, retention_days=500 - 45)
    kept_from = (await fetch(database, "SELECT min(version) FROM audit WHERE license_id = $1", vendor.license))[0][0]
    assert kept_from in (4, 6)  # by the length of the months

    whole = await admin("license", "trail", *vendor.ref, "--json")
    assert [entry["version"] for entry in whole.json] == list(range(kept_from, 10))
    assert whole.err == f"the trail is kept from version {kept_from}: what came before is past its retention\n"
    later = await admin("license", "trail", *vendor.ref, "--after", kept_from - 1, "--limit", 1)
    assert "kept from" not in later.err
    assert (await admin("license", "trail", *vendor.ref, "--after", 9)).err == ""
    assert len((await admin("license", "show", *vendor.ref, "--json")).json["trail"]) == 10 - kept_from

    await shift_clock(database, timedelta(days=2000))
    await drop(database, retention_days=366)
    gone = await admin("license", "trail", *vendor.ref)
    assert (gone.code, gone.out) == (0, "none\n")
    assert "kept from version 10:" in gone.err


async def come_and_go(database: Database, vendor: Vendor, *, days: int) -> None:
    """A seat is taken and given back so many days from now."""
    await shift_clock(database, timedelta(days=days))
    async with open_ledger(database) as ledger:
        await ledger.submit(ask(Activate, "laptop", ref=vendor.ref))
        await ledger.submit(ask(Release, "laptop", ref=vendor.ref))


async def drop(database: Database, *, retention_days: int) -> None:
    async with open_role(database.dsn_for(REAPER)) as pool:
        assert await keep_partitions(pool, STAMP, retention_days=retention_days)


async def test_a_trail_is_read_page_by_page_across_its_months(admin: Admin, vendor: Vendor, database: Database) -> None:
    for days in range(0, 200, 20):
        await come_and_go(database, vendor, days=days)
    assert len({at.month for at in await moments(database, vendor.license)}) > 5
    versions, after = [], 0
    while page := await trail(admin, vendor.ref, "--after", after, "--limit", 8):
        versions += [entry["version"] for entry in page]
        after = versions[-1]
    assert versions == list(range(1, 22))


async def moments(database: Database, license_id: UUID) -> list[datetime]:
    found = await fetch(database, "SELECT at FROM audit WHERE license_id = $1", license_id)
    return [at.astimezone(UTC) for (at,) in found]

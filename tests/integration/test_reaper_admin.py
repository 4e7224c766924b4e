"""The operator's commands for the reaper: how it stands, resume, hold, and what begins after a restore."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from shared.ledger import halts
from shared.ledger.halts import ALL, Cause
from tests.builders import fetch, floating, make_terms, open_role, owner_pool, shift_clock
from tests.conftest import Database
from tests.integration.admin_process import ROLE, Admin, admin_of
from tests.reaping import new_account, open_reaper, seat, silence, used

NOBODY = UUID(int=9)
LONG_AGO = timedelta(days=2)


@pytest.fixture
def admin(database: Database, redis_url: str) -> Admin:
    return admin_of(database, redis_url)


async def halt(database: Database, scope: UUID, cause: Cause, detail: str) -> None:
    async with open_role(database.dsn_for("seatkeeper_reaper")) as pool:
        assert await halts.halt(pool, scope, cause, detail)


async def status(admin: Admin) -> dict[str, Any]:
    said: dict[str, Any] = (await admin("reaper", "status", "--json")).json
    return said


async def test_the_status_of_a_reaper_that_nothing_stops(admin: Admin, database: Database) -> None:
    said = await status(admin)

    assert said == {
        "halted": False,
        "cause": None,
        "detail": None,
        "since": None,
        "notBefore": None,
        "contactsLastHour": 0,
        "contactsWeekBefore": 0,
        "lastHourWithContacts": None,
        "shortLeasesEnded": 0,
        "longLeasesEnded": 0,
        "due": 0,
        "accountsHalted": [],
    }


async def test_the_status_tells_halts_and_the_figures_behind_them(admin: Admin, database: Database) -> None:
    account = await new_account(database)
    long, short = await seat(database, 5, account=account), await seat(database, 4, terms=floating(600))
    await silence(database, long, count=3, ended=LONG_AGO)
    await silence(database, long, count=1, ended=timedelta(hours=1))
    await silence(database, short, count=4, ended=timedelta(hours=1))
    for hours, contacts in ((1, 3), (169, 9000)):
        await fetch(
            database,
            "INSERT INTO contact_count VALUES (date_trunc('hour', now(), 'UTC') - make_interval(hours => $1), $2)",
            hours,
            contacts,
        )
    await halt(database, ALL, Cause.CONTACTS_FELL, "3 contacts")
    await halt(database, account, Cause.TOO_MANY, "3 of 5")

    said = await status(admin)
    plain = await admin("reaper", "status")

    assert (said["halted"], said["cause"], said["detail"]) == (True, "contacts_fell", "3 contacts")
    assert (said["contactsLastHour"], said["contactsWeekBefore"]) == (3, 9000)
    assert datetime.fromisoformat(said["lastHourWithContacts"]).minute == 0
    assert (said["shortLeasesEnded"], said["longLeasesEnded"], said["due"]) == (4, 3, 6)
    (one,) = said["accountsHalted"]
    assert (one["account"], one["cause"], one["detail"]) == (str(account), "too_many", "3 of 5")
    assert abs(datetime.fromisoformat(one["since"]) - datetime.now(UTC)) < timedelta(minutes=1)
    assert plain.code == 0
    for text in ("contacts_fell", "3 contacts", str(account), "too_many"):
        assert text in plain.out


async def test_resuming_ends_one_halt_and_not_the_others(admin: Admin, database: Database) -> None:
    account = await new_account(database)
    await halt(database, ALL, Cause.CLOCK_STEPPED, "")
    await halt(database, account, Cause.TOO_MANY, "")

    assert (await admin("reaper", "resume", "--json")).json == {"resumed": True, "account": "all"}
    assert (await admin("reaper", "resume", "--json")).json == {"resumed": False, "account": "all"}
    said = await status(admin)
    assert (said["halted"], len(said["accountsHalted"])) == (False, 1)

    of_account = await admin("reaper", "resume", "--account", account, "--json")
    assert of_account.json == {"resumed": True, "account": str(account)}
    assert (await status(admin))["accountsHalted"] == []
    assert (await admin("reaper", "resume", "--account", NOBODY, "--json")).json["resumed"] is False


async def test_a_hold_stops_the_next_pass_until_it_is_lifted(admin: Admin, database: Database) -> None:
    ref = await seat(database, 2)
    await silence(database, ref, count=2, ended=LONG_AGO)

    assert (await admin("reaper", "hold", "--until", "2100-01-31", "--json")).json == {
        "notBefore": "2100-02-01T00:00:00Z"
    }
    assert (await status(admin))["notBefore"] == "2100-02-01T00:00:00Z"
    async with open_reaper(database) as reaper:
        assert (await reaper.pass_()).left_alone == 2
        assert (await admin("reaper", "hold", "--until", "now", "--json")).json == {"notBefore": None}
        assert (await reaper.pass_()).freed == 2
    assert await used(database, ref) == 0
    assert "is no date" in (await admin("reaper", "hold", "--until", "soon")).refused()


async def test_after_a_restore_nothing_is_freed_for_ninety_days_and_nothing_in_redis_counts(
    admin: Admin, database: Database
) -> None:
    ref = await seat(database, 2)
    ((epoch,),) = await fetch(database, "SELECT epoch FROM projection")

    said = await admin("restored", "--json")

    not_before = datetime.fromisoformat(said.json["notBefore"])
    assert abs(not_before - datetime.now(UTC) - timedelta(days=90)) < timedelta(minutes=1)
    assert said.err == ""
    ((raised,),) = await fetch(database, "SELECT epoch FROM projection")
    assert raised >= epoch + 1000
    async with open_reaper(database) as reaper:
        await silence(database, ref, count=2, ended=LONG_AGO)
        assert (await reaper.pass_()).left_alone == 2
        await shift_clock(database, timedelta(days=90, hours=1))
        assert (await reaper.pass_()).freed == 2


async def test_a_hold_that_is_shorter_than_a_policys_leases_is_remarked_upon(admin: Admin, database: Database) -> None:
    await seat(database, 1, terms=make_terms(lease_s=365 * 86_400))

    said = await admin("restored", "--for", "30d", "--json")

    assert "leases of 365d: with --for 365d all are safe" in said.err
    not_before = datetime.fromisoformat(said.json["notBefore"])
    assert abs(not_before - datetime.now(UTC) - timedelta(days=30)) < timedelta(minutes=1)
    assert (await admin("restored", "--for", "365d", "--json")).err == ""


async def test_the_portals_role_is_enough_and_a_services_is_not(database: Database) -> None:
    async with open_role(database.dsn_for(ROLE)) as pool:
        await halts.hold(pool, None)
    async with open_role(database.dsn_for("seatkeeper_activation")) as pool:
        with pytest.raises(Exception, match="permission denied"):
            await halts.hold(pool, None)
    async with owner_pool(database) as pool:
        assert (await halts.look(pool)).all.not_before is None

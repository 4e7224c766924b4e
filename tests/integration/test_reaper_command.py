"""The reaper as a command: one pass, or a look at what it would do, on a simulated clock."""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable

import pytest

from shared.ledger.halts import ALL
from shared.licensing.model import Suspend
from tests.conftest import Database
from tests.platform import ROOT, Grant, Services, Vendor, move_clock, rows, snapshot

pytest_plugins = ["tests.platform"]

UNHINDERED: dict[str, object] = {"halted": None, "haltedAccounts": [], "heldUntil": None}

PATIENT_MS = 5000


async def run(services: Services, *arguments: str, level: str = "warning") -> tuple[int, str, str]:
    """Exit code, output and errors of a run, with time for Redis where the machine is busy.

    A clock that a test moves lets the projection begin anew now and then, which is logged as information.
    """
    services.settings["redis"]["timeout_ms"] = PATIENT_MS
    services.settings["log"]["level"] = level
    command = services.start("reaper", *arguments)
    return await command.ended(), command.out.read_text(), command.err.read_text()


async def silent_devices(vendor: Vendor, count: int = 1) -> Grant:
    grant = await vendor.license(seats=count, customer="Ada")
    for number in range(count):
        await vendor.seat(grant, f"silent-{number}")
    return grant


async def used(database: Database) -> int:
    (found,) = await rows(database, "SELECT sum(seats_used) AS used FROM license")
    return int(found["used"])


async def test_a_pass_announces_and_then_frees(services: Services, vendor: Vendor, database: Database) -> None:
    await silent_devices(vendor, 2)

    assert await run(services, "--once") == (0, "0 announced, 0 freed, 0 failed, 0 left alone\n", "")
    await move_clock(database, days=84)
    assert (await run(services, "--once"))[:2] == (0, "2 announced, 0 freed, 0 failed, 0 left alone\n")
    assert (await run(services, "--once"))[:2] == (0, "0 announced, 0 freed, 0 failed, 0 left alone\n")
    assert await used(database) == 2
    await move_clock(database, days=92)
    code, out, _ = await run(services, "--once", "--json")

    counts = {"announced": 0, "freed": 2, "failed": 0, "leftAlone": 0}
    assert (code, json.loads(out)) == (0, counts | UNHINDERED)
    assert await used(database) == 0
    found = await rows(database, "SELECT event, actor, reason FROM audit WHERE version > 3 ORDER BY version")
    announced = {"event": "lease.expiring", "actor": "reaper", "reason": None}
    freed = {"event": "device.released", "actor": "reaper", "reason": "idle"}
    assert found == [announced, announced, freed, freed]


async def test_a_dry_run_shows_whom_a_pass_would_free_and_changes_nothing(
    services: Services, vendor: Vendor, database: Database
) -> None:
    grant = await silent_devices(vendor, 2)
    suspended = await silent_devices(vendor, 1)
    await vendor.licenses.set_status(suspended.ref, Suspend)
    await move_clock(database, days=92)
    before = await snapshot(database)

    code, out, _ = await run(services, "--dry-run", "--json")
    table = await run(services, "--dry-run")

    answer = json.loads(out)
    shown = answer.pop("devices")
    assert answer == {"leftAlone": 0} | UNHINDERED
    devices = await rows(database, "SELECT id::text FROM device WHERE license_id = $1", grant.id)
    assert code == table[0] == 0
    assert {one["deviceId"] for one in shown} == {row["id"] for row in devices}
    for one in shown:
        assert one["customer"] == "Ada"
        assert one["license"] == f"{grant.key.replace('-', '')[:8]}…"
        assert one["lastContact"] < one["leaseEnded"]
    assert "Ada" in table[1]
    assert grant.key not in out + table[1]
    assert await snapshot(database) == before


async def test_a_dry_run_with_nothing_to_free_says_so(services: Services, vendor: Vendor) -> None:
    await silent_devices(vendor)

    code, out, _ = await run(services, "--dry-run", "--json")
    assert (code, json.loads(out)) == (0, {"devices": [], "leftAlone": 0} | UNHINDERED)
    assert "nothing to free" in (await run(services, "--dry-run"))[1]


async def test_what_is_halted_is_told_with_what_to_do_and_fails_the_run(
    services: Services, vendor: Vendor, database: Database
) -> None:
    await silent_devices(vendor, 2)
    await move_clock(database, days=84)
    await run(services, "--once")
    await move_clock(database, days=92)
    for scope in (ALL, vendor.account):
        await rows(
            database,
            "INSERT INTO reaping (account_id, halted_at, cause, detail) VALUES ($1, now(), 'too_many', '9 of 9')"
            " ON CONFLICT (account_id) DO UPDATE SET halted_at = now(), cause = 'contacts_fell', detail = '3 of 9000'",
            scope,
        )

    code, out, err = await run(services, "--once")
    as_json = await run(services, "--once", "--json")
    planned = await run(services, "--dry-run")

    assert (code, out) == (1, "0 announced, 0 freed, 0 failed, 2 left alone\n")
    all, account = err.splitlines()
    assert "halted: contacts_fell, 3 of 9000;" in all
    assert all.endswith("services.portal.admin reaper resume")
    assert f"halted for account {vendor.account}: too_many, 9 of 9;" in account
    assert account.endswith("reaper resume --account ID")
    assert as_json[0] == 1
    assert json.loads(as_json[1]) == {
        "announced": 0,
        "freed": 0,
        "failed": 0,
        "leftAlone": 2,
        "halted": {"cause": "contacts_fell", "detail": "3 of 9000"},
        "haltedAccounts": [{"account": str(vendor.account), "cause": "too_many", "detail": "9 of 9"}],
        "heldUntil": None,
    }
    assert planned[0] == 0
    assert "2 more are due and would be left alone" in planned[1]
    assert "a breaker says: contacts_fell, 3 of 9000" in planned[1]
    assert await used(database) == 2


async def test_a_hold_is_told_and_is_no_failure(services: Services, vendor: Vendor, database: Database) -> None:
    await silent_devices(vendor, 2)
    await move_clock(database, days=92)
    await rows(database, "UPDATE reaping SET not_before = '2100-01-31T00:00Z'")

    code, out, err = await run(services, "--once")

    assert (code, out) == (0, "0 announced, 0 freed, 0 failed, 2 left alone\n")
    assert err.count("held until 2100-01-31T00:00:00Z") == 1
    assert "held until 2100-01-31T00:00:00Z" in (await run(services, "--dry-run"))[1]


async def test_on_a_terminal_it_shows_how_far_it_is(services: Services, vendor: Vendor, database: Database) -> None:
    await silent_devices(vendor, 20)
    await move_clock(database, days=92)
    path, _, _ = services.write("reaper")
    main, terminal = os.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.reaper", "--config", str(path), "--once"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=terminal,
    )
    os.close(terminal)
    out, _ = await asyncio.wait_for(process.communicate(), 30)
    shown = os.read(main, 65_536).decode()
    os.close(main)

    assert (process.returncode, out) == (0, b"20 announced, 20 freed, 0 failed, 0 left alone\n")
    assert "freeing" in shown
    assert "20/20" in shown


@pytest.mark.parametrize("mode", ["--once", "--dry-run"])
async def test_the_output_is_json_and_nothing_else(services: Services, vendor: Vendor, mode: str) -> None:
    services.settings["redis"]["url"] = "unix:///nowhere/redis.sock"  # worth a line in the log

    code, out, err = await run(services, mode, "--json")

    assert code == 0
    json.loads(out)
    assert [json.loads(line)["event"] for line in err.splitlines()].count("redis.away") == 1


@pytest.mark.parametrize("mode", ["--once", "--dry-run"])
async def test_an_unready_database_is_told_in_one_line(
    services: Services, empty_database: Callable[[], Awaitable[Database]], vendor: Vendor, mode: str
) -> None:
    services.settings["postgres"]["dsn"] = (await empty_database()).dsn_for("ROLE")
    bare = await run(services, mode, level="error")
    services.settings["postgres"]["dsn"] = f"postgresql://ROLE@/x?host={services.folder}/nowhere"
    away = await run(services, mode, level="error")

    for code, out, err in (bare, away):
        assert (code, out, len(err.splitlines())) == (1, "", 1)
        assert "Traceback" not in err
    assert "migrations to run" in bare[2]
    assert "out of reach" in away[2]

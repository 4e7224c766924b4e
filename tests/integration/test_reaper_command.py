"""The reaper as a command: one pass, or a look at what it would do, on a simulated clock."""

import json
from collections.abc import Awaitable, Callable

import pytest

from shared.licensing.model import Suspend
from tests.conftest import Database
from tests.platform import Grant, Services, Vendor, move_clock, rows, snapshot

pytest_plugins = ["tests.platform"]


async def run(services: Services, *arguments: str) -> tuple[int, str, str]:
    """Exit code, output and errors of a run."""
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

    assert await run(services, "--once") == (0, "0 announced, 0 freed, 0 failed\n", "")
    await move_clock(database, days=84)
    assert (await run(services, "--once"))[:2] == (0, "2 announced, 0 freed, 0 failed\n")
    assert (await run(services, "--once"))[:2] == (0, "0 announced, 0 freed, 0 failed\n")
    assert await used(database) == 2
    await move_clock(database, days=92)
    code, out, _ = await run(services, "--once", "--json")

    assert (code, json.loads(out)) == (0, {"announced": 0, "freed": 2, "failed": 0})
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

    shown = json.loads(out)
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

    assert (await run(services, "--dry-run", "--json"))[:2] == (0, "[]\n")
    assert "nothing to free" in (await run(services, "--dry-run"))[1]


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
    services.settings["log"]["level"] = "error"
    services.settings["postgres"]["dsn"] = (await empty_database()).dsn_for("ROLE")
    bare = await run(services, mode)
    services.settings["postgres"]["dsn"] = f"postgresql://ROLE@/x?host={services.folder}/nowhere"
    away = await run(services, mode)

    for code, out, err in (bare, away):
        assert (code, out, len(err.splitlines())) == (1, "", 1)
        assert "Traceback" not in err
    assert "migrations to run" in bare[2]
    assert "out of reach" in away[2]

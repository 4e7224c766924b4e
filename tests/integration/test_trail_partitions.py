"""The trail's months: each row is in its own, whatever the session, the next are made in time, and the old go whole."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from services.reaper.settings import Settings
from shared.ledger import migrate as runner
from shared.ledger.migrate import migrate, migrations
from shared.ledger.reader import Reader
from shared.ledger.statements import load
from shared.ledger.trail import MONTHS_AHEAD, keep_partitions
from shared.licensing.model import Activate, Granted, Release
from shared.runtime.settings import SettingsFaults
from shared.runtime.settings import load as load_settings
from tests.builders import STAMP, add_license, ask, fetch, open_ledger, open_role, owner, shift_clock
from tests.conftest import Database
from tests.integration.test_ledger_plans import generic_plan, nodes
from tests.invariants import check_invariants
from tests.platform import MASTER_SECRET

MakeDatabase = Callable[[], Awaitable[Database]]
DAY = timedelta(days=1)
ACTIVATION, HEARTBEAT, REAPER, PORTAL, STANDALONE, OPERATOR = ROLES = [
    f"seatkeeper_{user}" for user in ("activation", "heartbeat", "reaper", "portal", "standalone", "operator")
]

PARTITIONS = (
    "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'audit'::regclass"
)
PLACES = "SELECT a.at, a.tableoid::regclass::text, a.version FROM audit a ORDER BY a.version"
ADD = """
INSERT INTO audit (account_id, license_id, version, at, actor, event, seats_limit, seats_used, seats_allowed)
VALUES ($1, $2, $3, $4, 'test', 'license.resized', 1, 0, 1)
"""
OLD_ADD = """
INSERT INTO audit (account_id, license_id, version, at, actor, event, reason, seats_used, seats_allowed)
VALUES ($1, $2, $3, $4, 'test', 'device.released', 'idle', 1, 2)
"""


@pytest.fixture
async def reaper(database: Database) -> AsyncIterator[asyncpg.Pool]:
    async with open_role(database.dsn_for(REAPER)) as pool:
        yield pool


async def partitions(database: Database) -> set[str]:
    return {name for (name,) in await fetch(database, PARTITIONS)}


async def add_rows(database: Database, *moments: datetime, statement: str = ADD) -> None:
    """One license's rows of these moments, versions from 1."""
    ref = (uuid4(), uuid4())
    async with owner(database) as connection:
        for version, at in enumerate(moments, 1):
            await connection.execute(statement, *ref, version, at)


def months(first: datetime, count: int) -> list[str]:
    """The names of so many months."""
    numbers = [first.year * 12 + first.month - 1 + step for step in range(count)]
    return [f"audit_{number // 12:04}_{number % 12 + 1:02}" for number in numbers]


def name_of(moment: datetime) -> str:
    return months(moment, 1)[0]


# --- What is made ---------------------------------------------------------------------------------------------


async def test_a_new_database_has_this_month_and_the_next_three(database: Database) -> None:
    assert await partitions(database) == {"audit_default", *months(datetime.now(UTC), 4)}


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "America/Los_Angeles", "Asia/Kolkata"])
async def test_rows_from_before_the_partitions_go_each_to_its_month_in_utc(
    empty_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    database = await empty_database()
    for setting in (f"timezone = '{zone}'", "datestyle = 'SQL, DMY'"):
        await fetch(database, f"ALTER DATABASE {database.name} SET {setting}")
    await migrate_until(database, monkeypatch, "0003_inbox")
    moments = [
        datetime(2025, 1, 31, 23, 59, 59, 999_999, UTC),
        datetime(2025, 2, 1, tzinfo=UTC),
        datetime(2025, 3, 30, 1, 30, tzinfo=UTC),
        datetime(2025, 12, 31, 23, 30, tzinfo=UTC),
        datetime(2026, 1, 1, 0, 30, tzinfo=UTC),
    ]
    await add_rows(database, *moments, statement=OLD_ADD)
    before = await fetch(database, "SELECT account_id, license_id, version, at, actor, event, reason FROM audit")

    assert "0004_leases_at_scale" in await migrate(database.owner_dsn)

    assert await fetch(database, PLACES) == [
        (at, name, version)
        for version, (at, name) in enumerate(
            zip(
                moments,
                ["audit_2025_01", "audit_2025_02", "audit_2025_03", "audit_2025_12", "audit_2026_01"],
                strict=True,
            ),
            1,
        )
    ]
    after = "SELECT account_id, license_id, version, at, actor, event, reason FROM audit ORDER BY version"
    assert await fetch(database, after) == before
    assert set(await fetch(database, "SELECT seats_limit, seats_used, seats_allowed FROM audit")) == {(2, 1, 2)}
    assert await partitions(database) >= {"audit_default", *months(datetime.now(UTC), 4)}
    assert "audit_before" not in {name for (name,) in await fetch(database, "SELECT relname FROM pg_class")}


async def test_a_database_of_the_version_before_goes_on_with_its_seats(
    empty_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Licenses, devices and trail as the version before left them: afterwards every invariant holds, seats move."""
    old = await empty_database()
    await migrate_until(old, monkeypatch, "0003_inbox")
    async with owner(old) as connection:
        await connection.execute(OLD_LICENSE)
    await migrate(old.owner_dsn)
    await check_invariants(old)
    ((account, license),) = await fetch(old, "SELECT account_id, id FROM license")
    async with open_ledger(old) as ledger:
        assert isinstance((await ledger.submit(ask(Activate, "b", ref=(account, license)))).answer, Granted)
        assert isinstance((await ledger.submit(ask(Release, "b", ref=(account, license)))).answer, Granted)
    await check_invariants(old)


OLD_LICENSE = """
WITH made AS (SELECT gen_random_uuid() AS account, gen_random_uuid() AS id, gen_random_uuid() AS device),
a AS (INSERT INTO account (id, name) SELECT account, 'Vendor' FROM made),
p AS (INSERT INTO product (account_id, id, code, name) SELECT account, id, 'app', 'App' FROM made),
y AS (INSERT INTO policy (account_id, id, product_id, name, kind, seats, lease_s, offline_grace_s, heartbeat_interval_s,
                          approval)
      SELECT account, id, id, 'Node', 'node_locked', 3, 7776000, 604800, 3600, 'automatic' FROM made),
l AS (INSERT INTO license (account_id, id, policy_id, status, seats_limit, seats_allowed, seats_used, version,
                           key_prefix)
      SELECT account, id, id, 'active', 3, 3, 1, 2, '' FROM made),
d AS (INSERT INTO device (account_id, license_id, id, fingerprint, state, generation, lease_expires_at)
      SELECT account, id, device, 'a', 'active', 1, now() + interval '50 days' FROM made),
t AS (INSERT INTO audit (account_id, license_id, version, at, actor, event, device_id, generation, seats_used,
                         seats_allowed)
      SELECT account, id, 1, now() - interval '200 days', 'admin', 'license.created', NULL::uuid, NULL::integer, 0, 3
      FROM made
      UNION ALL SELECT account, id, 2, now() - interval '40 days', 'device', 'device.activated', device, 1, 1, 3
      FROM made)
INSERT INTO outbox (account_id, license_id, version, fact, created_at)
SELECT account, id, v, '{}', now() FROM made, generate_series(1, 2) v
"""


async def test_the_next_months_are_made_as_time_goes_on(database: Database, reaper: asyncpg.Pool) -> None:
    for days in (0, 45, 400):
        await shift_clock(database, days * DAY)
        assert await keep_partitions(reaper, STAMP, retention_days=None) == []
        now = datetime.now(UTC) + days * DAY
        assert await partitions(database) >= set(months(now, MONTHS_AHEAD + 1))
    assert len(await partitions(database)) == len(set(await fetch(database, PARTITIONS)))


async def test_many_who_make_months_at_once_make_each_once(database: Database, reaper: asyncpg.Pool) -> None:
    await shift_clock(database, 400 * DAY)
    await asyncio.gather(*(keep_partitions(reaper, STAMP, retention_days=400) for _ in range(4)))
    assert await partitions(database) >= set(months(datetime.now(UTC) + 400 * DAY, MONTHS_AHEAD + 1))


async def test_the_owner_makes_the_next_months_with_each_run_of_the_migrations(database: Database) -> None:
    await shift_clock(database, 400 * DAY)
    assert await migrate(database.owner_dsn) == []
    assert await partitions(database) >= set(months(datetime.now(UTC) + 400 * DAY, MONTHS_AHEAD + 1))


async def test_rows_of_a_month_without_a_partition_are_kept_and_moved_when_it_is_made(
    database: Database, reaper: asyncpg.Pool
) -> None:
    now = datetime.now(UTC)
    moments = [now, now + 300 * DAY, now + 301 * DAY, now + 900 * DAY]
    await add_rows(database, *moments)
    assert [name for _, name, _ in await fetch(database, PLACES)][1:] == ["audit_default"] * 3
    for _ in range(2):
        await keep_partitions(reaper, STAMP, retention_days=None)
        assert await fetch(database, PLACES) == [(at, name_of(at), number) for number, at in enumerate(moments, 1)]
    await add_rows(database, now + 1500 * DAY)  # and there is a default partition still
    assert await fetch(database, "SELECT count(*) FROM audit_default") == [(1,)]


async def test_no_row_of_any_partition_can_be_changed_or_removed(database: Database, reaper: asyncpg.Pool) -> None:
    now = datetime.now(UTC)
    await add_rows(database, now, now + 300 * DAY, now + 2000 * DAY)
    await keep_partitions(reaper, STAMP, retention_days=None)
    await add_rows(database, now + 1000 * DAY)
    for name in await partitions(database):
        for statement in (f"UPDATE {name} SET actor = ''", f"DELETE FROM {name}", f"TRUNCATE {name}"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await fetch(database, statement)
    assert await fetch(database, "SELECT count(*) FROM audit") == [(4,)]


# --- What goes ------------------------------------------------------------------------------------------------


async def test_months_past_the_retention_go_whole_and_the_others_stay(database: Database, reaper: asyncpg.Pool) -> None:
    now = datetime.now(UTC)
    moments = [now - days * DAY for days in range(900, 0, -30)]
    await add_rows(database, *moments)
    await keep_partitions(reaper, STAMP, retention_days=None)
    dropped = await keep_partitions(reaper, STAMP, retention_days=500)
    kept = [at for at, _, _ in await fetch(database, PLACES)]
    assert kept == [at for at in moments if name_of(at) not in dropped]
    assert dropped == sorted({name_of(at) for at in moments if month_end(at) <= now - 500 * DAY})
    assert min(kept) >= now - (500 + 31) * DAY
    assert await keep_partitions(reaper, STAMP, retention_days=500) == []


async def test_a_year_is_kept_whatever_a_service_asks_for(database: Database, reaper: asyncpg.Pool) -> None:
    now = datetime.now(UTC)
    await add_rows(database, *(now - days * DAY for days in (420, 366, 365, 100, 40, 1)))
    await keep_partitions(reaper, STAMP, retention_days=None)
    for days in (-5000, 0, 1):
        await keep_partitions(reaper, STAMP, retention_days=days)
    assert await reaper.fetchval("SELECT audit_drop_before(NULL)") is None
    assert await fetch(database, "SELECT count(*) FROM audit") == [(5,)]


async def test_without_a_retention_everything_is_kept(database: Database, reaper: asyncpg.Pool) -> None:
    await add_rows(database, datetime.now(UTC) - 4000 * DAY)
    assert await keep_partitions(reaper, STAMP, retention_days=None) == []
    assert await fetch(database, "SELECT count(*) FROM audit") == [(1,)]


async def test_nothing_goes_while_the_reaper_is_halted(database: Database, reaper: asyncpg.Pool) -> None:
    await add_rows(database, datetime.now(UTC) - 800 * DAY)
    await fetch(database, "UPDATE reaping SET halted_at = now(), cause = 'clock_stepped'")
    assert await keep_partitions(reaper, STAMP, retention_days=400) == []
    await fetch(database, "UPDATE reaping SET halted_at = NULL, cause = NULL")
    assert len(await keep_partitions(reaper, STAMP, retention_days=400)) == 1


def month_end(moment: datetime) -> datetime:
    return (moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0) + 32 * DAY).replace(day=1)


# --- Who may --------------------------------------------------------------------------------------------------

FUNCTIONS = (
    "audit_prepare(3)",
    "audit_drop_before(400)",
    "audit_add_month(now() + interval '2 years')",
    "audit_settle()",
)
ALLOWED = {REAPER: set(FUNCTIONS[:2]), STANDALONE: set(FUNCTIONS[:2])}


@pytest.mark.parametrize("role", ROLES)
async def test_only_who_reaps_asks_for_partitions_and_for_nothing_but_these(database: Database, role: str) -> None:
    month = name_of(datetime.now(UTC))
    refused = (
        f"DROP TABLE {month}",
        f"ALTER TABLE audit DETACH PARTITION {month}",
        "CREATE TABLE mine PARTITION OF audit FOR VALUES FROM ('2001-01-01') TO ('2001-02-01')",
        f"INSERT INTO {month} SELECT * FROM {month}",
        f"SELECT 1 FROM {month}",
        "DROP FUNCTION audit_prepare",
    )
    connection = await asyncpg.connect(database.dsn_for(role))
    try:
        granted = {call for call in FUNCTIONS if await is_granted(connection, f"SELECT {call}")}
        others = [statement for statement in refused if await is_granted(connection, statement)]
    finally:
        await connection.close()
    assert granted == ALLOWED.get(role, set())
    assert others == []


async def test_what_a_session_makes_up_misleads_the_functions_nowhere(database: Database) -> None:
    """Temporary tables and types of the same names, zones, styles and paths of the caller's own."""
    now = datetime.now(UTC) + 400 * DAY
    await shift_clock(database, 400 * DAY)
    connection = await asyncpg.connect(database.dsn_for(REAPER))
    try:
        await connection.execute("SET timezone = 'Pacific/Kiritimati'; SET datestyle = 'German, DMY'")
        for name in months(now, MONTHS_AHEAD + 1):
            await connection.execute(f"CREATE TEMPORARY TABLE {name} (id integer)")
        await connection.execute("CREATE TEMPORARY TABLE audit (at timestamptz)")
        await connection.execute("CREATE TEMPORARY TABLE audit_default (at timestamptz)")
        await connection.execute("SET search_path = pg_temp, public")
        assert await connection.fetchval("SELECT public.audit_prepare(3)") >= MONTHS_AHEAD
    finally:
        await connection.close()
    assert await partitions(database) >= set(months(now, MONTHS_AHEAD + 1))
    async with owner(database) as utc:
        await utc.execute("SET timezone = 'UTC'")
        for at, name in (
            (month_end(now) - timedelta(microseconds=1), name_of(now)),
            (month_end(now), months(now, 2)[1]),
        ):
            row = (uuid4(), uuid4(), 1, at)
            assert await utc.fetchval(f"{ADD} RETURNING tableoid::regclass::text", *row) == name


async def is_granted(connection: asyncpg.Connection, statement: str) -> bool:
    try:
        await connection.execute(statement)
    except (asyncpg.InsufficientPrivilegeError, asyncpg.UndefinedTableError):
        return False
    return True


# --- Beside the traffic ---------------------------------------------------------------------------------------


async def test_months_are_made_while_a_transaction_writes_the_trail(database: Database, reaper: asyncpg.Pool) -> None:
    async with owner(database) as writer, writer.transaction():
        await writer.execute(ADD, uuid4(), uuid4(), 1, datetime.now(UTC))
        await shift_clock(database, 60 * DAY)
        await asyncio.wait_for(keep_partitions(reaper, STAMP, retention_days=None), 1.5)
    assert await partitions(database) >= set(months(datetime.now(UTC) + 60 * DAY, MONTHS_AHEAD + 1))


async def test_a_dump_that_holds_the_trail_stops_nobody_and_the_months_are_made_later(
    database: Database, reaper: asyncpg.Pool
) -> None:
    await add_rows(database, datetime.now(UTC) - 500 * DAY)
    await keep_partitions(reaper, STAMP, retention_days=None)
    ref = await add_license(database)
    before = await partitions(database)
    async with open_ledger(database) as ledger, owner(database) as dump:
        await ledger.submit(ask(Activate, "a", ref=ref))
        async with dump.transaction():
            await dump.execute("LOCK TABLE audit IN ACCESS SHARE MODE")
            await shift_clock(database, 60 * DAY)
            keeping = asyncio.create_task(keep_partitions(reaper, STAMP, retention_days=400))
            for number in range(20):
                command = ask(Activate, f"b{number % 2}", ref=ref)
                await asyncio.wait_for(ledger.submit(command), 4)
                await ledger.submit(ask(Release, f"b{number % 2}", ref=ref))
                await asyncio.sleep(0.1)
            assert await keeping == []
        assert await partitions(database) == before
    assert len(await keep_partitions(reaper, STAMP, retention_days=400)) == 1
    assert await partitions(database) >= set(months(datetime.now(UTC) + 60 * DAY, MONTHS_AHEAD + 1))
    await shift_clock(database, timedelta())
    await check_invariants_but_the_dropped(database)


async def check_invariants_but_the_dropped(database: Database) -> None:
    """The rows that stand for no license went with their month."""
    assert await fetch(database, "SELECT count(DISTINCT license_id) FROM audit") == [(1,)]
    await check_invariants(database)


# --- Plans ----------------------------------------------------------------------------------------------------


async def test_the_trail_is_read_and_written_by_index_however_many_months_there_are(
    database: Database, reaper: asyncpg.Pool
) -> None:
    ref = await add_license(database)
    now = datetime.now(UTC)
    await add_rows(database, *(now - days * DAY for days in range(1000, 0, -30)))
    await keep_partitions(reaper, STAMP, retention_days=None)
    assert len(await partitions(database)) > 36
    async with owner(database) as analyst:
        await analyst.execute("ANALYZE audit")
    async with open_role(database.dsn_for(OPERATOR)) as pool, pool.acquire() as connection:
        reading = await generic_plan(connection, load("reading.sql")["trail"])
        writing = await generic_plan(connection, load("ledger.sql")["write"])
        assert [entry.version for entry in await Reader(pool).trail(ref)] == [1]
    assert unindexed(reading) == []
    assert not any(node["Node Type"] == "Sort" for node in nodes(reading))
    assert [node for node in nodes(writing) if node.get("Relation Name", "").startswith("audit_")] == []


def unindexed(plan: Any) -> list[Mapping[str, Any]]:
    return [node for node in nodes(plan) if node["Node Type"].endswith("Scan") and "Index Cond" not in node]


# --- What came before -----------------------------------------------------------------------------------------


async def migrate_until(database: Database, monkeypatch: pytest.MonkeyPatch, last: str) -> None:
    """Apply the migrations up to this one, as the code of that time did."""
    until = {name: text for name, text in migrations().items() if name <= last}
    with monkeypatch.context() as patched:
        patched.setattr(runner, "migrations", lambda: until)
        assert await migrate(database.owner_dsn) == list(until)


# --- The setting ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "days"), [({}, None), ({"SEATKEEPER_AUDIT_RETENTION_DAYS": "400"}, 400)])
def test_the_reaper_is_told_how_long_to_keep_the_trail(given: dict[str, str], days: int | None) -> None:
    assert load_settings(Settings, file=None, environ=ENVIRON | given).audit.retention_days == days


@pytest.mark.parametrize("days", ["365", "0", "-1", "forever"])
def test_a_retention_of_less_than_a_year_is_refused(days: str) -> None:
    with pytest.raises(SettingsFaults, match="SEATKEEPER_AUDIT_RETENTION_DAYS"):
        load_settings(Settings, file=None, environ=ENVIRON | {"SEATKEEPER_AUDIT_RETENTION_DAYS": days})


ENVIRON = {
    "SEATKEEPER_POSTGRES_DSN": "postgresql://localhost/seatkeeper",
    "SEATKEEPER_REDIS_URL": "redis://localhost",
    "SEATKEEPER_SECRETS_KEYS": f"k1:{MASTER_SECRET}",
    "SEATKEEPER_SECRETS_CURRENT": "k1",
}

"""Row-level security: the portal's role works for one account at a time, and Postgres itself sees to it."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from shared.ledger.catalog import Catalog, CatalogError
from shared.ledger.ledger import Ledger, LicenseNotFoundError
from shared.ledger.migrate import migrate, migrations
from shared.ledger.reader import LicenseRef, Reader
from shared.ledger.tenancy import for_account
from shared.ledger.trail import keep_partitions
from shared.licensing.model import Activate, Granted, Release, Resize
from tests.builders import STAMP, add_license, add_token, ask, fetch, open_ledger, open_role, owner, shift_clock
from tests.conftest import Database
from tests.invariants import check_invariants
from tests.platform import Services, rows

pytest_plugins = ["tests.platform", "tests.rabbitmq"]

PORTAL, REAPER = "seatkeeper_portal", "seatkeeper_reaper"
OTHERS = [f"seatkeeper_{user}" for user in ("activation", "heartbeat", "reaper", "standalone", "operator")]

NO_TENANTS = {"projection", "schema_migration"}
"""Tables that the portal's role may read and in which no row is any account's."""

REACHED = """
SELECT c.relname
FROM pg_class c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND (has_any_column_privilege('seatkeeper_portal', c.oid, 'SELECT, INSERT, UPDATE')
       OR has_table_privilege('seatkeeper_portal', c.oid, 'DELETE, TRUNCATE'))
ORDER BY c.relname
"""
UNGUARDED = """
SELECT c.relname FROM pg_class c
WHERE c.oid = $1::text::regclass
  AND NOT (c.relrowsecurity AND c.relforcerowsecurity
           AND EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid
                       AND 'seatkeeper_portal'::regrole = ANY (p.polroles) AND p.polqual IS NOT NULL))
"""


@dataclass(frozen=True)
class Tenants:
    """Two accounts with a row each, at least, in every table that the portal's role reaches."""

    database: Database
    a: UUID
    b: UUID
    license_a: LicenseRef
    license_b: LicenseRef
    tables: list[str]

    def account_of(self, table: str) -> str:
        return "id" if table == "account" else "account_id"


@pytest.fixture
async def tenants(database: Database) -> Tenants:
    refs = [await add_license(database), await add_license(database)]
    async with open_ledger(database) as ledger, owner(database) as connection:
        for ref in refs:
            await add_token(database, ref)
            await ledger.submit(ask(Activate, "laptop", ref=ref))
            for statement in FILL:
                await connection.execute(statement, *ref[: statement.count("$")])
    reached = [name for (name,) in await fetch(database, REACHED)]
    tables = [name for name in reached if name not in NO_TENANTS]
    return Tenants(database, refs[0][0], refs[1][0], refs[0], refs[1], tables)


FILL = [
    "INSERT INTO signing_key (account_id, kid, role, public_key, sealed_with, sealed)"
    " VALUES ($1, 'k', 'root', '', '', '')",
    "INSERT INTO management_token (account_id, id, digest, key_id, name, scopes)"
    " VALUES ($1, gen_random_uuid(), uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()), 'k', 'crm', '{}')",
    "INSERT INTO inbox (account_id, license_id, version, consumer, received_at) VALUES ($1, $2, 1, 'mail', now())",
    "INSERT INTO reaping (account_id, halted_at, cause) VALUES ($1, now(), 'too_many')",
]


@pytest.fixture
async def portal(tenants: Tenants) -> AsyncIterator[asyncpg.Connection]:
    """A session of the portal's role that works for account A and was granted everything: only the policies hold it."""
    async with owner(tenants.database) as connection:
        await connection.execute(f"GRANT ALL ON {', '.join(tenants.tables)} TO {PORTAL}")
    session = await asyncpg.connect(tenants.database.dsn_for(PORTAL))
    await work_for(session, tenants.a)
    yield session
    await session.close()


async def work_for(session: asyncpg.Connection, account: UUID | str) -> None:
    await session.execute("SELECT set_config('seatkeeper.account', $1, false)", str(account))


async def test_every_table_that_the_portal_reaches_is_guarded(tenants: Tenants) -> None:
    assert set(tenants.tables) >= {"account", "license", "device", "audit", "outbox", "license_key", "signing_key"}
    assert [name for name in tenants.tables if await fetch(tenants.database, UNGUARDED, name)] == []


async def test_a_new_table_without_a_policy_is_found(tenants: Tenants) -> None:
    """What the test above would see if somebody forgot."""
    await fetch(tenants.database, "CREATE TABLE later (account_id uuid)")
    await fetch(tenants.database, f"GRANT SELECT ON later TO {PORTAL}")
    assert ("later",) in await fetch(tenants.database, REACHED)
    assert await fetch(tenants.database, UNGUARDED, "later") == [("later",)]


async def test_no_row_of_another_account_is_read(tenants: Tenants, portal: asyncpg.Connection) -> None:
    for table in tenants.tables:
        by_account = f"SELECT count(*) FROM {table} WHERE {tenants.account_of(table)} = $1"
        assert await portal.fetchval(by_account, tenants.b) == 0, table
        assert await portal.fetchval(by_account, tenants.a) > 0, table


async def test_without_an_account_no_row_is_seen(tenants: Tenants, portal: asyncpg.Connection) -> None:
    fresh = await asyncpg.connect(tenants.database.dsn_for(PORTAL))
    await work_for(portal, "")
    for session in (fresh, portal):
        for table in tenants.tables:
            nobodys = "" if table != "reaping" else f" WHERE account_id <> '{UUID(int=0)}'"
            assert await session.fetchval(f"SELECT count(*) FROM {table}{nobodys}") == 0, table
    await fresh.close()


async def test_nothing_of_another_account_is_changed_removed_or_added(
    tenants: Tenants, portal: asyncpg.Connection
) -> None:
    before = await contents(tenants)
    for table in tenants.tables:
        column = tenants.account_of(table)
        for statement in (
            f"UPDATE {table} SET {column} = '{tenants.a}' WHERE {column} = '{tenants.b}'",
            f"UPDATE {table} SET {column} = '{tenants.b}' WHERE {column} = '{tenants.a}'",
            f"DELETE FROM {table} WHERE {column} = '{tenants.b}'",
            f"INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT (jsonb_populate_record(NULL::{table}, to_jsonb(own) ||"
            f" jsonb_build_object('{column}', '{tenants.b}'))).* FROM {table} own LIMIT 1",
        ):
            assert await changed(portal, statement) == 0, statement
    assert await contents(tenants) == before


async def changed(session: asyncpg.Connection, statement: str) -> int:
    try:
        return int((await session.execute(statement)).split()[-1])
    except asyncpg.InsufficientPrivilegeError:
        return 0


async def contents(tenants: Tenants) -> dict[str, list[Any]]:
    return {name: await fetch(tenants.database, f"SELECT t::text FROM {name} t ORDER BY 1") for name in tenants.tables}


async def test_its_own_rows_are_the_portals_to_change(tenants: Tenants, portal: asyncpg.Connection) -> None:
    for statement in (
        "UPDATE license SET customer = 'Ada'",
        "UPDATE policy SET name = 'Basic'",
        "DELETE FROM inbox",
        f"INSERT INTO inbox VALUES ('{tenants.a}', gen_random_uuid(), 1, 'mail', now())",
    ):
        assert await changed(portal, statement) == 1, statement


@pytest.mark.parametrize("role", OTHERS)
async def test_the_other_roles_see_every_account(tenants: Tenants, role: str) -> None:
    async with open_role(tenants.database.dsn_for(role)) as pool:
        for table in tenants.tables:
            if await pool.fetchval("SELECT has_table_privilege($1, 'SELECT')", table):
                ((rows,),) = await fetch(tenants.database, f"SELECT count(*) FROM {table}")
                assert await pool.fetchval(f"SELECT count(*) FROM {table}") == rows, table


async def test_a_role_that_nobody_thought_of_sees_nothing(tenants: Tenants) -> None:
    role = f"stranger_{secrets.token_hex(4)}"
    await fetch(tenants.database, f"CREATE ROLE {role} LOGIN")
    try:
        await fetch(tenants.database, f"GRANT ALL ON {', '.join(tenants.tables)} TO {role}")
        async with open_role(tenants.database.dsn_for(role)) as pool:
            for table in tenants.tables:
                assert await pool.fetchval(f"SELECT count(*) FROM {table}") == 0, table
    finally:
        await fetch(tenants.database, f"DROP OWNED BY {role}")
        await fetch(tenants.database, f"DROP ROLE {role}")


# --- A request of the portal ----------------------------------------------------------------------------------


async def test_a_request_works_for_its_account_by_the_use_cases_there_are(tenants: Tenants) -> None:
    async with open_role(tenants.database.dsn_for(PORTAL), size=1) as pool:
        own = for_account(pool, tenants.a)
        catalog, reader, ledger = Catalog(own), Reader(own), Ledger(own, after_commit=_tell_nobody)
        try:
            assert [row.id for row in await catalog.licenses(tenants.a, limit=10)] == [tenants.license_a[1]]
            assert await catalog.licenses(tenants.b, limit=10) == []
            assert await reader.license(tenants.license_a) is not None
            assert await reader.license(tenants.license_b) is None
            assert [entry.version for entry in await reader.trail(tenants.license_a)] == [1, 2]
            assert await reader.trail(tenants.license_b) == []
            assert isinstance((await ledger.submit(ask(Resize, ref=tenants.license_a, seats=9))).answer, Granted)
            assert isinstance((await ledger.submit(ask(Release, "laptop", ref=tenants.license_a))).answer, Granted)
            with pytest.raises(LicenseNotFoundError):
                await ledger.submit(ask(Resize, ref=tenants.license_b, seats=9))
            with pytest.raises((CatalogError, asyncpg.InsufficientPrivilegeError)):
                await catalog.add_product(tenants.b, uuid4(), code="theirs", name="Theirs")
            await catalog.add_product(tenants.a, uuid4(), code="ours", name="Ours")
        finally:
            await ledger.close()
        assert await pool.fetchval("SELECT count(*) FROM license") == 0
    await check_invariants(tenants.database)


async def _tell_nobody(changes: Any) -> None:
    """Redis is away."""


async def test_requests_of_two_accounts_share_connections_and_no_row(tenants: Tenants) -> None:
    async with open_role(tenants.database.dsn_for(PORTAL), size=2) as pool:

        async def seen(account: UUID) -> set[UUID]:
            own = for_account(pool, account)
            return {UUID(str(row["account_id"])) for row in await own.fetch("SELECT account_id FROM license")}

        accounts = [tenants.a, tenants.b] * 50
        assert await asyncio.gather(*map(seen, accounts)) == [{account} for account in accounts]


async def _fails(connection: asyncpg.Connection) -> None:
    await connection.execute("SELECT 1 / 0")


async def _fails_in_a_transaction(connection: asyncpg.Connection) -> None:
    await connection.execute("BEGIN")
    await connection.execute("SELECT 1 / 0")


async def _gives_up(connection: asyncpg.Connection) -> None:
    async with asyncio.timeout(0.05):
        await connection.execute("SELECT pg_sleep(5)")


async def _loses_its_connection(connection: asyncpg.Connection) -> None:
    connection.terminate()
    raise ConnectionResetError


@pytest.mark.parametrize("work", [_fails, _fails_in_a_transaction, _gives_up, _loses_its_connection])
async def test_a_request_that_fails_leaves_its_account_to_nobody(tenants: Tenants, work: Callable[..., Any]) -> None:
    async with open_role(tenants.database.dsn_for(PORTAL), size=1) as pool:
        begun = failed = False
        with suppress(Exception):
            async with for_account(pool, tenants.a).acquire() as connection:
                begun = await connection.fetchval("SELECT count(*) FROM license") == 1
                failed = True
                await work(connection)
                failed = False
        assert (begun, failed) == (True, True)
        assert await pool.fetchval("SELECT count(*) FROM license") == 0


async def test_the_portal_service_is_ready_and_relays_no_fact(
    services: Services, database: Database, facts_url: str
) -> None:
    await add_license(database)
    over = {"rabbitmq": {"url": facts_url}}
    unsent = "SELECT count(*) AS n FROM outbox WHERE sent_at IS NULL"
    portal = services.start("portal", changes=over)
    await portal.ready()
    await asyncio.sleep(1.5)
    assert (await rows(database, unsent))[0]["n"] == 1
    await services.start("reaper", changes=over).ready()
    async with asyncio.timeout(10):
        while (await rows(database, unsent))[0]["n"]:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


# --- An owner who is no superuser -----------------------------------------------------------------------------


async def test_an_owner_who_is_no_superuser_migrates_and_keeps_the_trails_months(database: Database) -> None:
    """Forced policies hold the owner too: it has its own, or could not move a row to its month."""
    role = f"owner_{secrets.token_hex(4)}"
    name = f"owned_{secrets.token_hex(4)}"
    await fetch(database, f"CREATE ROLE {role} LOGIN CREATEROLE")
    await fetch(database, f"CREATE DATABASE {name} OWNER {role}")
    owned = Database(name=name, owner_dsn=database.server.dsn(name, role), server=database.server)
    try:
        assert await migrate(owned.owner_dsn) == list(migrations())
        ref = await add_license(owned)
        await shift_clock(owned, timedelta(days=300))
        async with open_ledger(owned) as ledger:
            await ledger.submit(ask(Activate, ref=ref))
        async with open_role(owned.dsn_for(REAPER)) as pool:
            await keep_partitions(pool, STAMP, retention_days=None)
        assert await fetch(owned, "SELECT count(*) FROM audit_default") == [(0,)]
        assert await fetch(owned, "SELECT count(*) FROM audit") == [(2,)]
        await check_invariants(owned)
    finally:
        await fetch(database, f"DROP DATABASE {name} WITH (FORCE)")
        await fetch(database, f"DROP ROLE {role}")

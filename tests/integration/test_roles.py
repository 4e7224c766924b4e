"""Each service's role in the database: it can do what the service needs, and nothing else."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg
import pytest

from shared.ledger.catalog import Catalog, CatalogError, NewKey
from shared.ledger.clock import Clock
from shared.ledger.offline import OfflineFiles, clear_files
from shared.ledger.outbox import clear_sent, relay_once
from shared.ledger.reader import Reader
from shared.ledger.reaping import START, candidates
from shared.licensing.model import Activate, Expire, Extend, Granted, Release, Resize, Suspend
from tests.builders import add_license, add_token, ask, fetch, open_ledger, open_role, shift_clock
from tests.conftest import Database
from tests.invariants import check_invariants

ACTIVATION, HEARTBEAT, REAPER, PORTAL, STANDALONE, OPERATOR = ROLES = [
    f"seatkeeper_{user}" for user in ("activation", "heartbeat", "reaper", "portal", "standalone", "operator")
]
OF_EVERY_ACCOUNT = [role for role in ROLES if role != PORTAL]  # the portal's: tests/integration/test_row_security.py


async def run(database: Database, role: str, statement: str, *arguments: object) -> None:
    connection = await asyncpg.connect(database.dsn_for(role))
    try:
        await connection.execute(statement, *arguments)
    finally:
        await connection.close()


async def is_refused(database: Database, role: str, statement: str) -> bool:
    try:
        await run(database, role, statement)
    except asyncpg.InsufficientPrivilegeError:
        return True
    return False


# --- What nobody may ------------------------------------------------------------------------------------------

DDL = [
    "CREATE TABLE mine (id int)",
    "CREATE SCHEMA mine",
    "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE OR REPLACE FUNCTION ledger_clock() RETURNS timestamptz LANGUAGE sql AS 'SELECT now()'",
    "CREATE INDEX ON device (name)",
    "CREATE ROLE mine",
    "CREATE DATABASE mine",
    "ALTER TABLE license DROP CONSTRAINT license_never_oversold",
    "ALTER TABLE audit DISABLE TRIGGER ALL",
    "DROP TABLE audit",
    "DROP FUNCTION ledger_clock()",
    "DROP TRIGGER audit_is_append_only ON audit",
    "TRUNCATE device",
    "DELETE FROM device",
    "DELETE FROM license",
    "UPDATE schema_migration SET checksum = ''",
    "SET session_replication_role = replica",
]


@pytest.mark.parametrize("role", ROLES)
async def test_no_service_changes_the_schema_or_removes_records(database: Database, role: str) -> None:
    allowed = [statement for statement in DDL if not await is_refused(database, role, statement)]
    assert allowed == []


TAMPERING = ["UPDATE audit SET actor = 'nobody'", "DELETE FROM audit", "TRUNCATE audit", "TRUNCATE audit CASCADE"]
TAMPERING += ["UPDATE audit_seal SET number = 9", "DELETE FROM audit_seal", "TRUNCATE audit_seal"]


@pytest.mark.parametrize("statement", TAMPERING)
async def test_audit_rows_are_changed_and_removed_by_nobody_not_even_their_owner(
    database: Database, statement: str
) -> None:
    await add_license(database)
    before = await fetch(database, "SELECT audit::text FROM audit")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await fetch(database, statement)
    assert [role for role in ROLES if not await is_refused(database, role, statement)] == []
    assert await fetch(database, "SELECT audit::text FROM audit") == before


async def test_an_audit_row_cannot_be_replaced_by_writing_it_again(database: Database) -> None:
    await add_license(database)
    again = (
        "INSERT INTO audit (account_id, license_id, version, at, actor, event, seats_limit, seats_used, seats_allowed)"
        " SELECT account_id, license_id, 1, '{at}', 'nobody', 'license.created', 99, 0, 99 FROM outbox"
    ).format(at=(await fetch(database, "SELECT at FROM audit"))[0][0].isoformat())
    with pytest.raises(asyncpg.UniqueViolationError):
        await run(database, ACTIVATION, again)
    assert await is_refused(
        database,
        ACTIVATION,
        f"{again} ON CONFLICT (account_id, license_id, version, at) DO UPDATE SET actor = 'nobody'",
    )


# --- Who reads secrets ----------------------------------------------------------------------------------------

READERS = {
    "license_key": {ACTIVATION, PORTAL, STANDALONE, OPERATOR},
    "signing_key": {ACTIVATION, HEARTBEAT, PORTAL, STANDALONE, OPERATOR},
    "activation_token": {ACTIVATION, PORTAL, STANDALONE, OPERATOR},
    "management_token": {PORTAL, STANDALONE, OPERATOR},
    "audit": {REAPER, PORTAL, STANDALONE, OPERATOR},
    "audit_seal": {REAPER, STANDALONE, OPERATOR},
    "offline_device": {ACTIVATION, STANDALONE, OPERATOR},
    "offline_file": {ACTIVATION, REAPER, STANDALONE, OPERATOR},
}


@pytest.mark.parametrize("table", READERS)
async def test_secrets_and_the_trail_are_read_by_those_who_need_them(database: Database, table: str) -> None:
    readers = {role for role in ROLES if not await is_refused(database, role, f"SELECT 1 FROM {table}")}
    assert readers == READERS[table]


@pytest.mark.parametrize("table", ["account", "product", "policy", "license", "license_key", "signing_key"])
async def test_only_the_vendors_side_adds_what_is_sold(database: Database, table: str) -> None:
    adders = {
        role for role in ROLES if not await is_refused(database, role, f"INSERT INTO {table} SELECT FROM {table}")
    }
    also = {"account": set[str](), "signing_key": {PORTAL, ACTIVATION}}.get(table, {PORTAL})
    assert adders == {STANDALONE, OPERATOR} | also
    async with open_role(database.dsn_for(ACTIVATION)) as pool:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await Catalog(pool).add_account(uuid4(), "Mine", [])


@pytest.mark.parametrize("column", ["policy_id", "created_at", "key_prefix", "account_id"])
@pytest.mark.parametrize("role", ROLES)
async def test_what_a_license_was_granted_with_is_changed_by_no_service(
    database: Database, role: str, column: str
) -> None:
    assert await is_refused(database, role, f"UPDATE license SET {column} = {column}")


# --- What each can --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", OF_EVERY_ACCOUNT)
async def test_every_service_changes_seats_through_a_ledger_of_its_own_role(database: Database, role: str) -> None:
    ref = await add_license(database, seats=1)
    async with open_ledger(database, role=role) as ledger:
        for command in (
            ask(Activate, "a", ref=ref),
            ask(Extend, "a", ref=ref),
            ask(Resize, ref=ref, seats=2),
            ask(Release, "a", ref=ref),
            ask(Activate, "b", ref=ref),
            ask(Suspend, ref=ref),
        ):
            assert isinstance((await ledger.submit(command)).answer, Granted)
        await shift_clock(database, timedelta(days=92))
        assert isinstance((await ledger.submit(ask(Expire, "b", ref=ref))).answer, Granted)
    await check_invariants(database)


@pytest.mark.parametrize("role", [ACTIVATION, HEARTBEAT, REAPER, STANDALONE])
async def test_every_service_relays_facts(database: Database, role: str) -> None:
    await add_license(database)
    async with open_role(database.dsn_for(role)) as pool:
        handed_over: list[str] = []

        async def publish(facts: object) -> None:
            handed_over.append(str(facts))

        assert await relay_once(pool, publish) == 1
        await clear_sent(pool, keep_s=-1)
    assert await fetch(database, "SELECT count(*) FROM outbox") == [(0,)]


@pytest.mark.parametrize("role", [PORTAL, OPERATOR])
async def test_who_works_for_vendors_relays_no_facts(database: Database, role: str) -> None:
    assert await is_refused(database, role, "UPDATE outbox SET sent_at = now()")
    assert await is_refused(database, role, "DELETE FROM outbox")


@pytest.mark.parametrize("role", ROLES)
async def test_every_service_keeps_the_pulse(database: Database, role: str) -> None:
    async with open_role(database.dsn_for(role)) as pool:
        clock = Clock(pool)
        await clock.raise_epoch(1)
        assert clock.epoch == 2


@pytest.mark.parametrize("role", [ACTIVATION, STANDALONE])
async def test_who_activates_finds_keys_and_counts_the_uses_of_tokens(database: Database, role: str) -> None:
    ref = await add_license(database)
    token = await add_token(database, ref)
    (digest,) = (await fetch(database, "SELECT digest FROM license_key"))[0]
    async with open_role(database.dsn_for(role)) as pool, open_ledger(database, role=role) as ledger:
        reader = Reader(pool)
        assert await reader.find([digest]) == ref
        assert (await reader.license(ref)) is not None
        assert await reader.account_keys(ref[0]) == []
        await ledger.submit(ask(Activate, ref=ref, token_id=token))
    assert await fetch(database, "SELECT uses FROM activation_token") == [(1,)]


@pytest.mark.parametrize("role", [ACTIVATION, STANDALONE])
async def test_who_activates_keeps_offline_files_and_changes_none(database: Database, role: str) -> None:
    ref, device = await add_license(database), uuid4()
    async with open_role(database.dsn_for(role)) as pool:
        files = OfflineFiles(pool)
        first, other = b"1" * 32, b"2" * 32
        assert await files.bind_key((*ref, device), 1, first) == first
        assert await files.bind_key((*ref, device), 1, other) == first
        assert await files.bind_key((*ref, device), 2, other) == other
        assert await files.key_of((*ref, device), 3) is None
        ended = datetime.now(UTC) - timedelta(days=1)
        kept = await files.keep((*ref, device), 1, request=b"r" * 32, file=b"file", expires_at=ended)
        again = await files.keep((*ref, device), 1, request=b"r" * 32, file=b"other", expires_at=ended)
        assert (kept.license_id, kept.file, again) == (ref[1], b"file", kept)
    for table in ("offline_device", "offline_file"):
        assert await is_refused(database, role, f"UPDATE {table} SET generation = 9")
    assert await is_refused(database, role, "DELETE FROM offline_device")
    assert await is_refused(database, ACTIVATION, "DELETE FROM offline_file")


async def test_the_reaper_clears_away_files_that_ended_long_ago(database: Database) -> None:
    ref, ended = await add_license(database), datetime.now(UTC) - timedelta(days=300)
    async with open_role(database.dsn_for(STANDALONE)) as pool:
        for n in range(3):
            end = ended + n * timedelta(days=100)
            await OfflineFiles(pool).keep((*ref, uuid4()), 1, request=bytes([n]) * 32, file=b"", expires_at=end)
    async with open_role(database.dsn_for(REAPER)) as pool:
        await clear_files(pool)
        assert await fetch(database, "SELECT count(*) FROM offline_file") == [(3,)]
        await shift_clock(database, timedelta(days=100))
        await clear_files(pool)
    assert await fetch(database, "SELECT request FROM offline_file ORDER BY 1") == [(b"\1" * 32,), (b"\2" * 32,)]


@pytest.mark.parametrize("role", [HEARTBEAT, OPERATOR])
async def test_who_answers_devices_reads_the_keys_that_sign(database: Database, role: str) -> None:
    ref = await add_license(database)
    async with open_role(database.dsn_for(role)) as pool:
        assert await Reader(pool).account_keys(ref[0]) == []
        assert await Reader(pool).accounts(after=uuid4(), limit=1) in ([], [ref[0]])


async def test_the_reaper_finds_silent_devices(database: Database) -> None:
    ref = await add_license(database)
    async with open_ledger(database) as ledger:
        await ledger.submit(ask(Activate, ref=ref))
    async with open_role(database.dsn_for(REAPER)) as pool:
        await shift_clock(database, timedelta(days=84))
        assert len((await candidates(pool, "expiring_devices", after=START, limit=10)).found) == 1
        assert len((await candidates(pool, "expired_devices", after=START, limit=10)).found) == 0
        await shift_clock(database, timedelta(days=92))
        assert len((await candidates(pool, "expired_devices", after=START, limit=10)).found) == 1


@pytest.mark.parametrize("role", [OPERATOR, STANDALONE])
async def test_the_operator_keeps_the_catalogue_and_reads_the_trail(database: Database, role: str) -> None:
    ref = await add_license(database)
    async with open_role(database.dsn_for(role)) as pool:
        catalog = Catalog(pool)
        policy = (await fetch(database, "SELECT name FROM policy"))[0][0]
        new = (ref[0], uuid4())
        key = NewKey(digest=b"k" * 32, key_id="test", prefix="")
        await catalog.add_license(new, policy=policy, seats=5, expires_at=None, customer="Ann", key=key, actor="admin")
        with pytest.raises(CatalogError, match="in use"):
            await catalog.add_license(
                (ref[0], uuid4()), policy=policy, seats=5, expires_at=None, customer="", key=key, actor="admin"
            )
        token = uuid4()
        await catalog.add_activation_token(new, token, ttl_s=60, max_uses=1)
        await catalog.revoke_activation_token(ref[0], token)
        await catalog.add_management_token(
            ref[0], uuid4(), digest=b"m" * 32, key_id="test", name="CI", scopes=["licenses:read"], ttl_s=60
        )
        assert [entry.event for entry in await Reader(pool).trail(new)] == ["license.created"]
        assert {row.id for row in await catalog.licenses(ref[0], limit=10)} == {ref[1], new[1]}
    await check_invariants(database)

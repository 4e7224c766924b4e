"""The trail, sealed: whatever is done to it behind the ledger's back is found and named, and nothing else is.

Who tampers here is a superuser with triggers off, and knows how seals are made; only the master secret is not theirs.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from shared.ledger.chain import GENESIS, Seal, Stamp, link, link_dropped, tallied
from shared.ledger.connections import Pool
from shared.ledger.reader import LicenseRef
from shared.ledger.sealing import BrokenChainError, Sealer, seal_of
from shared.ledger.statements import load
from shared.ledger.trail import keep_partitions
from shared.ledger.verifying import Fault, Report, verify
from shared.licensing.model import Activate, Release
from shared.runtime.redaction import redact
from shared.signing.seal import TrailStamp
from shared.signing.secrets import MasterSecrets
from tests.builders import STAMP, add_license, add_licenses, ask, fetch, open_ledger, open_role, owner, shift_clock
from tests.conftest import Database
from tests.integration.admin_process import Admin, admin_of
from tests.invariants import check_invariants
from tests.platform import Platform, eventually

pytest_plugins = ["tests.platform"]

ACTIVATION, REAPER, OPERATOR = "seatkeeper_activation", "seatkeeper_reaper", "seatkeeper_operator"
DAY = timedelta(days=1)
OTHER = TrailStamp(MasterSecrets({"k1": bytes(range(1, 33))}, "k1"))
"""Of the same name, and another secret."""


def stamp(*held: str, current: str) -> TrailStamp:
    return TrailStamp(MasterSecrets({key_id: key_id.encode() * 16 for key_id in held}, current))


async def seal_all(database: Database, with_stamp: Stamp = STAMP, *, batch: int = 10_000) -> None:
    """Seal until every committed row is."""
    async with open_role(database.dsn_for(REAPER)) as pool:
        await until_sealed(Sealer(pool, with_stamp, batch=batch))


async def look(database: Database, with_stamp: Stamp = STAMP, seen: tuple[int, bytes] | None = None) -> Report:
    async with open_role(database.dsn_for(OPERATOR)) as pool:
        return await verify(pool, with_stamp, seen=seen)


async def faults(database: Database, with_stamp: Stamp = STAMP, seen: tuple[int, bytes] | None = None) -> set[Fault]:
    return set((await look(database, with_stamp, seen)).counts)


async def live(database: Database, ref: LicenseRef, *fingerprints: str) -> None:
    async with open_ledger(database) as ledger:
        for fingerprint in fingerprints:
            await ledger.submit(ask(Activate, fingerprint, ref=ref))
            await ledger.submit(ask(Release, fingerprint, ref=ref))


async def tamper(database: Database, *statements: str) -> None:
    async with owner(database) as connection:
        await connection.execute("SET session_replication_role = replica")
        for statement in statements:
            assert await connection.execute(statement) not in {"UPDATE 0", "DELETE 0", "INSERT 0 0"}, statement


async def seals(database: Database) -> list[Seal]:
    async with owner(database) as connection:
        return [seal_of(row) for row in await connection.fetch(load("sealing.sql")["seals"], 0, 10_000)]


async def head(database: Database) -> tuple[int, bytes]:
    last = (await seals(database))[-1]
    return last.number, last.hash


@pytest.fixture
async def sealed(database: Database) -> Database:
    """Three seals over the lives of two licenses; the second speaks for eight rows."""
    for fingerprints in (("a",), ("b", "c", "d", "e"), ("f", "g")):
        if fingerprints == ("a",):
            ref = await add_license(database)
            await add_license(database)
        await live(database, ref, *fingerprints)
        await seal_all(database)
    assert [seal.count for seal in await seals(database)] == [4, 8, 4]
    assert await faults(database) == set()
    return database


ROW = "(SELECT id FROM audit ORDER BY id OFFSET 6 LIMIT 1)"
NEXT_ROW = "(SELECT id FROM audit ORDER BY id OFFSET 7 LIMIT 1)"


# --- What is found --------------------------------------------------------------------------------------------

OTHER_VALUE = {
    "uuid": "gen_random_uuid()",
    "bigint": "{} + 1000",
    "integer": "coalesce({}, 0) + 1",
    "text": "coalesce({}, '') || 'x'",
    "timestamp with time zone": "{} + interval '1 microsecond'",
    "date": "{} + 31",
    "bytea": "set_byte({0}, 0, get_byte({0}, 0) # 1)",
}


async def columns_of(database: Database, table: str) -> dict[str, str]:
    """Each column with an expression that is another value of its type."""
    rows = await fetch(
        database, "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = $1", table
    )
    return {name: OTHER_VALUE[kind].format(name) for name, kind in rows}


async def test_a_change_of_any_column_of_a_row_is_found(sealed: Database) -> None:
    for column, other in (await columns_of(sealed, "audit")).items():
        async with owner(sealed) as connection:
            (was,) = [tuple(row) for row in await connection.fetch(f"SELECT id, {column} FROM audit WHERE id = {ROW}")]
        await tamper(sealed, f"UPDATE audit SET {column} = {other} WHERE id = {ROW}")
        report = await look(sealed)
        named = Fault.DELETED if column == "id" else Fault.EDITED
        assert report.counts[named] == 1, (column, report)
        assert {finding.seal for finding in report.findings if finding.fault is named} == {2}, column
        where = f"id = {was[0]}" if column != "id" else f"id = {was[0]} + 1000"
        async with owner(sealed) as connection:
            await connection.execute("SET session_replication_role = replica")
            await connection.execute(f"UPDATE audit SET {column} = $1 WHERE {where}", was[1])
        assert await faults(sealed) == set(), column


async def test_a_change_names_the_row(sealed: Database) -> None:
    ((id, version, license),) = await fetch(sealed, f"SELECT id, version, license_id FROM audit WHERE id = {ROW}")
    await tamper(sealed, f"UPDATE audit SET actor = 'nobody' WHERE id = {ROW}")
    (finding,) = (await look(sealed)).findings
    assert (finding.fault, finding.seal) == (Fault.EDITED, 2)
    assert f"id {id}, " in finding.text
    assert f"version {version} of license {license}" in finding.text


async def test_a_row_that_was_removed_is_found(sealed: Database) -> None:
    await tamper(sealed, f"DELETE FROM audit WHERE id = {ROW}")
    report = await look(sealed)
    assert set(report.counts) == {Fault.DELETED}
    assert any("a row is gone that seal 2 speaks for" in finding.text for finding in report.findings)
    assert any("versions between 1 and" in finding.text for finding in report.findings)


INSERT = """
INSERT INTO audit (account_id, license_id, version, at, actor, event, seats_limit, seats_used, seats_allowed, id)
SELECT account_id, {license}, {version}, at + interval '1 microsecond', 'device', 'device.released', 3, 0, 3, {id}
FROM audit WHERE id = {row}
"""


@pytest.mark.parametrize(
    ("license", "version", "id"),
    [
        ("license_id", "version", "id"),
        ("license_id", "version + 5000", "id"),
        ("gen_random_uuid()", "1", "id"),
        ("gen_random_uuid()", "1", "(SELECT max(id) + 1 FROM audit)"),
        ("license_id", "version + 5000", "(SELECT max(id) + 1 FROM audit)"),
        ("license_id", "version", "(SELECT max(id) + 1000 FROM audit)"),
    ],
)
async def test_a_row_that_was_added_is_found(sealed: Database, license: str, version: str, id: str) -> None:
    await tamper(sealed, INSERT.format(license=license, version=version, id=id, row=ROW))
    assert Fault.INSERTED in await faults(sealed)


async def test_two_rows_that_changed_places_are_found(sealed: Database) -> None:
    first, second = [row[0] for row in await fetch(sealed, f"SELECT id FROM audit WHERE id IN ({ROW}, {NEXT_ROW})")]
    await tamper(
        sealed,
        f"UPDATE audit SET id = 0 WHERE id = {first}",
        f"UPDATE audit SET id = {first} WHERE id = {second}",
        f"UPDATE audit SET id = {second} WHERE id = 0",
    )
    report = await look(sealed)
    assert report.counts == {Fault.REORDERED: 2}
    assert {finding.seal for finding in report.findings} == {2}


async def test_two_rows_that_changed_their_contents_are_found(sealed: Database) -> None:
    await tamper(
        sealed,
        f"WITH pair AS (SELECT min(id) AS a, max(id) AS b FROM audit WHERE id IN ({ROW}, {NEXT_ROW})) "
        "UPDATE audit t SET event = o.event, reason = o.reason, seats_used = o.seats_used FROM pair, audit o "
        "WHERE (t.id = pair.a AND o.id = pair.b) OR (t.id = pair.b AND o.id = pair.a)",
    )
    assert (await look(sealed)).counts[Fault.EDITED] == 2


async def test_rows_that_were_given_other_ids_in_the_same_order_are_found(sealed: Database) -> None:
    """Into the gap that a transaction left which was rolled back."""
    async with owner(sealed) as connection:
        await connection.fetchval("SELECT nextval('audit_id_seq')")
    ((license,),) = await fetch(sealed, "SELECT license_id FROM audit GROUP BY 1 HAVING count(*) = 1")
    ((account,),) = await fetch(sealed, "SELECT account_id FROM license WHERE id = $1", license)
    await live(sealed, (account, license), "z")
    await seal_all(sealed)
    await tamper(sealed, "UPDATE audit SET id = id - 1 WHERE id = (SELECT max(id) - 1 FROM audit)")
    assert await faults(sealed) == {Fault.EDITED}


CUT_SEALS = "DELETE FROM audit_seal WHERE number = 3"
CUT_ROWS = "DELETE FROM audit WHERE id > (SELECT last_id FROM audit_seal WHERE number = 2)"
CUT_OUTBOX = "DELETE FROM outbox o WHERE version > (SELECT max(version) FROM audit a WHERE a.license_id = o.license_id)"
SET_BACK = "UPDATE license l SET version = (SELECT max(version) FROM audit a WHERE a.license_id = l.id)"


async def test_a_tail_that_was_cut_together_with_its_seals_is_found(sealed: Database) -> None:
    await tamper(sealed, CUT_ROWS, CUT_SEALS)
    report = await look(sealed)
    assert set(report.counts) == {Fault.CUT, Fault.DELETED}
    assert any(
        re.search(r"the trail ends at version 11 of license .*, which is at 15", f.text) for f in report.findings
    )


async def test_a_cut_tail_is_told_by_the_outbox_where_the_license_was_set_back_too(sealed: Database) -> None:
    await tamper(sealed, CUT_ROWS, CUT_SEALS, SET_BACK)
    report = await look(sealed)
    assert set(report.counts) == {Fault.DELETED}
    assert len(report.findings) == 4
    assert all("the outbox tells of version" in finding.text for finding in report.findings)


async def test_a_tail_that_was_cut_everywhere_is_told_by_a_head_kept_elsewhere(sealed: Database) -> None:
    kept = await head(sealed)
    await tamper(sealed, CUT_ROWS, CUT_SEALS, SET_BACK, CUT_OUTBOX)
    assert await faults(sealed) == set()
    assert await faults(sealed, seen=kept) == {Fault.CUT}
    ((account, license),) = await fetch(
        sealed, "SELECT account_id, license_id FROM audit GROUP BY 1, 2 HAVING count(*) > 1"
    )
    await live(sealed, (account, license), "h")
    await seal_all(sealed)
    assert (await head(sealed))[0] == kept[0]
    assert await faults(sealed) == set()
    assert await faults(sealed, seen=kept) == {Fault.CUT}
    assert await faults(sealed, seen=await head(sealed)) == set()


async def test_a_whole_chain_that_was_taken_away_is_told_by_its_rows_and_by_a_head_kept_elsewhere(
    sealed: Database,
) -> None:
    kept = await head(sealed)
    await tamper(sealed, "DELETE FROM audit_seal")
    await shift_clock(sealed, timedelta(minutes=6))
    assert await faults(sealed) == {Fault.UNSEALED}
    await seal_all(sealed)
    assert await faults(sealed) == set()
    assert await faults(sealed, seen=kept) == {Fault.CUT}


async def test_a_change_of_any_column_of_a_seal_is_found(sealed: Database) -> None:
    changes = await columns_of(sealed, "audit_seal") | {"kind": "'dropped'", "number": "number + 100"}
    changes["count"], changes["marks"] = "count - 1", "substr(marks, 9)"
    for column, other in changes.items():
        both = "count = count - 1, marks = substr(marks, 9)" if column in {"count", "marks"} else f"{column} = {other}"
        async with owner(sealed) as connection:
            await connection.execute("CREATE TEMPORARY TABLE was AS SELECT * FROM audit_seal WHERE number = 2")
            await connection.execute("SET session_replication_role = replica")
            await connection.execute(f"UPDATE audit_seal SET {both} WHERE number = 2")
            found = await look(sealed)
            assert set(found.counts) & {Fault.SEAL_EDITED, Fault.SEAL_FORGED, Fault.SEAL_MISSING}, column
            assert {2, 3} & {finding.seal for finding in found.findings}, column
            await connection.execute("DELETE FROM audit_seal WHERE number IN (2, 102)")
            await connection.execute("INSERT INTO audit_seal SELECT * FROM was")
        assert await faults(sealed) == set(), column


@pytest.mark.parametrize("number", [1, 2])
async def test_a_seal_that_was_removed_is_found(sealed: Database, number: int) -> None:
    await tamper(sealed, f"DELETE FROM audit_seal WHERE number = {number}")
    report = await look(sealed)
    assert set(report.counts) == {Fault.SEAL_MISSING}
    assert [finding.seal for finding in report.findings] == [number]


async def reseal(database: Database, with_stamp: Stamp, *, from_seal: int) -> None:
    """Make the seals from this one on anew, over the rows as they are now."""
    old = await seals(database)
    made: Seal | None = old[from_seal - 2] if from_seal > 1 else None
    async with owner(database) as connection:
        await connection.execute("SET session_replication_role = replica")
        await connection.execute("DELETE FROM audit_seal WHERE number >= $1", from_seal)
        for seal in old[from_seal - 1 :]:
            rows = await connection.fetch(load("sealing.sql")["range"], seal.first_id, seal.last_id)
            (made,) = link(made, tallied(rows), last_id=seal.last_id, now=seal.sealed_at, stamp=with_stamp)
            await insert(connection, made)


async def insert(connection: asyncpg.Connection, seal: Seal) -> None:
    values = [getattr(seal, name) for name in Seal.__struct_fields__]
    await connection.execute(load("sealing.sql")["add"], *values)


@pytest.mark.parametrize(
    ("forger", "fault"),
    [(OTHER, Fault.SEAL_FORGED), (stamp("zz", current="zz"), Fault.SEAL_UNKNOWN_KEY)],
)
async def test_a_trail_that_was_changed_and_sealed_anew_without_the_key_is_found(
    sealed: Database, forger: Stamp, fault: Fault
) -> None:
    await tamper(sealed, f"UPDATE audit SET actor = 'nobody' WHERE id = {ROW}")
    await reseal(sealed, forger, from_seal=2)
    report = await look(sealed)
    assert set(report.counts) == {fault}
    assert {finding.seal for finding in report.findings} == ({2, 3} if fault is Fault.SEAL_FORGED else {2})
    with pytest.raises(BrokenChainError):
        await seal_all(sealed)


async def test_with_the_key_one_could(sealed: Database) -> None:
    """What the test above would see if the key did nothing."""
    await tamper(sealed, f"UPDATE audit SET actor = 'nobody' WHERE id = {ROW}")
    await reseal(sealed, STAMP, from_seal=2)
    assert await faults(sealed) == set()


async def test_a_removal_does_not_pass_for_retention(sealed: Database) -> None:
    month = (await seals(sealed))[-1].month
    async with owner(sealed) as connection:
        (forged,) = link_dropped((await seals(sealed))[-1], [month], now=datetime.now(UTC), stamp=OTHER)
        await insert(connection, forged)
    await tamper(sealed, "DELETE FROM audit")
    report = await look(sealed)
    assert report.counts.keys() >= {Fault.SEAL_FORGED, Fault.DELETED}
    assert report.dropped == []


# --- What is not ----------------------------------------------------------------------------------------------


async def test_rows_of_transactions_that_are_under_way_are_waited_for(database: Database) -> None:
    """Each row is in one seal, however long its transaction took and whatever was committed meanwhile."""
    add = (
        "INSERT INTO audit (account_id, license_id, version, at, actor, event, seats_limit, seats_used, seats_allowed)"
        " VALUES ($1, $2, 1, ledger_clock(), 'test', 'license.resized', 1, 0, 1) RETURNING id"
    )
    async with owner(database) as slow, open_role(database.dsn_for(REAPER)) as pool:
        sealer = Sealer(pool, STAMP)
        transaction = slow.transaction()
        await transaction.start()
        first = await slow.fetchval(add, uuid4(), uuid4())
        ref = await add_license(database)
        for _ in range(5):
            assert (await sealer.seal()).rows == 0
        assert await fetch(database, "SELECT count(*) FROM audit_seal") == [(0,)]
        await transaction.commit()
        assert (await until_sealed(sealer)) == 2
        (seal,) = await seals(database)
        assert (seal.first_id, seal.count) == (1, 2)
        assert seal.last_id > first
    await live(database, ref, "a")
    await seal_all(database)
    assert set((await look(database)).counts) == set()


async def until_sealed(sealer: Sealer) -> int:
    """Seal until nothing is left below the horizon; returns the rows of the last batch."""
    async with asyncio.timeout(30):
        while not (sealed := await sealer.seal()).done:  # noqa: ASYNC110 - what is waited for are other transactions
            await asyncio.sleep(0.01)
    return sealed.rows


async def test_an_untouched_busy_ledger_verifies_whatever_happened_meanwhile(database: Database) -> None:
    """Several sealers, one of them stopped and begun anew, while seats come and go and transactions are rolled back."""
    refs = await add_licenses(database, 12, seats=2)
    stop = asyncio.Event()

    async def trouble() -> None:
        async with owner(database) as connection:
            while not stop.is_set():
                with contextlib.suppress(asyncpg.DivisionByZeroError):
                    async with connection.transaction():
                        await connection.fetchval("SELECT nextval('audit_id_seq')")
                        await connection.fetchval("SELECT 1 / 0")
                await asyncio.sleep(0.005)

    async def load(ref: LicenseRef) -> None:
        async with open_ledger(database) as ledger:
            for number in range(60):
                await ledger.submit(ask(Activate, f"device {number % 3}", ref=ref))
                await ledger.submit(ask(Release, f"device {number % 4}", ref=ref))

    async with owner(database) as _, open_many(database, 3) as pools:
        watch = [asyncio.create_task(sealing(pool, stop)) for pool in pools] + [asyncio.create_task(trouble())]
        running = asyncio.gather(*map(load, refs))
        while not running.done():
            await asyncio.sleep(0.2)
            assert (await look(database)).counts == {}
        await running
        stop.set()
        assert sum([rows or 0 for rows in await asyncio.gather(*watch)]) > 0
    await seal_all(database, batch=7)
    report = await look(database)
    ((rows,),) = await fetch(database, "SELECT count(*) FROM audit")
    assert (report.counts, report.rows, report.unsealed, report.licenses) == ({}, rows, 0, 12)
    assert rows > 500
    assert report.seals > 5
    await check_invariants(database)


@contextlib.asynccontextmanager
async def open_many(database: Database, count: int) -> AsyncIterator[list[Pool]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_role(database.dsn_for(REAPER))) for _ in range(count)]


async def sealing(pool: Pool, stop: asyncio.Event) -> int:
    """A sealer that begins anew at times, knowing nothing; returns how many rows it has sealed."""
    rows = 0
    while not stop.is_set():
        sealer = Sealer(pool, STAMP, batch=25)
        for _ in range(20):
            rows += (await sealer.seal()).rows
            await asyncio.sleep(0.01)
    return rows


async def test_a_trail_whose_rows_went_to_their_months_later_verifies(database: Database) -> None:
    ref = await add_license(database)
    await shift_clock(database, 300 * DAY)
    await live(database, ref, "a", "b")
    await seal_all(database)
    assert await fetch(database, "SELECT count(*) FROM audit_default") == [(4,)]
    assert {seal.month.month for seal in await seals(database)} != {(await seals(database))[0].month.month}
    async with open_role(database.dsn_for(REAPER)) as pool:
        await keep_partitions(pool, STAMP, retention_days=None)
    assert await fetch(database, "SELECT count(*) FROM audit_default") == [(0,)]
    await live(database, ref, "c")
    await seal_all(database)
    report = await look(database)
    assert (report.counts, report.rows) == ({}, 7)


async def test_months_past_their_retention_are_told_apart_from_months_that_somebody_dropped(
    database: Database,
) -> None:
    ref = await add_license(database)
    for days in (0, 40, 80, 500):
        await shift_clock(database, days * DAY)
        await live(database, ref, "a", "b")
        if days != 40:  # rows of two months in one batch
            await seal_all(database)
    async with open_role(database.dsn_for(REAPER)) as pool:
        await keep_partitions(pool, STAMP, retention_days=None)
        before = await look(database)
        assert await keep_partitions(pool, OTHER, retention_days=425) == []  # who cannot seal it drops nothing
        dropped = await keep_partitions(pool, STAMP, retention_days=425)
    assert len(dropped) >= 2
    await live(database, ref, "c")
    await seal_all(database)
    report = await look(database)
    assert (report.counts, [f"audit_{month:%Y_%m}" for month in report.dropped]) == ({}, dropped)
    assert (before.rows, report.rows) == (17, 17 - 9 + 2)
    ((third,),) = await fetch(database, "SELECT min(tableoid::regclass::text) FROM audit")
    await fetch(database, f"DROP TABLE {third}")
    report = await look(database)
    assert set(report.counts) == {Fault.DELETED}
    assert any("4 rows are gone" in finding.text for finding in report.findings)


async def test_a_row_that_comes_back_to_a_dropped_month_is_found(database: Database) -> None:
    ref = await add_license(database)
    await live(database, ref, "a")
    await seal_all(database)
    await shift_clock(database, 500 * DAY)
    async with open_role(database.dsn_for(REAPER)) as pool:
        assert await keep_partitions(pool, STAMP, retention_days=400)
    assert await faults(database) == set()
    await tamper(
        database,
        "INSERT INTO audit (account_id, license_id, version, at, actor, event, seats_limit, seats_used, seats_allowed,"
        " id) SELECT account_id, id, 1, now(), 'admin', 'license.created', 9, 0, 9, 1 FROM license",
    )
    assert Fault.INSERTED in await faults(database)


async def test_a_rotated_master_secret_goes_on_vouching(database: Database) -> None:
    ref = await add_license(database)
    for number, held in enumerate((stamp("k1", current="k1"), stamp("k1", "k2", current="k2"))):
        await live(database, ref, f"device {number}")
        await seal_all(database, held)
    assert [seal.key_id for seal in await seals(database)] == ["k1", "k2"]
    assert await faults(database, stamp("k1", "k2", current="k2")) == set()
    assert await faults(database, stamp("k2", current="k2")) == set()
    assert await faults(database, stamp("k1", current="k1")) == {Fault.SEAL_UNKNOWN_KEY}
    await tamper(database, "UPDATE audit SET actor = 'nobody' WHERE id = 1")
    assert await faults(database, stamp("k2", current="k2")) == {Fault.EDITED}


async def test_an_empty_trail_verifies(database: Database) -> None:
    report = await look(database)
    assert (report.counts, report.seals, report.head) == ({}, 0, None)
    await seal_all(database)
    assert await seals(database) == []


async def test_the_first_seal_follows_nothing(sealed: Database) -> None:
    first = (await seals(sealed))[0]
    assert (first.number, first.previous, first.first_id) == (1, GENESIS, 1)
    assert replace(first, hash=b"").computed_hash() == first.hash


async def test_no_service_chooses_the_place_of_a_row(database: Database) -> None:
    add = (
        "INSERT INTO audit (account_id, license_id, version, at, actor, event, seats_limit, seats_used,"
        " seats_allowed{}) VALUES (gen_random_uuid(), gen_random_uuid(), 1, now(), 'x', 'x', 1, 0, 1{})"
    )
    async with open_role(database.dsn_for(ACTIVATION)) as pool:
        await pool.execute(add.format("", ""))
        for statement in (add.format(", id", ", 7"), "SELECT setval('audit_id_seq', 1)", "SELECT 1 FROM audit_seal"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await pool.execute(statement)


# --- The command ----------------------------------------------------------------------------------------------


@pytest.fixture
def admin(database: Database, redis_url: str) -> Admin:
    return admin_of(database, redis_url)


async def test_the_command_prints_the_head_and_takes_it_again(admin: Admin, sealed: Database) -> None:
    number, hash = await head(sealed)
    kept = f"{number}:{hash.hex()}"
    plain, as_json = await admin.at_once(("audit", "verify"), ("audit", "verify", "--json", "--head", kept))
    assert plain.code == 0
    assert re.search(rf"^head +{kept}$", plain.out, re.MULTILINE)
    assert as_json.json.items() >= {"head": kept, "seals": 3, "rows": 16, "unsealed": 0, "faults": []}.items()
    for wrong in ("3", "3:ab", f"x:{hash.hex()}", f"3:{hash.hex().upper()}"):
        assert "a head is" in (await admin("audit", "verify", "--head", wrong)).refused(2)


async def test_the_command_fails_where_the_trail_was_touched(admin: Admin, sealed: Database) -> None:
    await tamper(sealed, f"DELETE FROM audit WHERE id = {ROW}")
    plain, as_json, cut = await admin.at_once(
        ("audit", "verify"), ("audit", "verify", "--json"), ("audit", "verify", "--head", f"9:{'0' * 64}")
    )
    assert (plain.code, as_json.code, cut.code) == (1, 1, 1)
    assert "a row is gone that seal 2 speaks for" in plain.out
    assert "docs/operating.md" in plain.err
    assert '"row_deleted"' in as_json.out
    assert "seal 9 was seen before and is gone: the chain ends at seal 3" in cut.out


# --- In the services ------------------------------------------------------------------------------------------


async def test_running_services_seal_what_they_write_and_log_the_head(fresh_platform: Platform) -> None:
    vendor = await fresh_platform.vendor()
    with capture_logs() as logs:
        grant = await vendor.license()
        for fingerprint in "abc":
            (await fresh_platform.api.activate(grant.key, fingerprint)).ok(201)

        async def all_sealed() -> bool:
            (found,) = await fresh_platform.rows("SELECT coalesce(sum(count), 0) AS n FROM audit_seal")
            return bool(found["n"] == 4)

        await eventually(all_sealed)
    told = [entry for entry in logs if entry["event"] == "trail.sealed"]
    resources = fresh_platform.resources
    report = await verify(resources.pool, resources.trail_stamp)
    assert (report.counts, report.rows) == ({}, 4)
    assert len(told) == 1
    assert redact(told[0]) == told[0]
    quoted: Sequence[Any] = told[0]["head"].split(":")
    assert (
        await faults(fresh_platform.database, resources.trail_stamp, (int(quoted[0]), bytes.fromhex(quoted[1])))
        == set()
    )

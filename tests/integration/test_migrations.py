"""Migrations: one runs while others wait, history only grows, and what was applied never changes."""

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from shared.ledger import migrate as runner
from shared.ledger.migrate import MigrationError, create_database, migrate, migrations, pending
from shared.licensing.model import Activate, Granted, Release
from tests.builders import add_license, ask, fetch, open_ledger, open_role, owner
from tests.conftest import Database
from tests.invariants import check_invariants

MakeDatabase = Callable[[], Awaitable[Database]]
HISTORY = "SELECT name FROM schema_migration ORDER BY name"
FIRST, SECOND = "0001_first", "0002_second"
MADE = {FIRST: "CREATE TABLE first (id int)", SECOND: "CREATE TABLE second (id int)"}


@pytest.fixture
def code(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The migrations that this code has; a test may change them."""
    found = dict(MADE)
    monkeypatch.setattr(runner, "migrations", lambda: dict(sorted(found.items())))
    return found


async def tables(database: Database) -> set[str]:
    return {name for (name,) in await fetch(database, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}


async def test_four_at_once_apply_each_migration_once(empty_database: MakeDatabase) -> None:
    database = await empty_database()
    applied = await asyncio.gather(*(migrate(database.owner_dsn) for _ in range(4)))
    assert sorted(applied) == [[], [], [], list(migrations())]
    assert await fetch(database, HISTORY) == [(name,) for name in migrations()]


async def test_those_who_come_while_one_runs_wait_for_it(empty_database: MakeDatabase) -> None:
    database = await empty_database()
    async with owner(database) as holder:
        await holder.execute("SELECT pg_advisory_lock($1)", runner._LOCK)
        waiting = [asyncio.create_task(migrate(database.owner_dsn)) for _ in range(3)]
        await asyncio.sleep(0.2)
        assert [task.done() for task in waiting] == [False] * 3
        assert await tables(database) == set()
    assert sorted(await asyncio.gather(*waiting)) == [[], [], list(migrations())]


async def test_a_migrated_database_is_left_alone(database: Database) -> None:
    before = await fetch(database, "SELECT * FROM schema_migration ORDER BY name")
    assert await migrate(database.owner_dsn) == []
    assert await fetch(database, "SELECT * FROM schema_migration ORDER BY name") == before


async def test_a_new_migration_is_applied_on_top(empty_database: MakeDatabase, code: dict[str, str]) -> None:
    database, later = await empty_database(), code.pop(SECOND)
    assert await migrate(database.owner_dsn) == [FIRST]
    code[SECOND] = later
    assert await migrate(database.owner_dsn) == [SECOND]
    assert await tables(database) == {"schema_migration", "first", "second"}


async def test_a_migration_that_was_changed_after_it_was_applied_is_refused(
    empty_database: MakeDatabase, code: dict[str, str]
) -> None:
    database, later = await empty_database(), code.pop(SECOND)
    await migrate(database.owner_dsn)
    code |= {FIRST: MADE[FIRST] + " -- changed", SECOND: later}
    with pytest.raises(MigrationError, match=FIRST):
        await migrate(database.owner_dsn)
    assert await tables(database) == {"schema_migration", "first"}


async def test_a_migration_from_before_the_last_applied_one_is_refused(
    empty_database: MakeDatabase, code: dict[str, str]
) -> None:
    database, earlier = await empty_database(), code.pop(FIRST)
    await migrate(database.owner_dsn)
    code[FIRST] = earlier
    with pytest.raises(MigrationError, match=FIRST):
        await migrate(database.owner_dsn)
    assert await tables(database) == {"schema_migration", "second"}


async def test_code_that_is_older_than_the_database_applies_nothing(
    empty_database: MakeDatabase, code: dict[str, str]
) -> None:
    database = await empty_database()
    await migrate(database.owner_dsn)
    del code[SECOND]
    assert await migrate(database.owner_dsn) == []


async def test_a_migration_that_fails_leaves_nothing_and_keeps_those_before_it(
    empty_database: MakeDatabase, code: dict[str, str]
) -> None:
    database = await empty_database()
    code[SECOND] = "CREATE TABLE second (id int); SELECT 1 / 0"
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(database.owner_dsn)
    assert await tables(database) == {"schema_migration", "first"}
    assert await fetch(database, HISTORY) == [(FIRST,)]
    code[SECOND] = MADE[SECOND]
    assert await migrate(database.owner_dsn) == [SECOND]


async def test_a_service_sees_what_is_left_to_run_and_runs_nothing(
    empty_database: MakeDatabase, database: Database, code: dict[str, str]
) -> None:
    bare = await empty_database()
    async with open_role(bare.dsn_for("seatkeeper_activation")) as pool:
        assert await pending(pool) == [FIRST, SECOND]
    assert await tables(bare) == set()
    async with open_role(database.dsn_for("seatkeeper_activation")) as pool:
        assert await pending(pool) == [FIRST, SECOND]  # it has others


async def test_a_migrated_database_has_nothing_left_to_run(database: Database) -> None:
    async with open_role(database.dsn_for("seatkeeper_reaper")) as pool:
        assert await pending(pool) == []


async def test_a_column_that_is_added_under_a_working_ledger_disturbs_nobody(database: Database) -> None:
    ref = await add_license(database)
    async with open_ledger(database) as ledger:
        for number, table in enumerate(["license", "device", "policy", "audit", "outbox"]):
            assert isinstance((await ledger.submit(ask(Activate, "a", ref=ref))).answer, Granted)
            await fetch(database, f"ALTER TABLE {table} ADD COLUMN later int NOT NULL DEFAULT {number}")
            assert isinstance((await ledger.submit(ask(Release, "a", ref=ref))).answer, Granted)
    await check_invariants(database)


async def test_a_database_is_made_once(empty_database: MakeDatabase) -> None:
    server = await empty_database()
    name = f"{server.name}_made"
    try:
        await create_database(server.owner_dsn, name)
        await create_database(server.owner_dsn, name)
        made = await fetch(server, "SELECT count(*) FROM pg_database WHERE datname = $1", name)
    finally:
        await fetch(server, f"DROP DATABASE IF EXISTS {name}")
    assert made == [(1,)]

"""The ledger when Postgres, or the way to it, breaks: what is unknown is said to be unknown, and asking again tells."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from services.standalone.embedded import PostgresServer, start_postgres, wheel_postgres_binaries
from shared.ledger.connections import UnavailableError
from shared.ledger.ledger import Ledger, OutcomeUnknownError
from shared.ledger.migrate import create_database, migrate
from shared.licensing.model import Activate, Extend, Granted, Release
from tests.builders import add_license, ask, fetch, open_ledger, open_role, owner
from tests.conftest import Database
from tests.invariants import check_invariants
from tests.proxy import Cut, Proxy, open_proxy

SEATS = "SELECT seats_used, version FROM license"
SESSIONS = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'test'"


@asynccontextmanager
async def proxied_ledger(database: Database) -> AsyncIterator[tuple[Ledger, Proxy]]:
    async with open_proxy(database.owner_dsn) as proxy, open_role(proxy.dsn) as pool:
        ledger = Ledger(pool, after_commit=lambda changes: asyncio.sleep(0))
        yield ledger, proxy
        await ledger.close()


# --- The connection breaks at COMMIT --------------------------------------------------------------------------


@pytest.mark.parametrize(("cut", "seats"), [(Cut.BEFORE_COMMIT, 0), (Cut.AFTER_COMMIT, 1)])
async def test_a_connection_that_breaks_at_commit_leaves_the_outcome_unknown_and_a_repetition_tells(
    database: Database, cut: Cut, seats: int
) -> None:
    ref = await add_license(database)
    async with proxied_ledger(database) as (ledger, proxy):
        proxy.cut = cut
        with pytest.raises(OutcomeUnknownError):
            await ledger.submit(ask(Activate, ref=ref, nonce=b"first".ljust(16)))
        assert await fetch(database, SEATS) == [(seats, 1 + seats)]
        again = await ledger.submit(ask(Activate, ref=ref, nonce=b"first".ljust(16)))
    assert again.answer == Granted(changed=seats == 0, device=again.answer.device)
    assert await fetch(database, SEATS) == [(1, 2)]
    await check_invariants(database)


async def test_all_of_a_batch_whose_commit_is_unknown_are_told_so(database: Database) -> None:
    ref = await add_license(database)
    async with proxied_ledger(database) as (ledger, proxy):
        proxy.cut = Cut.AFTER_COMMIT
        answers = await asyncio.gather(
            *(ledger.submit(ask(Activate, name, ref=ref)) for name in "ab"), return_exceptions=True
        )
        assert [type(answer) for answer in answers] == [OutcomeUnknownError] * 2
        assert await fetch(database, SEATS) == [(2, 3)]


async def test_a_session_that_is_ended_before_its_commit_changed_nothing(database: Database) -> None:
    ref = await add_license(database)
    async with owner(database) as holder, open_ledger(database) as ledger:
        async with holder.transaction():
            await holder.execute("SELECT 1 FROM license FOR UPDATE")
            waiting = asyncio.create_task(ledger.submit(ask(Activate, ref=ref)))
            await until_waiting(database)
            await fetch(database, f"SELECT pg_terminate_backend(pid) {SESSIONS}")
            with pytest.raises(UnavailableError):
                await waiting
        assert await fetch(database, SEATS) == [(0, 1)]
        assert isinstance((await ledger.submit(ask(Activate, ref=ref))).answer, Granted)


async def until_waiting(database: Database) -> None:
    """Return once a session of a ledger waits for a lock."""
    async with asyncio.timeout(5):
        while not await fetch(database, f"SELECT 1 {SESSIONS} AND wait_event_type = 'Lock'"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


# --- Postgres goes away ---------------------------------------------------------------------------------------


class Outage:
    """A server of the test's own and a loop beside it: servers are started and stopped while no loop runs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runner = asyncio.Runner()
        self.run = self._runner.run
        self.start()

    def start(self) -> None:
        self.server: PostgresServer = start_postgres(
            self._folder, binaries=wheel_postgres_binaries(), options={"fsync": "off"}, sync_new_cluster=False
        )

    def close(self) -> None:
        self._runner.close()
        self.server.stop()

    async def database(self) -> Database:
        await create_database(self.server.dsn("postgres"), "seatkeeper")
        await migrate(self.server.dsn("seatkeeper"))
        return Database(name="seatkeeper", owner_dsn=self.server.dsn("seatkeeper"), server=self.server)


@contextmanager
def outage(folder: Path) -> Iterator[Outage]:
    own = Outage(folder)
    try:
        yield own
    finally:
        own.close()


def test_without_postgres_commands_fail_at_once_and_work_again_after_its_return(tmp_path: Path) -> None:
    with outage(tmp_path) as own:
        database = own.run(own.database())
        ref = own.run(add_license(database))
        opened = open_ledger(database)
        ledger = own.run(opened.__aenter__())
        assert isinstance(own.run(ledger.submit(ask(Activate, "a", ref=ref))).answer, Granted)
        own.server.stop()
        for command in (ask(Extend, "a", ref=ref), ask(Release, "a", ref=ref)):
            with pytest.raises(UnavailableError):
                own.run(asyncio.wait_for(ledger.submit(command), timeout=1))
        own.start()
        assert isinstance(own.run(ledger.submit(ask(Activate, "b", ref=ref))).answer, Granted)
        assert own.run(fetch(database, SEATS)) == [(2, 3)]
        own.run(check_invariants(database))
        own.run(opened.__aexit__(None, None, None))


# --- The way in is not there ----------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["role", "database"])
async def test_a_role_or_database_that_is_not_there_is_an_outage_and_not_an_error_of_the_command(
    database: Database, wrong: str
) -> None:
    role, name = ("nobody", database.name) if wrong == "role" else ("seatkeeper_activation", "nothing")
    async with open_role(database.server.dsn(name, role)) as pool:
        ledger = Ledger(pool, after_commit=lambda changes: asyncio.sleep(0))
        with pytest.raises(UnavailableError):
            await ledger.submit(ask(Activate))
        await ledger.close()

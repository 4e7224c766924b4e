"""Postgres that fails over to a synchronous standby: nothing that was acknowledged is lost, and the pool finds its way.

A database of its own on two hosts, which change their parts from test to test.
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import cast
from uuid import UUID

import asyncpg
import pytest
from msgspec.structs import replace

from services.standalone.app import open_standalone
from services.standalone.embedded import RedisServer
from shared.ledger.ledger import OutcomeUnknownError
from shared.ledger.migrate import migrate
from shared.licensing.facts import Fact
from shared.runtime.sections import Postgres
from tests.builders import open_role
from tests.conftest import Database
from tests.faults.postgres_standby import StandbyPostgres, family, running_standby
from tests.invariants import check_invariants
from tests.platform import Grant, Platform, eventually, open_api, served, settings_for
from tests.servers import PostgresSource

pytest_plugins = ["tests.platform"]

DATABASE = "failover"
ROLE = "seatkeeper_standalone"
RECOVERS_S = 8.0


@pytest.fixture(scope="module")
def module_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandbyPostgres]:
    with running_standby(tmp_path_factory.mktemp("postgres")) as postgres:
        postgres.ask(f"CREATE DATABASE {DATABASE}")
        yield postgres


@pytest.fixture
def postgres(module_postgres: StandbyPostgres) -> StandbyPostgres:
    """With its standby in step."""
    if module_postgres.standby is None:
        module_postgres.rejoin()
    return module_postgres


@pytest.fixture
async def database(postgres: StandbyPostgres) -> Database:
    database = Database(name=DATABASE, owner_dsn=postgres.dsn(DATABASE), server=cast(PostgresSource, postgres))
    await migrate(database.owner_dsn)
    return database


@pytest.fixture
async def platform(database: Database, module_redis: RedisServer) -> AsyncIterator[Platform]:
    settings = settings_for(database.dsn_for(ROLE), module_redis.url)
    quick = Postgres(dsn=settings.postgres.dsn, pool_size=6, statement_timeout_s=1)
    async with (
        open_standalone(replace(settings, postgres=quick), receivers=[_hear]) as standalone,
        served(standalone.app) as url,
        open_api(url) as api,
    ):
        yield Platform(api=api, standalone=standalone, database=database, facts=[], redis=module_redis)


async def _hear(_: Sequence[Fact]) -> None:
    """Facts are nothing to these tests."""


class Newcomers:
    """Devices that activate all the while, each until it is answered."""

    def __init__(self, platform: Platform, grants: list[Grant]) -> None:
        self._platform = platform
        self._grants = grants
        self.acknowledged: dict[UUID, float] = {}
        self.refused: set[int] = set()

    async def come(self, name: str) -> None:
        for number in range(100_000):
            grant, fingerprint = self._grants[number % len(self._grants)], f"{name}-{number}"
            while (answer := await self._platform.api.activate(grant.key, fingerprint)).status not in (200, 201):
                self.refused.add(answer.status)
                await asyncio.sleep(0.05)
            self.acknowledged[UUID(answer.json["deviceId"])] = time.monotonic()

    def since(self, moment: float) -> list[float]:
        return sorted(at - moment for at in self.acknowledged.values() if at > moment)


@asynccontextmanager
async def newcomers(platform: Platform) -> AsyncIterator[Newcomers]:
    vendor = await platform.vendor()
    load = Newcomers(platform, [await vendor.license(seats=100_000) for _ in range(4)])
    tasks = [asyncio.create_task(load.come(f"device-{number}")) for number in range(8)]
    try:
        await asyncio.sleep(1.0)
        yield load
    finally:
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(outcome, asyncio.CancelledError), outcome


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hanging"])
async def test_no_acknowledged_activation_is_lost_with_the_primary(
    platform: Platform, postgres: StandbyPostgres, how: signal.Signals
) -> None:
    epoch = platform.resources.clock.epoch
    async with newcomers(platform) as load:
        await asyncio.to_thread(postgres.promote, kill=how)
        promoted = time.monotonic()
        await eventually(_answered(load, promoted), within_s=RECOVERS_S)
        print(f"{how.name}: {len(load.acknowledged)} acknowledged, again after {load.since(promoted)[0]:.2f} s")
        await eventually(_raised(platform, epoch))  # or what Redis reflects of the old primary would still count
    assert load.refused <= {503}
    held = {row["id"] for row in await platform.rows("SELECT id FROM device WHERE state = 'active'")}
    assert load.acknowledged.keys() <= held
    await check_invariants(platform.database)


def _raised(platform: Platform, epoch: int) -> Callable[[], Awaitable[bool]]:
    async def holds() -> bool:
        return platform.resources.clock.epoch > epoch

    return holds


def _answered(load: Newcomers, moment: float) -> Callable[[], Awaitable[bool]]:
    async def holds() -> bool:
        return len(load.since(moment)) > 8

    return holds


async def test_a_commit_that_the_standby_lacks_is_never_acknowledged(
    platform: Platform, postgres: StandbyPostgres
) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license(seats=3)
    policies = await platform.rows("SELECT id FROM policy")
    assert postgres.standby is not None
    pids = family(postgres.standby.pid)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        answer = await platform.api.activate(grant.key)
        assert (answer.status, time.monotonic() - began > 2) == (503, True)
        assert await platform.rows("SELECT 1 FROM device WHERE license_id = $1", grant.id) == []
        with pytest.raises(OutcomeUnknownError):
            await vendor.license()  # a transaction of the catalogue
        await asyncio.sleep(0.5)
        assert await platform.rows("SELECT id FROM policy") == policies
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)

    async def acknowledged() -> bool:
        return (await platform.api.activate(grant.key)).status in (200, 201)

    await eventually(acknowledged)
    assert await platform.seats_used(grant) == 1


async def test_connections_to_a_server_that_may_not_be_written_are_dropped(
    database: Database, postgres: StandbyPostgres
) -> None:
    async with open_role(database.dsn_for(ROLE), size=1) as pool:
        before = await pool.fetchval("SELECT pg_backend_pid()")
        assert await pool.fetchval("SELECT pg_backend_pid()") == before
        _set_read_only(postgres, "on")
        try:
            with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
                await pool.execute("UPDATE projection SET epoch = epoch")
            with pytest.raises(asyncpg.TargetServerAttributeNotMatched):
                await pool.fetchval("SELECT 1")
        finally:
            _set_read_only(postgres, "off")
        assert await pool.fetchval("SELECT pg_backend_pid()") != before


def _set_read_only(postgres: StandbyPostgres, value: str) -> None:
    postgres.ask(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
    postgres.ask("SELECT pg_reload_conf()")
    time.sleep(0.2)

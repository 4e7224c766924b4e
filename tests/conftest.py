"""Fixtures that give tests real servers and a database of their own.

Rules:
- A server starts when the first test asks for it; tests in `unit/` ask for none.
- Servers start in plain (not async) session fixtures, hence from the main thread with no event loop running.
- Each test has a database to itself: `database` is a copy of one that was migrated once, `empty_database` makes
  bare ones. `redis_url` is emptied before each test.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import asyncpg
import pytest

from services.standalone.embedded import EmbeddedServerError
from tests import servers

_Server = TypeVar("_Server")


@dataclass(frozen=True, kw_only=True)
class Database:
    """`owner_dsn` is a superuser's; `dsn_for` gives the same database as another role sees it."""

    name: str
    owner_dsn: str
    server: servers.PostgresSource

    def dsn_for(self, role: str) -> str:
        return self.server.dsn(self.name, role)


async def prepare_template(owner_dsn: str) -> None:
    """Bring the template to the current schema; what is done here, every test's `database` finds done."""
    from shared.ledger.migrate import migrate

    await migrate(owner_dsn)


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.PostgresSource]:
    server = _started(lambda: servers.start_postgres(tmp_path_factory.mktemp("postgres")))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.RedisSource]:
    server = _started(lambda: servers.start_redis(tmp_path_factory.mktemp("redis")))
    yield server
    server.stop()


@pytest.fixture
def redis_url(redis_server: servers.RedisSource) -> str:
    servers.empty_redis(redis_server)
    return redis_server.url


@pytest.fixture(scope="session")
async def template_database(postgres_server: servers.PostgresSource) -> AsyncIterator[str]:
    name = f"template_{secrets.token_hex(6)}"
    await _administer(postgres_server, f"CREATE DATABASE {name}")
    await prepare_template(postgres_server.dsn(name))
    yield name
    await _administer(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def database(postgres_server: servers.PostgresSource, template_database: str) -> AsyncIterator[Database]:
    made = await _create(postgres_server, f"TEMPLATE {template_database}")
    yield made
    await _drop(made)


@pytest.fixture
async def empty_database(
    postgres_server: servers.PostgresSource,
) -> AsyncIterator[Callable[[], Awaitable[Database]]]:
    """A function that makes a bare database each time it is called."""
    made: list[Database] = []

    async def make() -> Database:
        made.append(await _create(postgres_server, ""))
        return made[-1]

    yield make
    for each in made:
        await _drop(each)


def _started(start: Callable[[], _Server]) -> _Server:
    try:
        return start()
    except (servers.ServersMissingError, EmbeddedServerError) as error:
        pytest.exit(str(error), returncode=3)


async def _create(server: servers.PostgresSource, source: str) -> Database:
    name = f"test_{secrets.token_hex(6)}"
    await _administer(server, f"CREATE DATABASE {name} {source}")
    return Database(name=name, owner_dsn=server.dsn(name), server=server)


async def _drop(database: Database) -> None:
    await _administer(database.server, f"DROP DATABASE IF EXISTS {database.name} WITH (FORCE)")


async def _administer(server: servers.PostgresSource, statement: str) -> None:
    connection = await asyncpg.connect(server.dsn("postgres"))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()

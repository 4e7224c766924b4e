"""The standalone's own Postgres and Valkey in one data folder, migrated, and the settings that reach them.

Its master secret is made once and rests beside the data, readable by its owner alone.
"""

import base64
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from services.standalone.embedded import (
    PostgresServer,
    RedisServer,
    start_postgres,
    start_redis,
    wheel_postgres_binaries,
    wheel_valkey_binary,
)
from services.standalone.settings import Settings
from shared.ledger.migrate import create_database, migrate
from shared.runtime.sections import Log, Postgres, Redis, Secret, Secrets, Server, Testing

DATABASE = "seatkeeper"
ROLE = "seatkeeper_standalone"


class Servers(msgspec.Struct, frozen=True, kw_only=True):
    """Running servers. `owner_dsn` is the schema owner's; services get `settings`, whose role has no DDL."""

    postgres: PostgresServer
    redis: RedisServer
    folder: Path

    @property
    def owner_dsn(self) -> str:
        return self.postgres.dsn(DATABASE)

    def settings(
        self, *, port: int, host: str = "127.0.0.1", log: Log | None = None, testing: Testing | None = None
    ) -> Settings:
        """With `testing`, such as a clock that may jump, the environment is `development`."""
        return Settings(
            environment="development" if testing else "production",
            testing=testing or Testing(),
            server=Server(host=host, port=port, health_host=host, health_port=0),
            postgres=Postgres(dsn=Secret(self.postgres.dsn(DATABASE, ROLE))),
            redis=Redis(url=Secret(self.redis.url)),
            secrets=Secrets(keys={"k1": _master_secret(self.folder / "master.secret")}, current="k1"),
            log=log or Log(),
        )


@contextmanager
def running_servers(folder: Path) -> Iterator[Servers]:
    """Start both servers on the data of `folder`. From the main thread, before any event loop."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (
        start_postgres(folder, binaries=wheel_postgres_binaries()) as postgres,
        start_redis(folder, binary=wheel_valkey_binary()) as redis,
    ):
        yield Servers(postgres=postgres, redis=redis, folder=folder)


async def prepare(servers: Servers) -> None:
    """Make the database and bring its schema up to date, as its owner."""
    await create_database(servers.postgres.dsn("postgres"), DATABASE)
    await migrate(servers.owner_dsn)


def _master_secret(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        text = base64.b64encode(secrets.token_bytes(32)).decode()
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        return text

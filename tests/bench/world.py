"""Where a benchmark takes place: servers of its own, services and the yardstick as processes of their own.

Postgres with fsync, Valkey and, where facts are to flow, RabbitMQ, all on this machine together with the load. Limits
are the default ones unless a part says otherwise. Everything ends with the context, and with this process.
"""

import asyncio
import base64
import os
import re
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import msgspec
from redis import Redis as RedisClient

from services.standalone.embedded import (
    PostgresServer,
    RedisServer,
    die_with_parent,
    free_port,
    start_postgres,
    start_redis,
    wheel_postgres_binaries,
    wheel_valkey_binary,
)
from services.standalone.rabbitmq import RabbitServer, start_rabbitmq
from shared.facts import topology
from shared.ledger.migrate import create_database, migrate
from shared.runtime.resources import Settings
from shared.runtime.sections import Postgres, RabbitMQ, Redis, Secret, Secrets
from tests import rabbitmq
from tests.bench.cost import cpu_s, family

DATABASE = "seatkeeper_bench"
POSTGRES = {
    "shared_buffers": "512MB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "30min",
    "max_connections": "200",
    "shared_preload_libraries": "pg_stat_statements",
}

_STATEMENTS = """
SELECT coalesce(sum(s.calls), 0)::bigint
FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid AND d.datname = current_database()
"""
_UNSENT = "SELECT count(*) FROM outbox WHERE sent_at IS NULL"
_DRAIN_S = 30.0
_RELOAD_S = 0.3


class Service(NamedTuple):
    """A service as a process of its own."""

    url: str
    pid: int


class RoundTrips(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked of each server: statements of Postgres, reads of Redis from its sockets."""

    postgres: int
    redis: int


class World:
    def __init__(
        self, stack: ExitStack, postgres: PostgresServer, redis: RedisServer, broker: RabbitServer | None
    ) -> None:
        self._stack = stack
        self._master = base64.b64encode(secrets.token_bytes(32)).decode()
        self.postgres = postgres
        self.redis = redis
        self.broker = broker

    def settings(self, role: str) -> Settings:
        return Settings(
            postgres=Postgres(dsn=Secret(self.postgres.dsn(DATABASE, role))),
            redis=Redis(url=Secret(self.redis.url)),
            rabbitmq=RabbitMQ(url=Secret(self.broker.url)) if self.broker is not None else None,
            secrets=Secrets(keys={"k1": self._master}, current="k1"),
        )

    def start(self, name: str, **more: str) -> Service:
        """Start `services.NAME`; `more` are further variables."""
        return start_service(self._stack, name, self.settings(f"seatkeeper_{name}"), **more)

    def start_bare(self) -> Service:
        """Start the yardstick."""
        port = free_port()
        process = _spawn(self._stack, ["-m", "tests.bench.bare", str(port)], {})
        _await(f"http://127.0.0.1:{port}/", any_status=True)
        return Service(url=f"http://127.0.0.1:{port}", pid=process.pid)

    def costs(self, services: Sequence[Service]) -> dict[str, float]:
        """Processor seconds so far, by who took them."""
        pids = {"service": [one.pid for one in services], "Postgres": family(self.postgres.pid)}
        pids["Redis"] = [self.redis.pid]
        if self.broker is not None:
            pids["RabbitMQ"] = self.broker.pids
        return {name: cpu_s(some) for name, some in pids.items()}

    def round_trips(self, work: Callable[[], None]) -> RoundTrips:
        """What the work asks of the servers; slower than it would be uncounted."""
        self.execute("ALTER SYSTEM SET pg_stat_statements.track = 'top'")
        self._reload()
        with RedisClient.from_url(self.redis.url) as client:
            statements, reads = self.execute(_STATEMENTS), client.info("stats")["total_reads_processed"]
            work()
            redis = client.info("stats")["total_reads_processed"] - reads
        postgres = self.execute(_STATEMENTS) - statements
        self.execute("ALTER SYSTEM SET pg_stat_statements.track = 'none'")
        self._reload()
        return RoundTrips(postgres=postgres, redis=redis)

    def await_facts_sent(self) -> None:
        """Wait until nothing is left to relay, so that no run pays for the one before."""
        deadline = time.monotonic() + _DRAIN_S
        while self.broker is not None and self.execute(_UNSENT):
            if time.monotonic() > deadline:
                raise TimeoutError(f"facts were still unsent after {_DRAIN_S:.0f} s")
            time.sleep(0.05)

    def execute(self, statement: str, *arguments: object) -> Any:
        """Run one statement as the owner; returns its first value, if any."""
        return asyncio.run(self._execute(statement, *arguments))

    def _reload(self) -> None:
        self.execute("SELECT pg_reload_conf()")
        time.sleep(_RELOAD_S)

    async def _execute(self, statement: str, *arguments: object) -> Any:
        connection = await asyncpg.connect(self.postgres.dsn(DATABASE))
        try:
            return await connection.fetchval(statement, *arguments)
        finally:
            await connection.close()


@contextmanager
def running_world(folder: Path, *, facts: bool = False) -> Iterator[World]:
    """Start the servers in `folder`, with an empty database; with `facts`, RabbitMQ too. From the main thread."""
    with ExitStack() as stack:
        postgres = stack.enter_context(
            start_postgres(folder, binaries=wheel_postgres_binaries(), options=POSTGRES, sync_new_cluster=False)
        )
        redis = stack.enter_context(start_redis(folder, binary=wheel_valkey_binary()))
        broker = None
        if facts:
            broker = stack.enter_context(start_rabbitmq(folder, programs=rabbitmq.found_or_installed()))
            asyncio.run(topology.declare(broker.url))
        asyncio.run(_make_database(postgres))
        yield World(stack, postgres, redis, broker)


async def _make_database(postgres: PostgresServer) -> None:
    await create_database(postgres.dsn("postgres"), DATABASE)
    await migrate(postgres.dsn(DATABASE))
    connection = await asyncpg.connect(postgres.dsn(DATABASE))
    try:
        await connection.execute("CREATE EXTENSION pg_stat_statements")
        await connection.execute("ALTER SYSTEM SET pg_stat_statements.track = 'none'")
        await connection.execute("SELECT pg_reload_conf()")
    finally:
        await connection.close()


def versions() -> dict[str, str]:
    """Of the servers that take part."""
    programs = {"Postgres": wheel_postgres_binaries() / "postgres", "Valkey": wheel_valkey_binary()}
    return {name: _version(program) for name, program in programs.items()}


def _version(program: Path) -> str:
    text = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"(?:v=|\) )([\d.]+)", text)
    return found[1] if found else text.strip()


def start_service(stack: ExitStack, name: str, settings: Settings, **more: str) -> Service:
    """Start `services.NAME`, which ends with the stack; returns once it is ready. `more` are further variables."""
    port, health = free_port(), free_port()
    process = _spawn(stack, ["-m", f"services.{name}"], environment(settings, port, health) | more)
    _await(f"http://127.0.0.1:{health}/readyz")
    return Service(url=f"http://127.0.0.1:{port}", pid=process.pid)


def environment(settings: Settings, port: int, health: int) -> dict[str, str]:
    """What a service's process reads its settings from."""
    broker = settings.rabbitmq
    return {
        "SEATKEEPER_SERVER_HOST": "127.0.0.1",
        "SEATKEEPER_SERVER_PORT": str(port),
        "SEATKEEPER_SERVER_HEALTH_PORT": str(health),
        "SEATKEEPER_POSTGRES_DSN": settings.postgres.dsn.reveal(),
        "SEATKEEPER_REDIS_URL": settings.redis.url.reveal(),
        "SEATKEEPER_RABBITMQ_URL": broker.url.reveal() if broker is not None else "",
        "SEATKEEPER_SECRETS_KEYS": ",".join(f"{id}:{key}" for id, key in settings.secrets.keys.items()),
        "SEATKEEPER_SECRETS_CURRENT": settings.secrets.current,
        "SEATKEEPER_LOG_LEVEL": "warning",
    }


def _spawn(stack: ExitStack, arguments: list[str], environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    parent = os.getpid()
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        preexec_fn=lambda: die_with_parent(signal.SIGTERM, parent),
    )
    stack.callback(process.wait, 30)
    stack.callback(process.terminate)
    return process


def _await(url: str, *, any_status: bool = False, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except urllib.error.HTTPError:
            if any_status:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise TimeoutError(f"{url} does not answer")

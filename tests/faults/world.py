"""The world that breaks: every service as processes of its own, on real servers, with a way between any two parts.

    clients ── clients/activation-0 ──> activation-0 ── activation-0/postgres ──> Postgres
                                                     ── activation-0/redis ─────> Redis
                                                     ── activation-0/broker ────> whichever node lets it in

The second of each service, where there are two, is on a host of its own, whose clock can be set; so can Postgres's.
"""

import asyncio
import base64
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

import msgspec

from services.standalone.embedded import SUPERUSER, free_port
from services.standalone.settings import Settings
from shared.facts import topology
from shared.ledger.migrate import create_database, migrate
from shared.runtime.sections import Log, RabbitMQ, Reconciliation, Secret, Secrets, Server, Testing
from shared.runtime.sections import Postgres as PostgresSection
from shared.runtime.sections import Redis as RedisSection
from tests.faults.clocks import HostClock, find_library
from tests.faults.disk import Disk
from tests.faults.instances import Instance
from tests.faults.postgres_standby import StandbyPostgres, running_standby
from tests.faults.rabbit_cluster import Cluster, assemble, running_cluster
from tests.faults.redis_cluster import ClusterRedis
from tests.faults.redis_cluster import running_cluster as running_redis_cluster
from tests.faults.redis_sentinel import SentinelRedis, running_sentinel
from tests.faults.stores import DATABASE, Postgres, Redis
from tests.faults.way import HOST
from tests.faults.ways import Ways

REPLICAS = {"activation": 2, "heartbeat": 2, "reaper": 2, "portal": 1}
ROUND_S = 1.0


class WorldError(Exception):
    """The world could not start. The text says what kept it from that."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What a world is made of. `clocks` puts the services of one host under a clock that can be set."""

    seed: int = 0
    brokers: Literal[0, 1, 3] = 3
    redis: Literal["single", "sentinel", "cluster"] = "single"
    postgres: Literal["single", "standby"] = "single"
    clocks: bool = True
    postgres_clock: bool = False


class World:
    """`folder` holds the history, the logs and, while it lives, the servers' data."""

    def __init__(self, folder: Path, options: Options) -> None:
        self.folder = folder
        self.options = options
        self.master_secret = base64.b64encode(os.urandom(32)).decode()
        self.instances: dict[str, Instance] = {}
        self._public: dict[str, str] = {}
        self.ways: Ways
        self.postgres: Postgres | StandbyPostgres
        self.redis: Redis | SentinelRedis | ClusterRedis
        self.cluster: Cluster | None = None
        self.started_at = 0.0
        self.host_clock: HostClock | None = None
        self.postgres_clock: HostClock | None = None

    @property
    def owner_dsn(self) -> str:
        return self.dsn(SUPERUSER)

    def dsn(self, role: str) -> str:
        return self.postgres.dsn(DATABASE, role)

    @property
    def redis_url(self) -> str:
        return self.redis.url

    @property
    def amqp_urls(self) -> list[str]:
        return [] if self.cluster is None else self.cluster.urls

    @property
    def addresses(self) -> dict[str, list[str]]:
        """Of the services that clients ask, as they reach them."""
        return {
            name: [one for at, one in self._public.items() if at.startswith(name)]
            for name in ("activation", "heartbeat")
        }

    def of(self, service: str) -> list[Instance]:
        return [one for one in self.instances.values() if one.service == service]

    def settings_for(self, role: str) -> Settings:
        """For use cases that are called in this process, straight to the servers."""
        return Settings(
            environment="development",
            testing=Testing(shortest_floating_lease_s=1),
            server=Server(host=HOST, port=0, health_host=HOST, health_port=0),
            postgres=PostgresSection(dsn=Secret(self.dsn(role)), pool_size=4),
            redis=RedisSection(url=Secret(self.redis_url)),
            rabbitmq=RabbitMQ(url=Secret(self.amqp_urls[0])) if self.cluster else None,
            secrets=Secrets(keys={"k1": self.master_secret}, current="k1"),
            log=Log(level="error"),
            reconciliation=Reconciliation(licenses_per_s=0),
        )

    def furnish(self) -> None:
        """Open the ways and start every service."""
        logs = self.folder / "logs"
        logs.mkdir()
        for service, replicas in REPLICAS.items():
            ports = [free_port() for _ in range(replicas)]
            for number in range(replicas):
                name = f"{service}-{number}"
                self._open_to_clients(name, [*ports[number:], *ports[:number]])
                sections = self._sections(service, name, ports[number])
                clock = self.host_clock if number else None
                surroundings = clock.surroundings if clock else {}
                self.instances[name] = Instance(logs, service, number, sections, surroundings)
        for instance in self.instances.values():
            instance.start()

    def _open_to_clients(self, name: str, ports: Sequence[int]) -> None:
        """Whoever comes while this replica takes nobody is let to another one."""
        port = self.ways.open(f"clients/{name}", *[(HOST, port) for port in ports], in_order=True)
        self._public[name] = f"http://{HOST}:{port}"

    def _sections(self, service: str, name: str, port: int) -> dict[str, dict[str, Any]]:
        sections: dict[str, dict[str, Any]] = {
            "server": {
                "host": HOST,
                "port": port,
                "health_host": HOST,
                "health_port": free_port(),
                "drain_s": 3,
            },
            "postgres": {
                "dsn": self._postgres_way(name, f"seatkeeper_{service}"),
                "pool_size": 6,
                "statement_timeout_s": 3,
            },
            "redis": {"url": self._redis_way(name)},
            "secrets": {"keys": {"k1": self.master_secret}, "current": "k1"},
            "log": {"level": "info", "format": "json"},
            "testing": {"shortest_floating_lease_s": 1},
        }
        if self.cluster is not None:
            sections["rabbitmq"] = {"url": self._broker_way(name)}
        if service == "reaper":
            sections["reaper"] = {"interval_s": 1}
        if service == "heartbeat":
            sections["reconciliation"] = {"licenses_per_s": 5000, "round_s": ROUND_S}
        return sections

    def _postgres_way(self, name: str, role: str) -> str:
        """None leads to a pair of servers: whoever asks has to find the one that may be written."""
        if isinstance(self.postgres, StandbyPostgres):
            return self.dsn(role)
        return self.postgres.dsn(DATABASE, role, self.ways.open(f"{name}/postgres", (HOST, self.postgres.port)))

    def _redis_way(self, name: str) -> str:
        """None leads to several servers: they tell each other's addresses."""
        if not isinstance(self.redis, Redis):
            return self.redis.url
        return self.redis.url_at(self.ways.open(f"{name}/redis", (HOST, self.redis.port)))

    def _broker_way(self, name: str) -> str:
        """A load balancer before the nodes."""
        parts = [urlsplit(url) for url in self.amqp_urls]
        port = self.ways.open(f"{name}/broker", *[(HOST, int(part.port or 0)) for part in parts])
        return urlunsplit(parts[0]._replace(netloc=f"{parts[0].netloc.rpartition('@')[0]}@{HOST}:{port}"))

    async def ready(self) -> None:
        for instance in self.instances.values():
            await instance.ready()

    def kill(self) -> None:
        for instance in self.instances.values():
            instance.kill()


@contextmanager
def running_world(folder: Path, options: Options) -> Iterator[World]:
    """Start everything; from the main thread, before any event loop. `folder` is made. Raises `WorldError`."""
    with ExitStack() as stack:
        try:
            world = _started(folder, options, stack)
        except Exception as error:
            raise WorldError(f"the world could not start: {error}") from error
        yield world


def _started(folder: Path, options: Options, stack: ExitStack) -> World:
    folder.mkdir(parents=True)
    world = World(folder, options)
    data = folder / "servers"
    world.ways = stack.enter_context(Ways())
    library = find_library()
    if library is not None and options.clocks:
        world.host_clock = HostClock(folder / "host.clock", library)
    if library is not None and options.postgres_clock:
        world.postgres_clock = HostClock(folder / "postgres.clock", library, exact=True)
    brokers = running_cluster(data, world.ways, options.brokers) if options.brokers else nullcontext(None)
    world.cluster = stack.enter_context(brokers)
    world.postgres = stack.enter_context(_running_postgres(data, world))
    world.redis = stack.enter_context(_running_redis(data, options))
    asyncio.run(_prepare(world))
    if isinstance(world.redis, Redis):
        world.redis.keep_copy()
    world.furnish()
    stack.callback(world.kill)
    asyncio.run(world.ready())
    world.started_at = time.monotonic()
    return world


@contextmanager
def _running_postgres(data: Path, world: World) -> Iterator[Postgres | StandbyPostgres]:
    if world.options.postgres == "standby":
        with running_standby(data / "postgres") as pair:
            yield pair
    else:
        clock = world.postgres_clock
        with Postgres(Disk(data / "postgres-disk"), clock.surroundings if clock else {}) as server:
            yield server


@contextmanager
def _running_redis(data: Path, options: Options) -> Iterator[Redis | SentinelRedis | ClusterRedis]:
    if options.redis == "sentinel":
        with running_sentinel(data / "redis-sentinel") as watched:
            yield watched
    elif options.redis == "cluster":
        with running_redis_cluster(data / "redis-cluster") as cluster:
            yield cluster
    else:
        with Redis(data / "redis") as server:
            yield server


async def _prepare(world: World) -> None:
    await create_database(world.postgres.dsn("postgres", SUPERUSER), DATABASE)
    await migrate(world.owner_dsn)
    if world.cluster is not None:
        await assemble(world.cluster)
        await topology.declare(world.cluster.urls[0])

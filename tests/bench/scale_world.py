"""What the part `scale` measures, at one size: the services as processes on a copy of the data, and their cost."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
from redis import Redis as RedisClient

from services.standalone.embedded import RedisServer, start_redis, wheel_valkey_binary
from shared.ledger.rows import columns, device_of, license_of
from shared.ledger.statements import load as load_statements
from shared.licensing.model import Change, Device
from shared.runtime.resources import Resources, Settings, open_resources
from shared.runtime.sections import Postgres, Redis, Secret
from shared.seats.keys import WATERMARK
from tests.bench.cost import cpu_s, family
from tests.bench.data import SECRETS, Data, running_data
from tests.bench.world import Service, start_service

_READ = load_statements("reading.sql")
_DEVICES = """
SELECT d.* FROM unnest($1::uuid[], $2::uuid[]) AS wanted (account_id, id)
JOIN device d ON d.account_id = wanted.account_id AND d.license_id = wanted.id
WHERE d.state = 'active'
"""
_PAGE, _AT_ONCE = 500, 3
_TRANSACTIONS = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
_STATISTICS_S = 1.5
_EPOCH_READ_S = 2.5
# It goes on at its own pace, whoever asks: its cost is no request's.
_NO_RECONCILER = {"SEATKEEPER_RECONCILIATION_LICENSES_PER_S": "0"}


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """Processor seconds so far."""

    services: float
    postgres: float
    redis: float

    @property
    def total(self) -> float:
        return self.services + self.postgres + self.redis

    def since(self, before: "Cost") -> "Cost":
        return Cost(
            services=self.services - before.services,
            postgres=self.postgres - before.postgres,
            redis=self.redis - before.redis,
        )

    def over(self, count: float) -> "Cost":
        """The part of each of `count`."""
        return Cost(services=self.services / count, postgres=self.postgres / count, redis=self.redis / count)


class World(msgspec.Struct, frozen=True, kw_only=True):
    data: Data
    redis: RedisServer
    activation: Service
    heartbeat: Service

    def settings(self, role: str) -> Settings:
        return _settings(self.data, self.redis, role)

    def cost(self) -> Cost:
        return Cost(
            services=cpu_s([self.activation.pid, self.heartbeat.pid]),
            postgres=cpu_s(family(self.data.server.pid)),
            redis=cpu_s([self.redis.pid]),
        )

    def redis_memory(self) -> int:
        with RedisClient.from_url(self.redis.url) as client:
            return int(client.info("memory")["used_memory"])

    def versions(self) -> dict[str, object]:
        with RedisClient.from_url(self.redis.url) as client:
            info = client.info("server")
        redis = f"{info.get('server_name', 'redis')} {info.get('valkey_version', info['redis_version'])}"
        return {"postgres": asyncio.run(self.execute("SHOW server_version")), "redis": redis}

    def empty_redis(self) -> None:
        with RedisClient.from_url(self.redis.url) as client:
            client.flushall()

    def transactions(self) -> int:
        """How many Postgres has ended; it counts them with a second's delay."""
        time.sleep(_STATISTICS_S)
        return int(asyncio.run(self.execute(_TRANSACTIONS)))

    async def run(self, script: str) -> None:
        """Run statements as the owner."""
        connection = await asyncpg.connect(self.data.owner_dsn)
        try:
            await connection.execute(script)
        finally:
            await connection.close()

    async def execute(self, statement: str, *arguments: object) -> Any:
        """Run one statement as the owner; returns its first value, if any."""
        connection = await asyncpg.connect(self.data.owner_dsn)
        try:
            return await connection.fetchval(statement, *arguments)
        finally:
            await connection.close()


@contextmanager
def running_world(devices: int, folder: Path) -> Iterator[World]:
    """Start everything for one size, with Redis in `folder`. From the main thread."""
    with ExitStack() as stack:
        data = stack.enter_context(running_data(devices))
        redis = stack.enter_context(start_redis(folder, binary=wheel_valkey_binary()))
        yield World(
            data=data,
            redis=redis,
            activation=start_service(stack, "activation", _settings(data, redis, "seatkeeper_activation")),
            heartbeat=start_service(
                stack, "heartbeat", _settings(data, redis, "seatkeeper_heartbeat"), **_NO_RECONCILER
            ),
        )


async def fill_redis(world: World) -> None:
    """Push every license as it is in Postgres, while the services keep the watermark."""
    numbers = range(world.data.licenses)
    pages = iter([numbers[first : first + _PAGE] for first in range(0, len(numbers), _PAGE)])
    settings = _settings(world.data, world.redis, "seatkeeper_heartbeat", timeout_ms=10_000)
    async with open_resources(settings, application="bench") as resources:
        await asyncio.gather(*(_push_pages(world, resources, pages) for _ in range(_AT_ONCE)))


async def _push_pages(world: World, resources: Resources, pages: Iterator[Sequence[int]]) -> None:
    connection = await asyncpg.connect(world.data.owner_dsn)
    try:
        for numbers in pages:
            refs = columns((world.data.ref(number) for number in numbers), 2)
            devices: dict[UUID, list[Device]] = {}
            for row in await connection.fetch(_DEVICES, *refs):
                device = device_of(row)
                devices.setdefault(device.license_id, []).append(device)
            licenses = [license_of(row) for row in await connection.fetch(_READ["read_licenses"], *refs)]
            await resources.projection.push(
                [
                    Change(license=one, base_version=one.version, devices=tuple(devices.get(one.id, ())))
                    for one in licenses
                ]
            )
    finally:
        await connection.close()


def await_watermark(worlds: Sequence[World]) -> None:
    """Wait until the services of each have noticed that Redis was emptied, and begun anew."""
    for world in worlds:
        with RedisClient.from_url(world.redis.url) as client:
            while not client.exists(WATERMARK):
                time.sleep(0.05)
    time.sleep(_EPOCH_READ_S)


def _settings(data: Data, redis: RedisServer, role: str, *, timeout_ms: int = 250) -> Settings:
    return Settings(
        postgres=Postgres(dsn=Secret(data.dsn(role))),
        redis=Redis(url=Secret(redis.url), timeout_ms=timeout_ms),
        secrets=SECRETS,
    )

"""`make bench-first`: a hundred thousand devices are heard for the first time after Redis was emptied.

Each is heard once through the heartbeat service, by gateways that send a thousand at a time: with Redis empty, with
what that filled in, and once more while Redis is emptied in the middle. What it costs Postgres is counted in
transactions.
"""

import argparse
import asyncio
import base64
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from uuid import UUID

import aiohttp
import asyncpg
import msgspec
import redis
from rich.console import Console
from rich.table import Table

from services.portal.accounts import Accounts, terms
from services.standalone.embedded import EmbeddedServerError
from shared.ledger.migrate import create_database, migrate
from shared.licensing.model import Kind
from shared.runtime.resources import Settings, open_resources
from shared.runtime.sections import Postgres, Redis, Secret, Secrets
from shared.signing.device_token import DeviceClaims
from tests import servers
from tests.bench.world import start_service

DATABASE = "seatkeeper_bench_first"
SEATS_EACH = 4
AT_ONCE = 1000
IN_FLIGHT = 4
TRIES = 20
STATISTICS_S = 1.5
"""So long Postgres may keep its counts to itself."""

_TRANSACTIONS = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
_LICENSES = """
INSERT INTO license (account_id, id, policy_id, status, seats_limit, seats_allowed, seats_used, version, key_prefix)
SELECT p.account_id, gen_random_uuid(), p.id, 'active', $1, $1, $1, 1, '' FROM policy p, generate_series(1, $2)
"""
_DEVICES = """
INSERT INTO device (account_id, license_id, id, fingerprint, state, generation, activated_at, last_contact_at,
                    lease_expires_at)
SELECT l.account_id, l.id, gen_random_uuid(), n::text, 'active', 1, now(), now(), now() + interval '90 days'
FROM license l, generate_series(1, $1) n
RETURNING account_id, license_id, id
"""


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """How heartbeats were answered, by their statuses, and how long all of them took."""

    statuses: dict[int, int]
    seconds: float


async def hear(url: str, tokens: Sequence[str]) -> Heard:
    """A heartbeat of each, a thousand to a call, those that were put off again until they are answered."""
    statuses: Counter[int] = Counter()
    calls = [tokens[at : at + AT_ONCE] for at in range(0, len(tokens), AT_ONCE)]
    begun = time.monotonic()
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as tasks:
        for number in range(IN_FLIGHT):
            tasks.create_task(_gateway(session, url, calls[number::IN_FLIGHT], statuses))
    return Heard(statuses=dict(statuses), seconds=time.monotonic() - begun)


async def _gateway(
    session: aiohttp.ClientSession, url: str, calls: Sequence[Sequence[str]], statuses: Counter[int]
) -> None:
    for tokens in calls:
        for _ in range(TRIES):
            body = {"heartbeats": [{"deviceToken": token} for token in tokens]}
            async with session.post(f"{url}/v1/heartbeats", json=body) as response:
                answers = (await response.json())["answers"]
            statuses.update(answer["status"] for answer in answers)
            tokens = [token for token, answer in zip(tokens, answers, strict=True) if answer["status"] == 503]
            if not tokens:
                break
            await asyncio.sleep(0.2)


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.bench.first_heartbeats", description=__doc__)
    parser.add_argument("--devices", type=int, default=100_000)
    devices = parser.parse_args().devices
    try:
        with tempfile.TemporaryDirectory(prefix="seatkeeper-bench-") as folder, ExitStack() as stack:
            return _measure(stack, Path(folder), devices)
    except (EmbeddedServerError, servers.ServersMissingError) as error:
        print(f"seatkeeper: {error}", file=sys.stderr)
        return 1


def _measure(stack: ExitStack, folder: Path, devices: int) -> int:
    postgres, cache = servers.start_postgres(folder), servers.start_redis(folder)
    stack.callback(postgres.stop)
    stack.callback(cache.stop)
    settings = Settings(
        postgres=Postgres(dsn=Secret(postgres.dsn(DATABASE, "seatkeeper_standalone"))),
        redis=Redis(url=Secret(cache.url)),
        secrets=Secrets(keys={"k1": base64.b64encode(secrets.token_bytes(32)).decode()}, current="k1"),
    )
    tokens = asyncio.run(_make_devices(postgres, settings, devices))
    url = start_service(stack, "heartbeat", settings).url
    table = Table("Redis", "seconds", "heartbeats/s", "statuses", "transactions", "heartbeats a transaction")
    for state, empty_after_s in (("emptied before", 0.0), ("filled", None), ("emptied meanwhile", 0.5)):
        before = asyncio.run(_transactions(postgres))
        heard = asyncio.run(_hear_and_empty(url, tokens, cache.url, empty_after_s))
        spent = asyncio.run(_transactions(postgres)) - before
        rate, statuses = devices / heard.seconds, ", ".join(f"{n:,} × {s}" for s, n in sorted(heard.statuses.items()))
        each = f"{devices / max(spent, 1):,.0f}"
        table.add_row(state, f"{heard.seconds:.1f}", f"{rate:,.0f}", statuses, f"{spent:,}", each)
    Console(width=120).print(table)
    return 0


async def _make_devices(postgres: servers.PostgresSource, settings: Settings, count: int) -> list[str]:
    """Devices that were heard a moment ago, and their tokens."""
    await create_database(postgres.dsn("postgres"), DATABASE)
    await migrate(postgres.dsn(DATABASE))
    async with open_resources(settings, application="bench") as resources:
        accounts = Accounts(resources.catalog, resources.secrets, resources.management_tokens)
        account = (await accounts.create("Bench")).id
        await accounts.add_product(account, code="bench", name="Bench")
        granted = terms(kind=Kind.NODE_LOCKED, product_code="bench")
        await accounts.add_policy(account, name="bench", seats=SEATS_EACH, terms=granted)
        connection = await asyncpg.connect(postgres.dsn(DATABASE))
        await connection.execute(_LICENSES, SEATS_EACH, count // SEATS_EACH)
        rows = await connection.fetch(_DEVICES, SEATS_EACH)
        await connection.execute("VACUUM ANALYZE")
        await connection.close()
        return [resources.device_tokens.issue(_claims(row)) for row in rows]


def _claims(row: asyncpg.Record) -> DeviceClaims:
    account, license, device = (UUID(int=id.int) for id in row)
    return DeviceClaims(account=account, license=license, device=device, generation=1)


async def _hear_and_empty(url: str, tokens: Sequence[str], redis_url: str, after_s: float | None) -> Heard:
    async with asyncio.TaskGroup() as tasks:
        if after_s == 0:
            _empty(redis_url)
        elif after_s is not None:
            tasks.create_task(_empty_later(redis_url, after_s))
        return await hear(url, tokens)


async def _empty_later(redis_url: str, after_s: float) -> None:
    await asyncio.sleep(after_s)
    _empty(redis_url)


def _empty(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()


async def _transactions(postgres: servers.PostgresSource) -> int:
    await asyncio.sleep(STATISTICS_S)
    connection = await asyncpg.connect(postgres.dsn(DATABASE))
    try:
        return int(await connection.fetchval(_TRANSACTIONS))
    finally:
        await connection.close()


if __name__ == "__main__":
    sys.exit(main())

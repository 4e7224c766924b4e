"""`make bench-data`: a million active devices in 250,000 licenses, and ten thousand in 2,500, kept under build/.

- Each size has a data folder, and a Postgres, of its own. It is made once, and anew when what it was made by changed:
  the migrations, this file, the server. Whoever measures works on a copy of the database (see `running_data`).
- Rows are as the ledger writes them, trail included. The outbox alone is empty: all was told, and cleared, long ago.
- Ids, keys and fingerprints derive from numbers, so that a load knows them without asking. Of a license's devices the
  first was heard within the last hour, the others 20 hours ago: their next contact has to be committed.
- A copy is in the state between two checkpoints: every page was written to the log since the last one, as happens to
  all pages of a database that its whole fleet uses, large or small; and the tables that requests look at are in memory.
- Time stands still while the folder rests: in a copy, the ledger's clock goes on from when the data were made.
"""

import argparse
import asyncio
import base64
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from services.portal.accounts import Accounts, terms
from services.standalone.embedded import (
    EmbeddedServerError,
    PostgresServer,
    start_postgres,
    wheel_postgres_binaries,
)
from shared.ledger.catalog import Catalog
from shared.ledger.connections import open_pool
from shared.ledger.migrate import create_database, migrate, migrations
from shared.ledger.reader import LicenseRef
from shared.licensing.license_key import format_key, read_key
from shared.licensing.model import Kind
from shared.runtime.sections import Secrets
from shared.signing.license_key_hash import LicenseKeyHasher
from shared.signing.secrets import MasterSecrets, Purpose

SIZES = (10_000, 1_000_000)
DEVICES_EACH = 4
FRESH_EACH = 1
DUE_EACH = DEVICES_EACH - FRESH_EACH
SEATS = 20
BYTES_EACH = 5000
"""Of disk for a device: the data and a copy of them, each with its log."""
ACCOUNTS = 20
PRODUCT = "bench"

BUILD = Path("build/bench-data")
DATABASE, COPY = "seatkeeper_bench", "seatkeeper_bench_copy"
SECRETS = Secrets(keys={"k1": base64.b64encode(sha256(b"seatkeeper bench").digest()).decode()}, current="k1")
POSTGRES = {"shared_buffers": "1GB", "max_wal_size": "16GB", "checkpoint_timeout": "30min", "max_connections": "100"}

_FIRST_MS = 1_704_067_200_000
_BETWEEN_MS = 10_000
_LOADING = {**POSTGRES, "synchronous_commit": "off", "autovacuum": "off"}

# Foreign keys would be checked row by row for what a test compares once.
_PREPARE = """
SET session_replication_role = replica;
SELECT setseed(0.5);
SELECT audit_add_month((date_trunc('month', ledger_clock() AT TIME ZONE 'UTC') - make_interval(months => ago))
                       AT TIME ZONE 'UTC')
FROM generate_series(1, 12) AS ago;
INSERT INTO audit (account_id, license_id, version, at, actor, event, seats_limit, seats_used, seats_allowed)
SELECT account_id, id, 1, created_at, 'admin', 'license.created', seats_limit, 0, seats_allowed FROM license;
"""

# $1 account, $2 the device's number within its license, $3 the hours since it was heard.
_DEVICES = """
WITH put AS (
    INSERT INTO device (account_id, license_id, id, fingerprint, name, state, generation, activated_at,
                        last_contact_at, lease_expires_at)
    SELECT l.account_id, l.id,
           encode(set_byte(set_byte(derived.id, 6, get_byte(derived.id, 6) & 15 | 128),
                           8, get_byte(derived.id, 8) & 63 | 128), 'hex')::uuid,
           own.fingerprint, 'Device ' || $2, 'active', 1, l.created_at + make_interval(days => 20 + 60 * $2),
           own.heard_at, own.heard_at + interval '90 days'
    FROM license l
    CROSS JOIN LATERAL (
        SELECT encode(sha256(uuid_send(l.id) || set_byte('\\x00', 0, $2)), 'hex') AS fingerprint,
               ledger_clock() - make_interval(hours => $3) - random() * interval '1 hour' AS heard_at
    ) AS own
    CROSS JOIN LATERAL (
        SELECT substr(sha256(uuid_send(l.id) || convert_to(own.fingerprint, 'UTF8')), 1, 16) AS id
    ) AS derived
    WHERE l.account_id = $1
    RETURNING account_id, license_id, id, activated_at
)
INSERT INTO audit (account_id, license_id, version, at, actor, event, device_id, generation, seats_limit, seats_used,
                   seats_allowed)
SELECT p.account_id, p.license_id, $2 + 2, p.activated_at, 'device', 'device.activated', p.id, 1, l.seats_limit,
       $2 + 1, l.seats_allowed
FROM put p
JOIN license l ON l.account_id = p.account_id AND l.id = p.license_id
"""

_SET_CLOCK = """
CREATE OR REPLACE FUNCTION ledger_clock() RETURNS timestamptz LANGUAGE sql VOLATILE AS
'SELECT clock_timestamp() - interval ''{seconds:.3f} seconds'''
"""

_WARM = """
CREATE EXTENSION pg_prewarm;
SELECT pg_prewarm(one.indexrelid) FROM pg_index one
WHERE one.indrelid IN ('license'::regclass, 'license_key'::regclass, 'device'::regclass);
SELECT pg_prewarm('license'), pg_prewarm('license_key'), pg_prewarm('device');
"""


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """What a folder holds: `stamp` says what it was made by."""

    stamp: str
    devices: int
    made_at: datetime
    seconds: float


class Data(msgspec.Struct, frozen=True, kw_only=True):
    """A running copy. `accounts` are in the order in which licenses are dealt to them."""

    devices: int
    server: PostgresServer
    accounts: list[UUID]
    now: datetime

    @property
    def licenses(self) -> int:
        return self.devices // DEVICES_EACH

    def ref(self, number: int) -> LicenseRef:
        return self.accounts[number % len(self.accounts)], license_id(number)

    def dsn(self, role: str) -> str:
        return self.server.dsn(COPY, role)

    @property
    def owner_dsn(self) -> str:
        return self.server.dsn(COPY)


def license_id(number: int) -> UUID:
    """The license of that number. Of version 7, as new licenses' ids are: they rise with the number."""
    random = bytearray(sha256(b"license %d" % number).digest()[:10])
    random[0] = (random[0] & 0x0F) | 0x70
    random[2] = (random[2] & 0x3F) | 0x80
    return UUID(bytes=(_FIRST_MS + number * _BETWEEN_MS).to_bytes(6, "big") + bytes(random))


def license_key(number: int) -> str:
    return format_key(sha256(b"license key %d" % number).digest())


def fingerprint(license: UUID, number: int) -> str:
    """The fingerprint of a license's device of that number."""
    return sha256(license.bytes + bytes([number])).hexdigest()


@contextmanager
def running_data(devices: int) -> Iterator[Data]:
    """A copy of the data to work on, with fsync; made first where there are none. From the main thread."""
    folder, made = ensure(devices)
    with _server(folder, POSTGRES) as server:
        accounts, now = asyncio.run(_copy(server, made.made_at))
        try:
            yield Data(devices=devices, server=server, accounts=accounts, now=now)
        finally:
            asyncio.run(_administer(server, f"DROP DATABASE {COPY} WITH (FORCE)"))


def ensure(devices: int) -> tuple[Path, Made]:
    """The folder of the data, made where it is missing or was made by something else than this."""
    folder = BUILD / str(devices)
    made, stamp = _made(folder), _stamp(devices)
    if made is not None and made.stamp == stamp:
        return folder, made
    shutil.rmtree(folder, ignore_errors=True)
    _require_room(devices)
    began = time.monotonic()
    with _server(folder, _LOADING) as server:
        asyncio.run(create_database(server.dsn("postgres"), DATABASE))
        now = asyncio.run(load(server.dsn(DATABASE), devices, _progress(devices)))
    made = Made(stamp=stamp, devices=devices, made_at=now, seconds=time.monotonic() - began)
    (folder / "made.json").write_bytes(msgspec.json.encode(made))
    return folder, made


async def load(dsn: str, devices: int, progress: Callable[[float], None]) -> datetime:
    """Fill an empty database; returns the time of its clock. `progress` is told the part done."""
    await migrate(dsn)
    policies = await _add_policies(dsn)
    connection = await asyncpg.connect(dsn)
    try:
        now: datetime = await connection.fetchval("SELECT ledger_clock()")
        await _add_licenses(connection, policies, devices // DEVICES_EACH, now)
        progress(0.1)
        await connection.execute(_PREPARE)
        steps = [(account, number) for number in range(DEVICES_EACH) for account in policies]
        for done, (account, number) in enumerate(steps):
            await connection.execute(_DEVICES, account, number, 0 if number < FRESH_EACH else 20)
            progress(0.2 + 0.6 * done / len(steps))
        await connection.execute("VACUUM (FREEZE, ANALYZE)")
        progress(0.9)
        await connection.execute("CHECKPOINT")
        progress(1)
    finally:
        await connection.close()
    return now


async def _add_policies(dsn: str) -> dict[UUID, UUID]:
    """The accounts, in order, each with its policy."""
    pool = await open_pool(dsn, application="bench", size=1, statement_timeout_s=10)
    try:
        secrets = MasterSecrets(SECRETS.decoded(), SECRETS.current)
        accounts = Accounts(Catalog(pool), secrets, LicenseKeyHasher(secrets, Purpose.MANAGEMENT_TOKEN))
        ids = sorted([(await accounts.create(f"Vendor {number}")).id for number in range(ACCOUNTS)])
        rules = terms(kind=Kind.NODE_LOCKED, product_code=PRODUCT)
        policies = {}
        for id in ids:
            await accounts.add_product(id, code=PRODUCT, name="Bench")
            policies[id] = await accounts.add_policy(id, name=PRODUCT, seats=SEATS, terms=rules)
        return policies
    finally:
        await pool.close()


async def _add_licenses(connection: asyncpg.Connection, policies: dict[UUID, UUID], count: int, now: datetime) -> None:
    """Licenses that were made over a month, a year ago, and their keys."""
    hasher = LicenseKeyHasher(MasterSecrets(SECRETS.decoded(), SECRETS.current))
    accounts = list(policies)
    licenses: list[tuple[Any, ...]] = []
    keys: list[tuple[Any, ...]] = []
    for number in range(count):
        id, account, key = license_id(number), accounts[number % ACCOUNTS], read_key(license_key(number))
        assert not isinstance(key, str)
        made_at = datetime.fromtimestamp(now.timestamp() - 86_400 * (330 - 30 * number / count), UTC)
        counts = (SEATS, SEATS, DEVICES_EACH, DEVICES_EACH + 1)
        licenses.append((account, id, policies[account], "active", *counts, key.prefix, f"Customer {number}", made_at))
        digest = hasher.digest(key.canonical)
        keys.append((digest.digest, digest.key_id, account, id, made_at))
    names = "account_id id policy_id status seats_limit seats_allowed seats_used version key_prefix customer created_at"
    await connection.copy_records_to_table("license", records=licenses, columns=names.split())
    names = "digest key_id account_id license_id created_at"
    await connection.copy_records_to_table("license_key", records=keys, columns=names.split())


def _server(folder: Path, options: dict[str, str]) -> PostgresServer:
    return start_postgres(folder, binaries=wheel_postgres_binaries(), options=options, sync_new_cluster=False)


async def _copy(server: PostgresServer, made_at: datetime) -> tuple[list[UUID], datetime]:
    await _administer(server, f"DROP DATABASE IF EXISTS {COPY} WITH (FORCE)")
    await _administer(server, f"CREATE DATABASE {COPY} TEMPLATE {DATABASE} STRATEGY WAL_LOG")
    connection = await asyncpg.connect(server.dsn(COPY))
    try:
        rested_s = (datetime.now(UTC) - made_at).total_seconds()
        await connection.execute(_SET_CLOCK.format(seconds=rested_s))
        await connection.execute(_WARM)
        rows = await connection.fetch("SELECT id FROM account ORDER BY id")
        return [UUID(int=row["id"].int) for row in rows], await connection.fetchval("SELECT ledger_clock()")
    finally:
        await connection.close()


async def _administer(server: PostgresServer, statement: str) -> None:
    connection = await asyncpg.connect(server.dsn("postgres"))
    try:
        await connection.execute(statement, timeout=600)
    finally:
        await connection.close()


def _made(folder: Path) -> Made | None:
    try:
        return msgspec.json.decode((folder / "made.json").read_bytes(), type=Made)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def _require_room(devices: int) -> None:
    BUILD.mkdir(parents=True, exist_ok=True)
    wanted, free = devices * BYTES_EACH, shutil.disk_usage(BUILD).free
    if wanted > free:
        raise EmbeddedServerError(
            f"{devices:,} devices need {wanted / 2**30:,.0f} GiB of disk, and {BUILD} has {free / 2**30:,.0f}"
        )


def _stamp(devices: int) -> str:
    version = subprocess.run(
        [str(wheel_postgres_binaries() / "postgres"), "--version"], capture_output=True, text=True, check=True
    )
    parts = [json.dumps(migrations()), Path(__file__).read_text(encoding="utf-8"), version.stdout, str(devices)]
    return sha256("\0".join(parts).encode()).hexdigest()


def _progress(devices: int) -> Callable[[float], None]:
    def show(part: float) -> None:
        end = "\n" if part == 1 else "\r"
        print(f"{devices:,} devices: {part:4.0%}", end=end, file=sys.stderr)

    return show if sys.stderr.isatty() else lambda _part: None


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.bench.data", description=__doc__)
    parser.add_argument("--devices", type=int, action="append", help="instead of ten thousand and a million")
    for devices in parser.parse_args().devices or SIZES:
        try:
            folder, made = ensure(devices)
        except EmbeddedServerError as error:
            print(f"seatkeeper: {error}", file=sys.stderr)
            return 1
        print(f"{devices:,} devices in {devices // DEVICES_EACH:,} licenses: {folder}, made in {made.seconds:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Forward-only migrations: `migrations/NNNN_name.sql`, each in a transaction of its own, in the order of names.

A step of its own, run as the schema's owner; services only check that it was done. An advisory lock lets one run
at a time while others wait. A file that was applied may never change: its checksum is kept and compared.
"""

from hashlib import sha256
from importlib.resources import files

import asyncpg

from shared.ledger.trail import prepare

_LOCK = 0x5EA7_6EE9

_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migration (
    name text PRIMARY KEY,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


class MigrationError(Exception):
    """The database's history is not a beginning of this code's migrations."""


def migrations() -> dict[str, str]:
    """Every migration's SQL by name, in order."""
    found = [entry for entry in (files("shared.ledger") / "migrations").iterdir() if entry.name.endswith(".sql")]
    return {
        entry.name.removesuffix(".sql"): entry.read_text(encoding="utf-8")
        for entry in sorted(found, key=lambda entry: entry.name)
    }


async def migrate(dsn: str) -> list[str]:
    """Bring the schema up to date as its owner; returns the names of what was applied now.

    Makes the trail's next months too, so that even an installation without a reaper has them at each release.
    """
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        await connection.execute(_TABLE)
        applied = await _apply(connection, migrations(), await _history(connection))
        if await connection.fetchval("SELECT to_regproc('audit_prepare')"):
            await prepare(connection)
        return applied
    finally:
        await connection.close()


async def pending(pool: asyncpg.Pool) -> list[str]:
    """The migrations that this code needs and the database lacks."""
    try:
        rows = await pool.fetch("SELECT name FROM schema_migration")
    except asyncpg.UndefinedTableError:
        return list(migrations())
    done = {row["name"] for row in rows}
    return [name for name in migrations() if name not in done]


async def _history(connection: asyncpg.Connection) -> dict[str, str]:
    rows = await connection.fetch("SELECT name, checksum FROM schema_migration ORDER BY name")
    return {row["name"]: row["checksum"] for row in rows}


async def _apply(connection: asyncpg.Connection, known: dict[str, str], history: dict[str, str]) -> list[str]:
    for name, checksum in history.items():
        if name in known and _checksum(known[name]) != checksum:
            raise MigrationError(f"migration {name} was applied in another wording: restore the file, add a new one")
    fresh = [name for name in known if name not in history]
    if fresh and history and fresh[0] < max(history):
        raise MigrationError(
            f"migration {fresh[0]} comes before {max(history)}, which was applied: give it a later number"
        )
    for name in fresh:
        async with connection.transaction():
            await connection.execute("SET LOCAL lock_timeout = '10s'")
            await connection.execute(known[name])
            await connection.execute(
                "INSERT INTO schema_migration (name, checksum) VALUES ($1, $2)", name, _checksum(known[name])
            )
    return fresh


def _checksum(text: str) -> str:
    return sha256(text.encode()).hexdigest()


async def create_database(server_dsn: str, name: str) -> None:
    """Make the database if it is not there. `server_dsn` is the owner's, to any other database of the server."""
    connection = await asyncpg.connect(server_dsn, timeout=10)
    try:
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
            await connection.execute(f'CREATE DATABASE "{name}"')
    finally:
        await connection.close()

"""The plans of the hot statements: every table is looked up by a condition on an index, whatever it held when planned.

A plan is kept for as long as the statistics are, so one that reads a whole table of two rows still does so when the
table has grown to a million.
"""

import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from shared.ledger.connections import Connection
from shared.ledger.statements import load
from shared.licensing.model import Activate
from tests.builders import ACTIVATION, add_license, add_licenses, add_token, ask, open_ledger, open_role, owner
from tests.conftest import Database

HOT = [("ledger.sql", name) for name in load("ledger.sql")]
HOT += [("reading.sql", name) for name in ("find_licenses", "read_licenses", "list_devices")]
HOT += [("reaping.sql", name) for name in ("expired_devices", "expiring_devices", "ended_leases", "active_devices")]
HOT += [("outbox.sql", "mark"), ("outbox.sql", "clear")]

MANY_DEVICES = """
INSERT INTO device (account_id, license_id, id, fingerprint, state, generation, lease_expires_at)
SELECT l.account_id, l.id, gen_random_uuid(), 'device-' || n, 'active', 1, now() + n * interval '1 minute'
FROM license l, generate_series(1, 500) n;
ANALYZE;
"""


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[Connection]:
    async with open_role(database.dsn_for(ACTIVATION)) as pool, pool.acquire() as connection:
        yield connection


async def test_empty_tables_are_looked_up_by_index(connection: Connection) -> None:
    assert await whole_scans(connection) == {}


async def test_tables_that_were_tiny_at_their_last_analysis_are_looked_up_by_index(
    database: Database, connection: Connection
) -> None:
    ref = await add_license(database)
    await add_token(database, ref)
    async with open_ledger(database) as ledger, owner(database) as analyst:
        for fingerprint in "ab":
            await ledger.submit(ask(Activate, fingerprint, ref=ref))
            await analyst.execute("VACUUM ANALYZE")
            assert await whole_scans(connection) == {}


async def test_tables_with_fifty_thousand_devices_are_looked_up_by_index(
    database: Database, connection: Connection
) -> None:
    await add_licenses(database, 100)
    async with owner(database) as filler:
        await filler.execute(MANY_DEVICES)
    assert await whole_scans(connection) == {}


async def whole_scans(connection: Connection) -> dict[str, list[str]]:
    """The tables that a hot statement would read without a condition on an index, by statement."""
    found = {}
    for file, name in HOT:
        plan = await generic_plan(connection, load(file)[name])
        found[name] = [node["Relation Name"] for node in nodes(plan) if is_whole_scan(node, name)]
    return {name: tables for name, tables in found.items() if tables}


async def generic_plan(connection: Connection, statement: str) -> Any:
    """The plan that every execution uses, whatever its arguments are."""
    arguments = ", ".join(["NULL"] * max(int(number) for number in re.findall(r"\$(\d+)", statement)))
    await connection.execute(f"PREPARE hot AS {statement}")
    text = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE hot ({arguments})")
    await connection.execute("DEALLOCATE hot")
    return json.loads(text)[0]["Plan"]


def nodes(plan: Any) -> Iterator[Any]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def is_whole_scan(node: Any, statement: str) -> bool:
    """Whether a table is read without a condition on an index; for a single license the reaper's index is none."""
    if not node["Node Type"].endswith("Scan") or "Relation Name" not in node:
        return False
    useless = "device_lease" if statement == "read" else ""
    return not any("Index Cond" in inner and inner["Index Name"] != useless for inner in nodes(node))

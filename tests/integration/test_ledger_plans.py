"""The plans of the hot statements: tables are looked up by a condition on a whole key, whatever they held when planned.

A plan is kept for as long as the statistics are, so one that reads a whole table of two rows, or all devices of an
account that has two, still does so when these have grown to a million.
"""

import asyncio
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
HOT += [
    ("reading.sql", name)
    for name in (
        "find_licenses",
        "read_licenses",
        "read_seats",
        "read_holders",
        "no_longer_full",
        "list_devices",
        "account_keys",
    )
]
HOT += [
    ("reaping.sql", name)
    for name in ("expired_devices", "expiring_devices", "floating_devices", "ended_leases", "active_devices")
]
HOT += [("outbox.sql", "mark"), ("outbox.sql", "clear")]

KEYS: dict[str, list[set[str]]] = {
    "license": [{"account_id", "id"}],
    "policy": [{"account_id", "id"}],
    "product": [{"account_id", "id"}],
    "activation_token": [{"account_id", "license_id", "id"}],
    "device": [{"account_id", "license_id", "id"}, {"account_id", "license_id", "lease_expires_at"}],
}
"""What a row is found by, or the first of a license's rows; a condition on less reads as much as there is."""

PAGES = {
    ("list_devices", "device"): {"account_id", "license_id", "id"},
    ("active_devices", "license"): {"account_id"},
    ("expired_devices", "device"): {"lease_expires_at"},
    ("expiring_devices", "device"): {"lease_expires_at"},
    ("floating_devices", "device"): {"lease_expires_at"},
    ("ended_leases", "device"): {"lease_expires_at"},
}
"""What goes through a table by an index, and what this is in the order of."""

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


async def test_new_tables_are_looked_up_by_index(connection: Connection) -> None:
    assert await short_of_a_key(connection) == {}


async def test_tables_that_were_tiny_at_their_last_analysis_are_looked_up_by_index(
    database: Database, connection: Connection
) -> None:
    async with owner(database) as analyst:
        await analyst.execute("VACUUM ANALYZE")
        assert await short_of_a_key(connection) == {}
        ref = await add_license(database)
        await add_token(database, ref)
        async with open_ledger(database) as ledger:
            for fingerprint in "ab":
                await ledger.submit(ask(Activate, fingerprint, ref=ref))
                await analyst.execute("VACUUM ANALYZE")
                assert await short_of_a_key(connection) == {}


@pytest.mark.parametrize("analyzed", [True, False])
async def test_tables_with_fifty_thousand_devices_are_looked_up_by_index(
    database: Database, connection: Connection, analyzed: bool
) -> None:
    await add_licenses(database, 100)
    async with owner(database) as filler:
        await filler.execute("VACUUM ANALYZE")
        await filler.execute(MANY_DEVICES if analyzed else MANY_DEVICES.replace("ANALYZE;", ""))
    assert await short_of_a_key(connection) == {}


async def test_a_license_of_an_account_with_many_costs_what_the_first_did(database: Database) -> None:
    """As the statements were planned when the tables were new, in the very session that goes on with them."""
    refs = await add_licenses(database, 200)
    async with open_ledger(database) as ledger, owner(database) as observer:
        await asyncio.gather(*(ledger.submit(ask(Activate, ref=ref)) for ref in refs[:100]))
        before = await entries_read(observer)
        await asyncio.gather(*(ledger.submit(ask(Activate, ref=ref)) for ref in refs[100:]))
        assert await entries_read(observer) - before < 2000


async def short_of_a_key(connection: Connection) -> dict[str, list[str]]:
    """The tables that a hot statement would look up by less than a key, by statement."""
    found = {}
    for file, name in HOT:
        plan = await generic_plan(connection, load(file)[name])
        found[name] = [node["Relation Name"] for node in nodes(plan) if is_short_of_a_key(node, name)]
    return {name: tables for name, tables in found.items() if tables}


async def generic_plan(connection: Connection, statement: str) -> Any:
    """The plan that every execution uses, whatever its arguments are."""
    arguments = ", ".join(["NULL"] * max(int(number) for number in re.findall(r"\$(\d+)", statement)))
    await connection.execute(f"PREPARE hot AS {statement}")
    text = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE hot ({arguments})")
    await connection.execute("DEALLOCATE hot")
    return json.loads(text)[0]["Plan"]


async def entries_read(observer: Connection) -> int:
    """How many entries of indexes were read so far, as far as sessions have told."""
    await observer.execute("SELECT pg_stat_force_next_flush()")
    return int(await observer.fetchval("SELECT sum(idx_tup_read) FROM pg_stat_user_indexes"))


def nodes(plan: Any) -> Iterator[Any]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def is_short_of_a_key(node: Any, statement: str) -> bool:
    """Whether a table is read without a condition on an index, or with one that more than the wanted rows meet."""
    if not node["Node Type"].endswith("Scan") or "Relation Name" not in node:
        return False
    conditions = [inner["Index Cond"] for inner in nodes(node) if "Index Cond" in inner]
    table = re.sub(r"_\d{4}_\d\d$|_default$", "", node["Relation Name"])
    keys = [PAGES[statement, table]] if (statement, table) in PAGES else KEYS.get(table, [set()])
    return not any(key <= set(re.findall(r"\w+", condition)) for condition in conditions for key in keys)


def is_whole_scan(node: Any, statement: str) -> bool:
    """Whether a table is read without a condition on an index; for a single license the reaper's index is none."""
    if not node["Node Type"].endswith("Scan") or "Relation Name" not in node:
        return False
    useless = "device_lease" if statement == "read" else ""
    return not any("Index Cond" in inner and inner["Index Name"] != useless for inner in nodes(node))

"""The yardstick of activations does in each transaction what the ledger does: device, license, audit and outbox."""

import asyncio
from pathlib import Path

import asyncpg

from shared.runtime.resources import open_resources
from tests.bench.licenses import Grant, make_licenses
from tests.bench.pgbench import DATABASE, Yardstick
from tests.bench.world import World, running_world

LICENSES = 5

_COUNTS = """
SELECT sum(l.seats_used) AS seats, sum(l.version - $1) AS versions,
       (SELECT count(*) FROM device WHERE state = 'active' AND generation = 1 AND lease_expires_at > now()) AS devices,
       (SELECT count(*) FROM audit WHERE event = 'device.activated') AS audited,
       (SELECT count(*) FROM outbox WHERE fact LIKE '%device.activated%') AS facts,
       (SELECT count(DISTINCT license_id) FROM device) AS licenses
FROM license l WHERE l.id <> $2
"""


def test_each_transaction_takes_a_seat_as_the_ledger_does(tmp_path: Path) -> None:
    with running_world(tmp_path) as world:
        grant = asyncio.run(_grant(world))
        sample = Yardstick(world, tmp_path, grant, licenses=LICENSES).take(1, clients=2)
        counts = asyncio.run(_counts(world, grant))
    done = counts["devices"] - 1  # the one that was written down
    assert done > 10
    assert done == counts["seats"] == counts["versions"]
    assert (counts["audited"], counts["facts"]) == (done + 1, done + 1)
    assert counts["licenses"] == LICENSES + 1
    assert sample.rate > 0


async def _grant(world: World) -> Grant:
    async with open_resources(world.settings("seatkeeper_standalone"), application="bench") as resources:
        (grant,) = await make_licenses(resources, 1)
    return grant


async def _counts(world: World, grant: Grant) -> asyncpg.Record:
    connection = await asyncpg.connect(world.postgres.dsn(DATABASE))
    try:
        return await connection.fetchrow(_COUNTS, 1, grant.id)
    finally:
        await connection.close()

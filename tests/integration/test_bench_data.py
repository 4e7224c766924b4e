"""The data that the part `scale` measures on are what the services would have made, and its requests are granted."""

import asyncio
import json
from collections.abc import Iterator
from uuid import UUID

import asyncpg
import pytest

from shared.licensing.model import device_id
from tests.bench import data
from tests.bench.data import COPY, DEVICES_EACH, DUE_EACH, FRESH_EACH, fingerprint
from tests.bench.exact import send_each
from tests.bench.scale_load import Load
from tests.bench.scale_paths import COLD, WARM, Kind, Site, measure_first
from tests.bench.scale_reaper import end_leases, run_pass
from tests.bench.scale_world import Cost, World, fill_redis, running_world
from tests.conftest import Database
from tests.invariants import check_invariants

DEVICES = 400
LICENSES = DEVICES // DEVICES_EACH

_TOLD_LONG_AGO = """
INSERT INTO outbox (account_id, license_id, version, fact, created_at, sent_at)
SELECT account_id, license_id, version, '{}', at, at FROM audit
"""
_TOUCH_EVERY_PAGE = "EXPLAIN (ANALYZE, WAL, FORMAT JSON) UPDATE device SET name = name"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "BUILD", tmp_path_factory.mktemp("data"))
        with running_world(DEVICES, tmp_path_factory.mktemp("redis")) as running:
            yield running


@pytest.fixture(scope="module")
def load(world: World) -> Load:
    return Load(world.data)


def rows(world: World, statement: str) -> list[asyncpg.Record]:
    async def read() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(world.data.owner_dsn)
        try:
            return list(await connection.fetch(statement))
        finally:
            await connection.close()

    return asyncio.run(read())


def count(world: World, what: str) -> int:
    return int(rows(world, f"SELECT count(*) FROM {what}")[0][0])


def test_no_page_is_logged_whole_by_its_first_change(world: World) -> None:
    [plan] = json.loads(rows(world, _TOUCH_EVERY_PAGE)[0][0])

    assert plan["Plan"]["WAL Records"] >= DEVICES
    assert plan["Plan"].get("WAL FPI", 0) == 0


def test_ids_and_fingerprints_derive_as_the_services_derive_them(world: World) -> None:
    found = rows(world, "SELECT account_id, license_id, id, fingerprint FROM device")

    expected = {
        (*ref, device_id(ref[1], text), text)
        for ref in map(world.data.ref, range(LICENSES))
        for text in (fingerprint(ref[1], number) for number in range(DEVICES_EACH))
    }
    assert {(*(UUID(int=one.int) for one in tuple(row)[:3]), row["fingerprint"]) for row in found} == expected
    assert len(expected) == DEVICES


def test_every_invariant_holds_once_the_outbox_is_told(world: World) -> None:
    rows(world, _TOLD_LONG_AGO)

    asyncio.run(check_invariants(Database(name=COPY, owner_dsn=world.data.owner_dsn, server=world.data.server)))


def test_a_quarter_of_the_devices_were_heard_within_the_hour_by_the_ledgers_clock(world: World) -> None:
    assert (
        count(world, "device WHERE last_contact_at > ledger_clock() - interval '62 minutes'") == LICENSES * FRESH_EACH
    )
    assert count(world, "device WHERE last_contact_at < ledger_clock() - interval '20 hours'") == LICENSES * DUE_EACH


def test_a_warm_contact_asks_postgres_nothing(world: World, load: Load) -> None:
    asyncio.run(fill_redis(world))
    send_each(f"{world.activation.url}/v1/validate", load.each_validated())
    before = world.transactions()
    for service, path, bodies in (
        (world.heartbeat, "/v1/heartbeat", load.heartbeats(100, distinct=True)),
        (world.activation, "/v1/validate", load.validations(100, distinct=True)),
        (world.activation, "/v1/validate", load.device_validations(100, distinct=True)),
    ):
        send_each(service.url + path, bodies, connections=1)

    assert world.transactions() - before < 30  # clocks are read once a second


def test_a_due_heartbeat_is_committed(world: World, load: Load) -> None:
    stale = "device WHERE last_contact_at < ledger_clock() - interval '19 hours'"
    assert count(world, stale) == LICENSES * DUE_EACH

    send_each(f"{world.heartbeat.url}/v1/heartbeat", load.due_heartbeats(50))

    assert count(world, stale) == LICENSES * DUE_EACH - 50


@pytest.mark.parametrize("kind", [*WARM, *COLD], ids=lambda kind: kind.name)
def test_every_request_is_granted(world: World, load: Load, kind: Kind) -> None:
    service = world.heartbeat if kind.path == "/v1/heartbeat" else world.activation

    sent = send_each(service.url + kind.path, kind.bodies(load, 60))

    assert sent.requests == 60


def test_first_heartbeats_are_read_together(world: World, load: Load) -> None:
    nothing = Cost(services=0, postgres=0, redis=0)

    figures = {one.name: one.value for one in measure_first(Site(world=world, load=load, rest=nothing))}

    assert figures[f"{LICENSES} first heartbeats: transactions of Postgres"] < 0.5


def test_a_pass_frees_the_devices_whose_leases_were_ended(world: World) -> None:
    active = count(world, "device WHERE state = 'active'")

    due = end_leases(world, 0)
    done = run_pass(world, due)

    assert due == DUE_EACH * 20
    assert done.freed == due
    assert count(world, "device WHERE state = 'active'") == active - due


def test_invariants_hold_after_all_of_it(world: World) -> None:
    rows(world, _TOLD_LONG_AGO + "ON CONFLICT DO NOTHING")

    asyncio.run(check_invariants(Database(name=COPY, owner_dsn=world.data.owner_dsn, server=world.data.server)))

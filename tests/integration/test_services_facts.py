"""Services told of each other's changes by facts over RabbitMQ: whoever changes something cannot push it to Redis."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from services.portal.licenses import Licenses
from services.standalone.embedded import free_port
from services.standalone.rabbitmq import RabbitServer
from shared.facts import topology
from shared.facts.topology import PROJECTOR, REAPER, SUBSCRIBERS, Subscriber
from shared.licensing.model import Suspend
from shared.runtime.facts import facts_flowing
from shared.runtime.resources import open_resources
from shared.runtime.sections import RabbitMQ, Secret
from tests.conftest import Database
from tests.facts import Received, consuming, until, until_empty
from tests.invariants import check_invariants
from tests.platform import (
    LOOPBACK,
    Answer,
    Api,
    Grant,
    Service,
    Services,
    Vendor,
    eventually,
    open_api,
    rows,
    settings_for,
)

pytest_plugins = ["tests.platform", "tests.rabbitmq"]

NAMES = ["activation", "heartbeat", "reaper", "portal"]
RECORDER = Subscriber(queue="seatkeeper.recorder", keys=("fact.#",))
AT_ONCE_S = 1.0


def nowhere(scheme: str) -> str:
    return f"{scheme}://{LOOPBACK}:{free_port()}/"


def over(facts_url: str) -> dict[str, dict[str, Any]]:
    return {"rabbitmq": {"url": facts_url}}


def without_push(changes: dict[str, dict[str, Any]] | None = None) -> dict[str, dict[str, Any]]:
    return {"redis": {"url": nowhere("redis")}} | (changes or {})


async def all_ready(*started: Service) -> None:
    await asyncio.gather(*(service.ready() for service in started))


@asynccontextmanager
async def apis(*started: Service) -> AsyncIterator[list[Api]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_api(service.url)) for service in started]


async def beat(replicas: Sequence[Api], token: str) -> list[Answer]:
    return await asyncio.gather(*(replica.heartbeat(token) for replica in replicas))


async def told_at_once(replicas: Sequence[Api], token: str, refusal: tuple[int, str]) -> None:
    """Within a second every replica refuses the device's heartbeat so."""

    async def refused() -> bool:
        answers = await beat(replicas, token)
        return all(answer.status == refusal[0] for answer in answers)

    await eventually(refused, within_s=AT_ONCE_S)
    assert [answer.refusal for answer in await beat(replicas, token)] == [refusal] * len(replicas)


async def unsent(database: Database) -> int:
    return int((await rows(database, "SELECT count(*) AS n FROM outbox WHERE sent_at IS NULL"))[0]["n"])


async def drained(database: Database, *, within_s: float = 10.0) -> None:
    async def empty() -> bool:
        return not await unsent(database)

    await eventually(empty, within_s=within_s)


async def suspend_elsewhere(database: Database, grant: Grant, facts_url: str) -> None:
    """In another process than those that serve devices."""
    settings = replace(
        settings_for(database.dsn_for("seatkeeper_reaper"), nowhere("redis")), rabbitmq=RabbitMQ(url=Secret(facts_url))
    )
    committed = asyncio.Event()
    async with (
        open_resources(settings, application="portal", on_commit=committed.set) as r,
        facts_flowing(settings, r, committed, name="portal"),
    ):
        licenses = Licenses(r.catalog, r.ledger, r.reader, r.keystore, r.license_keys)
        await licenses.set_status(grant.ref, Suspend)


# --- Facts alone ------------------------------------------------------------------------------------------------


async def test_without_push_and_facts_redis_goes_on_saying_yes(services: Services, vendor: Vendor) -> None:
    """What the tests below would see if facts did nothing."""
    grant = await vendor.license()
    activation, heartbeat = services.start("activation", changes=without_push()), services.start("heartbeat")
    await all_ready(activation, heartbeat)

    async with apis(activation, heartbeat) as (activate, replica):
        seat = (await activate.activate(grant.key)).ok(201)
        (await replica.heartbeat(seat["deviceToken"])).ok()
        (await activate.deactivate(grant.key, seat["deviceId"])).ok()
        await asyncio.sleep(AT_ONCE_S)

        (await replica.heartbeat(seat["deviceToken"])).ok()


async def test_facts_alone_tell_every_heartbeat_replica_of_a_release_within_a_second(
    services: Services, vendor: Vendor, database: Database, facts_url: str
) -> None:
    grant = await vendor.license()
    activation = services.start("activation", changes=without_push(over(facts_url)))
    replicas = [services.start("heartbeat", changes=over(facts_url)) for _ in range(2)]
    await all_ready(activation, *replicas)

    async with apis(activation, *replicas) as (activate, *beats):
        kept, given_back = [(await activate.activate(grant.key, name)).ok(201) for name in ("laptop", "phone")]
        for seat in (kept, given_back):
            assert [answer.status for answer in await beat(beats, seat["deviceToken"])] == [200, 200]

        (await activate.deactivate(grant.key, given_back["deviceId"])).ok()

        await told_at_once(beats, given_back["deviceToken"], (410, "LEASE_LOST"))
        assert {answer.json["reason"] for answer in await beat(beats, given_back["deviceToken"])} == {"user"}
        assert [answer.status for answer in await beat(beats, kept["deviceToken"])] == [200, 200]
    await drained(database)
    await until_empty(facts_url, PROJECTOR.queue)
    await check_invariants(database)
    assert [await service.stop() for service in (activation, *replicas)] == [0] * 3


async def test_facts_alone_tell_every_heartbeat_replica_of_a_suspension_within_a_second(
    services: Services, vendor: Vendor, database: Database, facts_url: str
) -> None:
    grant = await vendor.license()
    changes = over(facts_url)
    activation = services.start("activation", changes=without_push(changes))
    replicas = [services.start("heartbeat", changes=changes) for _ in range(2)]
    await all_ready(activation, *replicas)

    async with apis(activation, *replicas) as (activate, *beats):
        seat = (await activate.activate(grant.key)).ok(201)
        assert [answer.status for answer in await beat(beats, seat["deviceToken"])] == [200, 200]

        await suspend_elsewhere(database, grant, facts_url)

        await told_at_once(beats, seat["deviceToken"], (403, "LICENSE_SUSPENDED"))
    await drained(database)


# --- RabbitMQ away ----------------------------------------------------------------------------------------------


async def test_services_go_on_while_rabbitmq_is_away_and_their_facts_follow_in_order(
    services: Services, vendor: Vendor, database: Database, private_rabbitmq: RabbitServer
) -> None:
    url = private_rabbitmq.url
    await topology.declare(url, [*SUBSCRIBERS, RECORDER])
    grants = [await vendor.license() for _ in range(3)]
    activations = [services.start("activation", changes=over(url)) for _ in range(2)]
    heartbeat = services.start("heartbeat", changes=over(url))
    await all_ready(*activations, heartbeat)

    async with apis(*activations, heartbeat) as (*activate, replica):
        seats = [(await activate[0].activate(grant.key)).ok(201) for grant in grants]
        await drained(database)
        await asyncio.to_thread(private_rabbitmq.stop)

        for turn in range(6):
            await asyncio.gather(*(change(activate[turn % 2], grant, turn) for grant in grants))
            for seat in seats:
                (await replica.heartbeat(seat["deviceToken"])).ok()
        assert await unsent(database) == 6 * 2 * len(grants)

        await back(private_rabbitmq)
        await drained(database, within_s=20)
        received = Received()
        expected = await committed(database)
        async with consuming(url, received, subscriber=RECORDER):
            await until(lambda: received.by_license().keys() == expected.keys())
            await until(lambda: sum(map(len, received.by_license().values())) == sum(map(len, expected.values())))
        assert received.by_license() == expected

        (await activate[0].deactivate(grants[0].key, seats[0]["deviceId"])).ok()
        await drained(database)
    await until_empty(url, PROJECTOR.queue, within_s=20)
    assert [await service.stop() for service in (*activations, heartbeat)] == [0] * 3


async def back(rabbitmq: RabbitServer) -> None:
    rabbitmq.start(wait=False)

    async def ready() -> bool:
        return rabbitmq.ready

    await eventually(ready, within_s=30)


async def change(api: Api, grant: Grant, turn: int) -> None:
    """A seat is taken and given back: two facts."""
    seat = (await api.activate(grant.key, f"device-{turn}")).ok(201)
    (await api.deactivate(grant.key, seat["deviceId"])).ok()


async def committed(database: Database) -> dict[UUID, list[int]]:
    """The versions of each license's facts."""
    found: dict[UUID, list[int]] = {}
    for row in await rows(database, "SELECT license_id, version FROM outbox ORDER BY version"):
        found.setdefault(row["license_id"], []).append(row["version"])
    return found


async def test_services_start_and_serve_while_rabbitmq_is_away(
    services: Services, vendor: Vendor, database: Database
) -> None:
    grant = await vendor.license()
    changes = over(nowhere("amqp"))
    started = {name: services.start(name, changes=changes) for name in NAMES}
    await all_ready(*started.values())

    async with apis(started["activation"], started["heartbeat"]) as (activate, replica):
        seat = (await activate.activate(grant.key)).ok(201)
        (await replica.heartbeat(seat["deviceToken"])).ok()
    assert await unsent(database) == len(await rows(database, "SELECT FROM outbox")) > 0
    begun = time.monotonic()
    assert await asyncio.gather(*(service.stop() for service in started.values())) == [0] * len(NAMES)
    assert time.monotonic() - begun < 5
    for service in started.values():
        assert service.err.read_text() == ""
        assert "Traceback" not in service.printed


# --- Topology ---------------------------------------------------------------------------------------------------


async def test_without_the_topology_no_service_starts_and_each_says_so_in_one_line(
    services: Services, vendor: Vendor, amqp_url: str
) -> None:
    started = [services.start(name, changes=over(amqp_url)) for name in NAMES]

    assert await asyncio.gather(*(service.ended() for service in started)) == [1] * len(NAMES)

    said = "RabbitMQ lacks the exchange seatkeeper.facts: declare the topology first\n"
    assert [service.err.read_text() for service in started] == [said] * len(NAMES)
    assert all("Traceback" not in service.printed for service in started)


async def test_consumers_do_not_start_without_their_queues(services: Services, vendor: Vendor, amqp_url: str) -> None:
    await topology.declare(amqp_url, [])
    needs = {"heartbeat": PROJECTOR, "reaper": REAPER}
    started = {name: services.start(name, changes=over(amqp_url)) for name in needs}

    for name, needed in needs.items():
        assert await started[name].ended() == 1
        said = f"RabbitMQ lacks the queue {needed.queue}: declare the topology first\n"
        assert started[name].err.read_text() == said

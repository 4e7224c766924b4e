"""RabbitMQ restarted, away for a while, and killed: nothing is lost, and each license's facts stay in order.

One node serves all these tests, in this order; a quorum queue of a lone node survives a kill only when it has been
there for some seconds.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from services.standalone.rabbitmq import RabbitServer
from shared.facts.consumer import Consumer
from shared.facts.topology import PROJECTOR, declare
from shared.ledger.ledger import Ledger
from shared.ledger.reader import LicenseRef
from tests.builders import add_licenses, fetch
from tests.conftest import Database
from tests.facts import Received, consuming, depth, make_facts, publish, until
from tests.integration.test_facts_relay import UNSENT, relaying, resize, waking_ledger

pytest_plugins = ["tests.rabbitmq"]

SETTLED_S = 8.0
_declared: list[float] = []


@pytest.fixture
async def broker(private_rabbitmq: RabbitServer) -> RabbitServer:
    """Running, with the topology declared."""
    if not private_rabbitmq.running:
        await come_back(private_rabbitmq)
    await declare(private_rabbitmq.url)
    _declared.append(time.monotonic())
    return private_rabbitmq


async def go_away(broker: RabbitServer) -> None:
    await asyncio.to_thread(broker.stop)


async def come_back(broker: RabbitServer) -> None:
    """Start it while everything else goes on."""
    broker.start(wait=False)
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(lambda: broker.ready):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@asynccontextmanager
async def at_work(
    broker: RabbitServer, database: Database, received: Received
) -> AsyncIterator[tuple[Ledger, Consumer]]:
    """Two processes' relays, a ledger and a consumer."""
    woken = [asyncio.Event(), asyncio.Event()]
    async with (
        consuming(broker.url, received, watch_every_s=1) as consumer,
        relaying(database, broker.url, woken[0], limit=200),
        relaying(database, broker.url, woken[1], limit=200),
        waking_ledger(database, woken) as ledger,
    ):
        yield ledger, consumer


async def all_received(database: Database, received: Received, refs: Sequence[LicenseRef], last: int) -> None:
    await until(lambda: sum(map(len, received.by_license().values())) == len(refs) * last, within_s=30)
    assert received.by_license() == {ref[1]: list(range(1, last + 1)) for ref in refs}
    async with asyncio.timeout(10):
        while await fetch(database, UNSENT) != [(0,)]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_a_broker_that_is_restarted_in_the_middle_costs_no_fact_and_no_order(
    broker: RabbitServer, database: Database
) -> None:
    refs, received = await add_licenses(database, 5), Received()
    async with at_work(broker, database, received) as (ledger, consumer):
        await until(lambda: len(received.facts) == 5)
        changes = asyncio.gather(*(resize(ledger, ref, 200) for ref in refs))
        await until(lambda: len(received.facts) > 100)
        await go_away(broker)
        await come_back(broker)
        await changes
        await all_received(database, received, refs, 201)
        assert consumer.tally.connections > 1
    assert await depth(broker.url, PROJECTOR.dead_queue) == 0


async def test_while_the_broker_is_away_the_outbox_keeps_all_and_then_drains_in_order(
    broker: RabbitServer, database: Database
) -> None:
    refs, received = await add_licenses(database, 5), Received()
    async with at_work(broker, database, received) as (ledger, _):
        await until(lambda: len(received.facts) == 5)
        await go_away(broker)
        began = time.monotonic()
        await asyncio.gather(*(resize(ledger, ref, 300) for ref in refs))
        assert time.monotonic() - began < 10  # activations go on
        assert await fetch(database, UNSENT) == [(1500,)]
        await come_back(broker)
        await all_received(database, received, refs, 301)
    assert await depth(broker.url, PROJECTOR.dead_queue) == 0


async def test_a_consumer_finds_what_was_published_while_it_was_away(broker: RabbitServer) -> None:
    await publish(broker.url, make_facts([1]), make_facts([2]))
    await go_away(broker)
    await come_back(broker)
    received = Received()
    async with consuming(broker.url, received):
        await until(lambda: received.versions == [1, 2])


async def test_a_broker_that_is_killed_keeps_what_it_confirmed(broker: RabbitServer, database: Database) -> None:
    refs, received = await add_licenses(database, 5), Received()
    await asyncio.sleep(max(0, _declared[0] + SETTLED_S - time.monotonic()))
    async with at_work(broker, database, received) as (ledger, _):
        changes = asyncio.gather(*(resize(ledger, ref, 200) for ref in refs))
        await until(lambda: len(received.facts) > 100)
        broker.kill()
        await come_back(broker)
        await changes
        await all_received(database, received, refs, 201)
    assert await depth(broker.url, PROJECTOR.dead_queue) == 0

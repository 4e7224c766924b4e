"""Publishing: facts are safe when the broker has confirmed them in a queue, and otherwise the relay keeps them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aio_pika import DeliveryMode
from aio_pika.abc import AbstractIncomingMessage

from shared.facts import topology
from shared.facts.amqp import Publisher
from shared.facts.codec import MESSAGE_FACTS, unpack
from shared.facts.connection import BrokerError, open_channel
from shared.facts.topology import EXCHANGE, PROJECTOR, REAPER
from shared.ledger.connections import Pool
from shared.ledger.outbox import relay_once
from shared.licensing.model import Kind
from tests.builders import add_license, fetch, open_role
from tests.conftest import Database
from tests.facts import depth, make_facts, new_ref, open_way

pytest_plugins = ["tests.rabbitmq"]

UNSENT = "SELECT count(*) FROM outbox WHERE sent_at IS NULL"


@asynccontextmanager
async def publisher(url: str, **options: Any) -> AsyncIterator[Publisher]:
    opened = Publisher(url, name="tests", **options)
    try:
        yield opened
    finally:
        await opened.close()


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    async with open_role(database.dsn_for("seatkeeper_activation")) as pool:
        yield pool


async def taken(url: str, queue: str) -> list[AbstractIncomingMessage]:
    """All messages of the queue, taken out of it."""
    found = []
    async with open_channel(url, name="tests") as channel:
        waiting = await channel.get_queue(queue)
        while (message := await waiting.get(fail=False)) is not None:
            await message.ack()
            found.append(message)
    return found


async def versions(url: str, queue: str = PROJECTOR.queue) -> list[int]:
    return [fact.version for message in await taken(url, queue) for fact in unpack(message.body).facts]


async def test_many_facts_travel_in_one_message_and_in_their_order(facts_url: str) -> None:
    async with publisher(facts_url) as publishing:
        await publishing.publish(make_facts(range(1, 151)))
    messages = await taken(facts_url, PROJECTOR.queue)
    assert len(messages) == 1
    assert [fact.version for fact in unpack(messages[0].body).facts] == list(range(1, 151))


async def test_messages_are_of_bounded_size(facts_url: str) -> None:
    async with publisher(facts_url) as publishing:
        await publishing.publish(make_facts(range(1, 2 * MESSAGE_FACTS + 2)))
    assert await depth(facts_url, PROJECTOR.queue) == 3
    assert await versions(facts_url) == list(range(1, 2 * MESSAGE_FACTS + 2))


async def test_a_message_is_persistent_and_says_what_it_is(facts_url: str) -> None:
    trace = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    async with publisher(facts_url, trace=lambda: trace) as publishing:
        await publishing.publish(make_facts([1, 2]))
    (message,) = await taken(facts_url, PROJECTOR.queue)
    assert message.delivery_mode is DeliveryMode.PERSISTENT
    assert (message.type, message.content_type) == ("facts", "application/jsonl")
    assert message.message_id
    assert {"schema": 1, "facts": 2, **trace}.items() <= message.headers.items()


async def test_the_reaper_gets_floating_licenses_and_what_cannot_be_read_and_the_projector_all(facts_url: str) -> None:
    unreadable = '{"schema": 99}'
    async with publisher(facts_url) as publishing:
        await publishing.publish(
            [*make_facts([1]), *make_facts([2], ref=new_ref(), kind=Kind.FLOATING), unreadable, *make_facts([3])]
        )
    assert await versions(facts_url, PROJECTOR.queue) == [1, 2, 3]
    assert await versions(facts_url, REAPER.queue) == [2]
    assert await depth(facts_url, REAPER.queue) == 0


async def test_facts_that_no_queue_takes_stay_in_the_outbox(amqp_url: str, database: Database, pool: Pool) -> None:
    async with open_channel(amqp_url, name="tests") as channel:
        await channel.declare_exchange(EXCHANGE, "topic", durable=True)
    await add_license(database)
    async with publisher(amqp_url) as publishing:
        with pytest.raises(BrokerError, match="NO_ROUTE"):
            await relay_once(pool, publishing.publish)
        assert await fetch(database, UNSENT) == [(1,)]
        await topology.declare(amqp_url)
        assert await relay_once(pool, publishing.publish) == 1
    assert await fetch(database, UNSENT) == [(0,)]
    assert await versions(amqp_url) == [1]


async def test_facts_that_the_broker_refuses_are_not_safe(facts_url: str) -> None:
    async with open_channel(facts_url, name="tests") as channel:
        full = await channel.declare_queue(
            "seatkeeper.full", arguments={"x-max-length": 1, "x-overflow": "reject-publish"}
        )
        await full.bind(EXCHANGE, "fact.#")
    async with publisher(facts_url) as publishing:
        await publishing.publish(make_facts([1]))
        with pytest.raises(BrokerError):
            await publishing.publish(make_facts([2]))
        assert publishing.trouble
        async with open_channel(facts_url, name="tests") as channel:
            await channel.queue_delete("seatkeeper.full")
        await publishing.publish(make_facts([2]))
        assert publishing.trouble is None


async def test_publishing_where_nothing_is_declared_says_so_and_recovers(amqp_url: str) -> None:
    async with publisher(amqp_url) as publishing:
        with pytest.raises(BrokerError, match=EXCHANGE):
            await publishing.publish(make_facts([1]))
        await topology.declare(amqp_url)
        await publishing.publish(make_facts([1]))
    assert await versions(amqp_url) == [1]


async def test_a_broker_out_of_reach_is_told_at_once(facts_url: str) -> None:
    async with open_way(facts_url) as way:
        url = way.url
    async with publisher(url) as publishing, asyncio.timeout(1):
        with pytest.raises(BrokerError):
            await publishing.publish(make_facts([1]))


async def test_a_connection_that_was_lost_is_replaced_without_a_failure(facts_url: str) -> None:
    async with open_way(facts_url) as way, publisher(way.url) as publishing:
        await publishing.publish(make_facts([1]))
        way.cut()
        await asyncio.sleep(0.1)
        await publishing.publish(make_facts([2]))
        assert way.connections == 2
    assert await versions(facts_url) == [1, 2]


async def test_a_half_open_connection_fails_in_time_and_is_replaced(facts_url: str) -> None:
    async with open_way(facts_url) as way, publisher(way.url, timeout_s=0.3) as publishing:
        await publishing.publish(make_facts([1]))
        way.freeze()
        for _ in range(2):  # the second cannot even connect
            async with asyncio.timeout(1.6):
                with pytest.raises(BrokerError, match=r"no answer within 0\.3 s"):
                    await publishing.publish(make_facts([2]))
        way.thaw()
        await publishing.publish(make_facts([2]))
    received = await versions(facts_url)
    assert list(dict.fromkeys(received)) == [1, 2]


async def test_no_fact_overtakes_one_that_is_not_safe_yet(facts_url: str) -> None:
    """When a message is not confirmed, the next is not even sent."""
    async with open_way(facts_url) as way, publisher(way.url, timeout_s=0.3) as publishing:
        await publishing.publish(make_facts([1]))
        way.freeze(answers_only=True)
        with pytest.raises(BrokerError):
            await publishing.publish(make_facts(range(2, 3 * MESSAGE_FACTS)))
    assert await versions(facts_url) == list(range(1, MESSAGE_FACTS + 2))


async def test_a_publisher_leaves_no_connection_behind(facts_url: str) -> None:
    async with open_way(facts_url) as way:
        async with publisher(way.url) as publishing:
            await publishing.publish(make_facts([1]))
            assert way.open_connections == 1
        assert way.open_connections == 0

"""Consumers whose connection is lost, or seems to live and does not."""

import asyncio
from collections.abc import Sequence

from shared.facts.connection import open_channel
from shared.facts.consumer import Consumer
from shared.facts.topology import EXCHANGE, PROJECTOR, Subscriber, declare
from shared.licensing.facts import Fact
from tests.facts import Received, consuming, depth, make_facts, open_way, publish, until

pytest_plugins = ["tests.rabbitmq"]


async def test_a_consumer_whose_connection_is_cut_connects_again(facts_url: str) -> None:
    received = Received()
    async with open_way(facts_url) as way, consuming(way.url, received) as consumer:
        for count in (1, 2, 3):
            await publish(facts_url, make_facts([count]))
            await until_count(received.facts, count)
            way.cut()
            await until_connections(consumer, count + 1)
        assert received.versions == [1, 2, 3]
    assert await depth(facts_url, PROJECTOR.queue) == 0


async def test_a_connection_cut_while_a_message_is_handled_has_it_delivered_again(facts_url: str) -> None:
    received = Received()
    async with open_way(facts_url) as way:

        async def handle(facts: Sequence[Fact]) -> None:
            await received(facts)
            if len(received.facts) == 1:
                way.cut()
                await asyncio.sleep(0.05)

        async with consuming(way.url, handle) as consumer:
            await publish(facts_url, make_facts([1]))
            await until(lambda: received.versions == [1, 1])
            await until(lambda: consumer.tally.messages == 1)
    assert await depth(facts_url, PROJECTOR.queue) == 0


async def test_a_half_open_connection_is_found_out_and_replaced(facts_url: str) -> None:
    received = Received()
    async with (
        open_way(facts_url) as way,
        consuming(way.url, received, watch_every_s=0.2, timeout_s=0.3) as consumer,
    ):
        way.freeze()
        await until(lambda: consumer.trouble is not None, within_s=2)
        await publish(facts_url, make_facts([1]))
        way.thaw()
        await until(lambda: received.versions == [1], within_s=5)


async def test_a_broker_that_delivers_nothing_of_what_waits_is_asked_over_a_new_connection(facts_url: str) -> None:
    """Another consumer is the queue's only active one and keeps its one message to itself."""
    received, single = Received(), Subscriber(queue="seatkeeper.single", keys=())
    async with open_channel(facts_url, name="tests") as channel:
        queue = await channel.declare_queue(
            single.queue, durable=True, arguments={"x-queue-type": "quorum", "x-single-active-consumer": True}
        )
        await queue.bind(EXCHANGE, "fact.#")
        async with open_channel(facts_url, name="tests") as active:
            await active.set_qos(prefetch_count=1)
            await (await active.get_queue(single.queue)).consume(keep)
            await publish(facts_url, make_facts([1]), make_facts([2]))
            async with consuming(facts_url, received, subscriber=single, watch_every_s=0.1) as consumer:
                await until(lambda: consumer.tally.connections == 2)
                assert not received.facts
                await active.close()
                await until(lambda: received.versions == [1, 2])
        await channel.queue_delete(single.queue)


async def until_connections(consumer: Consumer, count: int) -> None:
    await until(lambda: consumer.tally.connections == count)


async def until_count(facts: Sequence[Fact], count: int) -> None:
    await until(lambda: len(facts) == count)


async def keep(message: object) -> None:
    """Takes a message and answers nothing."""


async def test_a_consumer_whose_queue_is_removed_goes_on_once_it_is_there_again(facts_url: str) -> None:
    received = Received()
    async with consuming(facts_url, received) as consumer:
        async with open_channel(facts_url, name="tests") as channel:
            await channel.queue_delete(PROJECTOR.queue)
        await until(lambda: "lacks the queue" in (consumer.trouble or ""))
        await declare(facts_url)
        await publish(facts_url, make_facts([1]))
        await until(lambda: received.versions == [1])


async def test_a_consumer_that_stays_connected_is_left_alone_by_the_watch(facts_url: str) -> None:
    received = Received()
    async with consuming(facts_url, received, watch_every_s=0.05) as consumer:
        for version in range(1, 11):
            await publish(facts_url, make_facts([version]))
            await until_count(received.facts, version)
        assert consumer.tally.connections == 1

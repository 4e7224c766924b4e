"""The topology: declared by a command, looked at by services, and told apart from a broker that is away."""

import pytest

from shared.facts.connection import BrokerError, open_channel
from shared.facts.consumer import Consumer
from shared.facts.topology import (
    DEAD_EXCHANGE,
    EXCHANGE,
    PROJECTOR,
    REAPER,
    SUBSCRIBERS,
    TopologyError,
    check,
    declare,
)
from shared.runtime.background import background
from tests.facts import Received, consuming, make_facts, open_way, publish, until

pytest_plugins = ["tests.rabbitmq"]


async def test_a_declared_topology_passes_the_check_and_may_be_declared_again(amqp_url: str) -> None:
    await declare(amqp_url)
    await check(amqp_url)
    await declare(amqp_url)
    await check(amqp_url)


async def test_the_check_declares_nothing_and_names_what_is_missing(amqp_url: str) -> None:
    for _ in range(2):
        with pytest.raises(
            TopologyError, match=r"^RabbitMQ lacks the exchange seatkeeper\.facts: declare the topology first$"
        ):
            await check(amqp_url)


@pytest.mark.parametrize("queue", [name for one in SUBSCRIBERS for name in (one.queue, one.dead_queue)])
async def test_the_check_names_the_queue_that_is_missing(facts_url: str, queue: str) -> None:
    async with open_channel(facts_url, name="tests") as channel:
        await channel.queue_delete(queue)
    with pytest.raises(TopologyError, match=rf"lacks the queue {queue}: declare"):
        await check(facts_url)
    await declare(facts_url)
    await check(facts_url)


async def test_a_service_checks_only_what_it_consumes(facts_url: str) -> None:
    async with open_channel(facts_url, name="tests") as channel:
        await channel.queue_delete(REAPER.queue)
    await check(facts_url, [PROJECTOR])


async def test_a_queue_of_other_settings_is_not_replaced(amqp_url: str) -> None:
    async with open_channel(amqp_url, name="tests") as channel:
        await channel.declare_queue(PROJECTOR.queue, durable=True)
    with pytest.raises(TopologyError, match=rf"has the queue {PROJECTOR.queue} with other settings"):
        await declare(amqp_url)


async def test_an_exchange_of_another_kind_is_not_replaced(amqp_url: str) -> None:
    async with open_channel(amqp_url, name="tests") as channel:
        await channel.declare_exchange(EXCHANGE, "fanout", durable=True)
    with pytest.raises(TopologyError, match=rf"has the exchange {EXCHANGE} with other settings"):
        await declare(amqp_url)


async def test_a_broker_that_is_away_is_no_fault_of_the_topology(amqp_url: str) -> None:
    async with open_way(amqp_url) as way:
        url = way.url
    for ask in (check, declare):
        with pytest.raises(BrokerError):
            await ask(url)


async def test_a_wrong_password_is_told_without_the_password(amqp_url: str) -> None:
    wrong = amqp_url.replace("@", "-not-it@")
    with pytest.raises(BrokerError) as caught:
        await check(wrong)
    assert "not-it" not in str(caught.value)


async def test_a_letter_that_cannot_reach_the_dead_letters_stays_in_its_queue(facts_url: str) -> None:
    """Dead-lettering is at least once: without a way to the dead letters' queue nothing is thrown away."""
    async with open_channel(facts_url, name="tests") as channel:
        dead = await channel.get_queue(PROJECTOR.dead_queue)
        await dead.unbind(DEAD_EXCHANGE, PROJECTOR.queue)
        await publish(facts_url, ["no fact"])
        async with consuming(facts_url, Received()) as consumer:
            await until(lambda: consumer.tally.dead == 1)
        await dead.bind(DEAD_EXCHANGE, PROJECTOR.queue)
        assert (await dead.declare()).message_count == 0


async def test_a_consumer_without_a_queue_says_so_and_begins_once_it_is_declared(amqp_url: str) -> None:
    received = Received()
    consumer = Consumer(amqp_url, PROJECTOR, received)
    async with background(consumer.run):
        await until(
            lambda: consumer.trouble == f"RabbitMQ lacks the queue {PROJECTOR.queue}: declare the topology first"
        )
        await declare(amqp_url)
        await publish(amqp_url, make_facts([1]))
        await until(lambda: received.versions == [1])

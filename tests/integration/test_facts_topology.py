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
from tests.facts import Received, make_facts, open_way, publish, until

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


async def test_a_queue_is_replicated_limits_its_deliveries_and_keeps_a_letter_until_it_is_safe(facts_url: str) -> None:
    """The broker lets a queue be declared again with the arguments that it has, and with no others."""
    arguments: dict[str, str | int] = {
        "x-queue-type": "quorum",
        "x-delivery-limit": 5,
        "x-dead-letter-exchange": DEAD_EXCHANGE,
        "x-dead-letter-routing-key": PROJECTOR.queue,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
    async with open_channel(facts_url, name="tests") as channel:
        await channel.declare_queue(PROJECTOR.queue, durable=True, arguments=dict(arguments))


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

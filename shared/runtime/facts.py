"""The facts of one service process: its relay to RabbitMQ, and the consumers of what others tell.

Publishing and consuming have connections of their own. RabbitMQ away is no trouble for those who ask: facts wait in
the outbox and leave it in the order of their commits. Without the setting `rabbitmq.url` they only wait.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import structlog

from shared.facts.amqp import Publisher
from shared.facts.connection import BrokerError
from shared.facts.consumer import AWAY, Consumer
from shared.facts.relay import Relay
from shared.facts.topology import Subscriber, TopologyError, check
from shared.facts.transport import Receive
from shared.ledger.connections import UnavailableError
from shared.ledger.outbox import BATCH, clear_sent, relay_once
from shared.runtime.background import background
from shared.runtime.lifecycle import StartError
from shared.runtime.resources import Resources, Settings

Subscription = tuple[Subscriber, Receive]

_log = structlog.get_logger()


@asynccontextmanager
async def facts_flowing(
    settings: Settings,
    resources: Resources,
    committed: asyncio.Event,
    *,
    name: str,
    wanted: Sequence[Subscription] = (),
    relays: bool = True,
) -> AsyncIterator[None]:
    """Relay what this process commits, and hand to each subscription what it wants, while the body runs.

    Who may not see every account's facts does not relay: the others take its facts from the outbox within a second.
    Raises `StartError` when the topology was not declared; a broker that is away is waited for.
    """
    if settings.rabbitmq is None:
        yield
        return
    url = settings.rabbitmq.url.reveal()
    await _check_topology(url, [subscriber for subscriber, _ in wanted])
    publisher = Publisher(url, name=name)
    relay = Relay(
        take=lambda publish: relay_once(resources.pool, publish),
        full=BATCH,
        transport=publisher,
        clear=lambda: clear_sent(resources.pool),
        woken=committed,
    )
    async with AsyncExitStack() as stack:
        stack.push_async_callback(publisher.close)
        if relays:
            await stack.enter_async_context(background(relay.run))
        for subscriber, receive in wanted:
            consumer = Consumer(url, subscriber, receive, away=(*AWAY, UnavailableError))
            await stack.enter_async_context(background(consumer.run))
        yield


async def _check_topology(url: str, subscribers: Sequence[Subscriber]) -> None:
    try:
        await check(url, subscribers)
    except TopologyError as error:
        raise StartError(str(error)) from error
    except BrokerError as error:
        _log.warning("facts.broker_away", error=str(error))

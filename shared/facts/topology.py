"""What facts travel through: every name of it, how it is declared, and how a service sees that it was.

    seatkeeper.facts (topic) ── fact.# ──────────────────────> seatkeeper.projector ┐
                             ── fact.floating, fact.other ──> seatkeeper.reaper    ┤ after five tries
    seatkeeper.facts.dead (direct) <────────────────────────────────────────────────┘
      └─> seatkeeper.projector.dead, seatkeeper.reaper.dead

Rules:
- A message carries facts of many licenses, so its routing key says only what they have in common: the kind of
  license, `fact.floating` or `fact.node_locked`. A kind never changes during a license's life. So all facts of one
  license travel under one key, and sorting a batch by key cannot put them out of order; a key by event would. The
  reaper, which has to know floating leases alone, is spared the (many more) others.
- What the relay cannot read, a later release's fact, goes under `fact.other`, to everyone.
- Queues are quorum queues. A message that was returned more often than the limit goes to the dead letters, and
  stays in its queue until it is safe there (at-least-once, which wants reject-publish).
- The dead letters' queues have a limit nobody reaches: looking at a letter returns it, and counts.
- Declared by a command before services start; a service only looks. A binding that is no longer wanted is taken
  away by hand.
"""

from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager

import msgspec
from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel, AbstractExchange
from aio_pika.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed

from shared.facts.connection import CALL_S, BrokerError, open_channel, within

EXCHANGE = "seatkeeper.facts"
DEAD_EXCHANGE = "seatkeeper.facts.dead"
KEY_PREFIX = "fact."
OTHER = KEY_PREFIX + "other"
DELIVERY_LIMIT = 5
_NEVER = 1_000_000_000


class Subscriber(msgspec.Struct, frozen=True, kw_only=True):
    """A consumer's queue, and the routing keys it wants."""

    queue: str
    keys: tuple[str, ...]

    @property
    def dead_queue(self) -> str:
        return f"{self.queue}.dead"


PROJECTOR = Subscriber(queue="seatkeeper.projector", keys=(KEY_PREFIX + "#",))
REAPER = Subscriber(queue="seatkeeper.reaper", keys=(KEY_PREFIX + "floating", OTHER))
SUBSCRIBERS = (PROJECTOR, REAPER)


class TopologyError(Exception):
    """Exchanges or queues are not as this code needs them. The text is one line that an operator can act on."""


async def declare(url: str, subscribers: Sequence[Subscriber] = SUBSCRIBERS) -> None:
    """Declare all that is missing; may be repeated. Raises `TopologyError`, `BrokerError`."""
    async with open_channel(url, name="seatkeeper topology") as channel:
        facts = await _exchange(channel, EXCHANGE, ExchangeType.TOPIC)
        dead = await _exchange(channel, DEAD_EXCHANGE, ExchangeType.DIRECT)
        for subscriber in subscribers:
            await _queue(channel, subscriber.dead_queue, _dead_arguments(), dead, [subscriber.queue])
            await _queue(channel, subscriber.queue, _arguments(subscriber), facts, subscriber.keys)


async def check(url: str, subscribers: Sequence[Subscriber] = SUBSCRIBERS) -> None:
    """See that everything is there, changing nothing. Raises `TopologyError`, `BrokerError`."""
    async with open_channel(url, name="seatkeeper topology") as channel:
        for name in (EXCHANGE, DEAD_EXCHANGE):
            await _look(channel.get_exchange(name), f"exchange {name}")
        for name in [name for one in subscribers for name in (one.queue, one.dead_queue)]:
            await _look(channel.get_queue(name), f"queue {name}")


def missing(what: str) -> TopologyError:
    return TopologyError(f"RabbitMQ lacks the {what}: declare the topology first")


def _arguments(subscriber: Subscriber) -> dict[str, str | int]:
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": DEAD_EXCHANGE,
        "x-dead-letter-routing-key": subscriber.queue,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


def _dead_arguments() -> dict[str, str | int]:
    return {"x-queue-type": "quorum", "x-delivery-limit": _NEVER}


async def _exchange(channel: AbstractChannel, name: str, kind: ExchangeType) -> AbstractExchange:
    with _told_apart(f"exchange {name}"):
        async with within(CALL_S):
            return await channel.declare_exchange(name, kind, durable=True)


async def _queue(
    channel: AbstractChannel,
    name: str,
    arguments: dict[str, str | int],
    source: AbstractExchange,
    keys: Sequence[str],
) -> None:
    with _told_apart(f"queue {name}"):
        async with within(CALL_S):
            queue = await channel.declare_queue(name, durable=True, arguments=dict(arguments))
            for key in keys:
                await queue.bind(source, key)


async def _look(asked: Awaitable[object], what: str) -> None:
    with _told_apart(what):
        async with within(CALL_S):
            await asked


@contextmanager
def _told_apart(what: str) -> Iterator[None]:
    """A broker that lacks something, or has it otherwise, is another trouble than one that is away."""
    try:
        yield
    except BrokerError as error:
        if isinstance(error.__cause__, ChannelNotFoundEntity):
            raise missing(what) from error
        if isinstance(error.__cause__, ChannelPreconditionFailed):
            raise TopologyError(
                f"RabbitMQ has the {what} with other settings: remove it once it is empty, and declare again"
            ) from error
        raise

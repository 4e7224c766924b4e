"""Dead letters: messages that no try could handle, looked at, sent back to their consumer, or thrown away.

- A letter is named by its message id, which it keeps from its publishing on.
- Looking takes letters out and lets them fall back; whoever looks at the same time may miss them.
- A replay puts the letter into its own consumer's queue again, not to the exchange: the other consumers have done
  with it. It leaves the dead letters only when it is safe there, so a crash in between leaves it in both.
- What cannot be read is replayed all the same: a later release may be able to.
"""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import ChannelNotFoundEntity

from shared.facts.connection import CALL_S, BrokerError, open_channel, within
from shared.facts.letter import Letter, letter_of
from shared.facts.topology import Subscriber, missing

__all__ = ["Letter", "drop", "letters", "replay"]

LIST_LIMIT = 100
FALL_BACK_S = 2.0
_ALL = 0
_BROKERS_OWN = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-count")


async def letters(url: str, subscriber: Subscriber, *, limit: int = LIST_LIMIT) -> list[Letter]:
    """The oldest dead letters of a consumer. Raises `BrokerError`, `TopologyError`."""
    async with _pile(url, subscriber) as pile:
        return [letter_of(message, subscriber.queue) async for message in pile.take(limit)]


async def replay(url: str, subscriber: Subscriber, ids: Collection[str] | None = None) -> int:
    """Send the letters of these ids, or all, to their consumer again; returns how many. Raises as `letters`."""
    async with _pile(url, subscriber) as pile:
        async for message in pile.take():
            if ids is None or message.message_id in ids:
                async with within(CALL_S):
                    await pile.channel.default_exchange.publish(_again(message), subscriber.queue, mandatory=True)
                await pile.remove(message)
        return pile.removed


async def drop(url: str, subscriber: Subscriber, ids: Collection[str] | None = None) -> int:
    """Throw the letters of these ids, or all, away; returns how many. Raises as `letters`."""
    async with _pile(url, subscriber) as pile:
        async for message in pile.take():
            if ids is None or message.message_id in ids:
                await pile.remove(message)
        return pile.removed


class _Pile:
    """The dead letters of a consumer, over one channel."""

    def __init__(self, channel: AbstractChannel, queue: AbstractQueue) -> None:
        self.channel = channel
        self._queue = queue
        self._there = queue.declaration_result.message_count or 0
        self.removed = 0

    async def take(self, limit: int | None = None) -> AsyncIterator[AbstractIncomingMessage]:
        """The letters that were there at the start; one that comes back meanwhile is not met again."""
        for _ in range(self._there if limit is None else min(self._there, limit)):
            async with within(CALL_S):
                message = await self._queue.get(fail=False)
            if message is None:
                return
            yield message

    async def remove(self, message: AbstractIncomingMessage) -> None:
        async with within(CALL_S):
            await message.ack()
        self.removed += 1

    async def let_fall_back(self) -> None:
        """Give back what was taken and not removed, and wait until it can be taken again."""
        channel = await self.channel.get_underlay_channel()
        await channel.basic_nack(_ALL, multiple=True, requeue=True)
        while ((await self._queue.declare()).message_count or 0) < self._there - self.removed:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@asynccontextmanager
async def _pile(url: str, subscriber: Subscriber) -> AsyncIterator[_Pile]:
    async with open_channel(url, name="seatkeeper dead letters") as channel:
        try:
            async with within(CALL_S):
                queue = await channel.get_queue(subscriber.dead_queue)
        except BrokerError as error:
            if isinstance(error.__cause__, ChannelNotFoundEntity):
                raise missing(f"queue {subscriber.dead_queue}") from error
            raise
        pile = _Pile(channel, queue)
        yield pile
        with suppress(BrokerError):  # somebody else may have taken some meanwhile
            async with within(FALL_BACK_S):
                await pile.let_fall_back()


def _again(message: AbstractIncomingMessage) -> Message:
    headers = {name: value for name, value in message.headers.items() if not name.startswith(_BROKERS_OWN)}
    return Message(
        message.body,
        content_type=message.content_type,
        delivery_mode=DeliveryMode.PERSISTENT,
        message_id=message.message_id,
        timestamp=message.timestamp,
        type=message.type,
        app_id=message.app_id,
        headers=headers,
    )

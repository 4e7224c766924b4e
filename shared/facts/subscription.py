"""One connection that consumes one queue, and the ways in which it is found to be dead.

- Messages arrive in `arrived`, at most `prefetch` of them unanswered. Each arrival, and the end, sets `bell`.
- It is dead when the connection or the channel closes, or the broker takes the consumer away: `ensure_alive` raises.
- `watch` finds the silent deaths: a broker that does not answer, one that has forgotten the consumer, and one that
  twice in a row holds messages for a consumer with empty hands and delivers none.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import ChannelNotFoundEntity

from shared.facts.connection import BrokerError, close, connect, within
from shared.facts.topology import missing


class Subscription:
    """Made by `subscribed`."""

    def __init__(self, channel: AbstractChannel, queue: AbstractQueue, timeout_s: float) -> None:
        self._channel = channel
        self._queue = queue
        self._timeout_s = timeout_s
        self._tag = ""
        self._ended: str | None = None
        self._delivered = self._seen_delivered = 0
        self._was_waiting = False
        self.arrived: deque[AbstractIncomingMessage] = deque()
        self.bell = asyncio.Event()

    async def start(self) -> None:
        underlay = await self._channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(lambda frame: self._end("the broker took the consumer away"))
        self._channel.close_callbacks.add(lambda channel, error: self._end(f"the channel was closed: {error!r}"))
        self._tag = await self._queue.consume(self._arrive)

    def ensure_alive(self) -> None:
        """Raises `BrokerError` once nothing more can arrive or be answered."""
        if self._ended is not None:
            raise BrokerError(self._ended)

    async def watch(self, *, idle: bool) -> None:
        """Ask the broker. `idle` says that no message is in hand. Raises `BrokerError` for a silent death."""
        async with within(self._timeout_s):
            declared = await self._queue.declare(timeout=self._timeout_s)
        if not declared.consumer_count:
            raise BrokerError("the broker knows no consumer of the queue")
        waiting = bool(declared.message_count) and idle and self._delivered == self._seen_delivered
        if waiting and self._was_waiting:
            raise BrokerError(f"{declared.message_count} messages wait and none is delivered")
        self._was_waiting, self._seen_delivered = waiting, self._delivered

    async def refuse_more(self) -> None:
        """Have nothing more delivered; what has arrived can still be answered."""
        async with within(self._timeout_s):
            await self._queue.cancel(self._tag)

    async def ack(self, message: AbstractIncomingMessage) -> None:
        async with within(self._timeout_s):
            await message.ack()

    async def bury(self, message: AbstractIncomingMessage) -> None:
        """To the dead letters."""
        async with within(self._timeout_s):
            await message.reject(requeue=False)

    async def give_back(self, message: AbstractIncomingMessage) -> None:
        """To another consumer; since RabbitMQ 4.3 this counts as no try."""
        async with within(self._timeout_s):
            await message.nack(requeue=True)

    async def _arrive(self, message: AbstractIncomingMessage) -> None:
        self._delivered += 1
        self.arrived.append(message)
        self.bell.set()

    def _end(self, why: str) -> None:
        self._ended = self._ended or why
        self.bell.set()


@asynccontextmanager
async def subscribed(url: str, queue: str, *, prefetch: int, timeout_s: float) -> AsyncIterator[Subscription]:
    """Connect and consume. Raises `BrokerError`, and `TopologyError` where there is no such queue."""
    connection = await connect(url, name=f"consumer of {queue}", timeout_s=timeout_s)
    try:
        try:
            async with within(timeout_s):
                channel = await connection.channel(publisher_confirms=False)
                await channel.set_qos(prefetch_count=prefetch)
                subscription = Subscription(channel, await channel.get_queue(queue), timeout_s)
                await subscription.start()
        except BrokerError as error:
            if isinstance(error.__cause__, ChannelNotFoundEntity):
                raise missing(f"queue {queue}") from error
            raise
        yield subscription
    finally:
        await close(connection)

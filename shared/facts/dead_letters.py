"""Dead letters: messages that no try could handle, looked at, sent back to their consumer, or thrown away.

- A letter is named by its message id, which it keeps from its publishing on.
- Looking takes letters out and lets them fall back; whoever looks at the same time may miss them.
- A replay puts the letter into its own consumer's queue again, not to the exchange: the other consumers have done
  with it. It leaves the dead letters only when it is safe there, so a crash in between leaves it in both.
- What cannot be read is replayed all the same: a later release may be able to.
"""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import ChannelNotFoundEntity

from shared.facts.codec import unpack
from shared.facts.connection import CALL_S, BrokerError, open_channel, within
from shared.facts.topology import Subscriber, missing

LIST_LIMIT = 100
_BROKERS_OWN = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-count")


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One fact of a letter."""

    type: str
    account_id: UUID
    license_id: UUID
    version: int


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """`reason` is the broker's: `rejected` by the consumer, or `delivery_limit` when consumers died of it."""

    id: str
    queue: str
    reason: str
    died_at: datetime | None
    published_at: datetime | None
    bytes: int
    facts: tuple[Line, ...]
    unreadable: tuple[str, ...]


async def letters(url: str, subscriber: Subscriber, *, limit: int = LIST_LIMIT) -> list[Letter]:
    """The oldest dead letters of a consumer. Raises `BrokerError`, `TopologyError`."""
    async with _opened(url, subscriber) as (_, queue):
        return [_letter(message, subscriber) async for message in _taken(queue, limit)]


async def replay(url: str, subscriber: Subscriber, ids: Collection[str] | None = None) -> int:
    """Send the letters of these ids, or all, to their consumer again; returns how many. Raises as `letters`."""
    replayed = 0
    async with _opened(url, subscriber) as (channel, queue):
        async for message in _taken(queue, None):
            if ids is None or message.message_id in ids:
                async with within(CALL_S):
                    await channel.default_exchange.publish(_again(message), subscriber.queue, mandatory=True)
                    await message.ack()
                replayed += 1
    return replayed


async def drop(url: str, subscriber: Subscriber, ids: Collection[str] | None = None) -> int:
    """Throw the letters of these ids, or all, away; returns how many. Raises as `letters`."""
    dropped = 0
    async with _opened(url, subscriber) as (_, queue):
        async for message in _taken(queue, None):
            if ids is None or message.message_id in ids:
                async with within(CALL_S):
                    await message.ack()
                dropped += 1
    return dropped


@asynccontextmanager
async def _opened(url: str, subscriber: Subscriber) -> AsyncIterator[tuple[AbstractChannel, AbstractQueue]]:
    """Letters that were taken and not acknowledged fall back when this ends."""
    async with open_channel(url, name="seatkeeper dead letters") as channel:
        try:
            async with within(CALL_S):
                queue = await channel.get_queue(subscriber.dead_queue)
        except BrokerError as error:
            if isinstance(error.__cause__, ChannelNotFoundEntity):
                raise missing(f"queue {subscriber.dead_queue}") from error
            raise
        yield channel, queue


async def _taken(queue: AbstractQueue, limit: int | None) -> AsyncIterator[AbstractIncomingMessage]:
    """The letters that are there now; one that comes back meanwhile is not met again."""
    there = queue.declaration_result.message_count or 0
    for _ in range(there if limit is None else min(there, limit)):
        async with within(CALL_S):
            message = await queue.get(fail=False)
        if message is None:
            return
        yield message


def _letter(message: AbstractIncomingMessage, subscriber: Subscriber) -> Letter:
    facts, unreadable = unpack(message.body)
    reason, died_at = _death(message.headers.get("x-death"))
    return Letter(
        id=message.message_id or "",
        queue=subscriber.queue,
        reason=reason,
        died_at=died_at,
        published_at=message.timestamp,
        bytes=len(message.body),
        facts=tuple(
            Line(type=fact.type, account_id=fact.account_id, license_id=fact.license_id, version=fact.version)
            for fact in facts
        ),
        unreadable=tuple(unreadable),
    )


def _death(deaths: Any) -> tuple[str, datetime | None]:
    """Why and when, as the broker noted it last."""
    if not isinstance(deaths, Sequence) or not deaths or not isinstance(deaths[0], dict):
        return "unknown", None
    when = deaths[0].get("time")
    return str(deaths[0].get("reason", "unknown")), when if isinstance(when, datetime) else None


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

"""The transport of separate services: facts published to RabbitMQ.

- Facts are safe once the broker has confirmed that every queue they belong to holds them on most of its nodes. A
  message that belongs to no queue comes back (`mandatory`), and one that was refused or not confirmed in time counts
  as not safe: `publish` raises, and the relay hands all of it over again.
- One message at a time, the next only after the last was confirmed: a license's fact is never ahead of an earlier one.
- One publishing has a few seconds for everything, connecting included, for the relay holds a transaction meanwhile.
- After any trouble the connection is given up, and the next publishing makes another.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from uuid import uuid4

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractConnection

from shared.facts.codec import CONTENT_TYPE, Parcel, pack
from shared.facts.connection import BrokerError, close, connect, within
from shared.facts.topology import EXCHANGE
from shared.licensing.facts import SCHEMA

PUBLISH_S = 3.0

Trace = Callable[[], Mapping[str, str]]
"""The headers `traceparent` and `tracestate` of what is going on now, or nothing."""


def _no_trace() -> Mapping[str, str]:
    return {}


class Publisher:
    """A `Transport`. `trouble` is what went wrong with the last publishing, for `/readyz`; None when nothing did."""

    def __init__(self, url: str, *, name: str, timeout_s: float = PUBLISH_S, trace: Trace = _no_trace) -> None:
        self._url = url
        self._name = name
        self._timeout_s = timeout_s
        self._trace = trace
        self._turn = asyncio.Lock()
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self.trouble: str | None = None

    async def publish(self, facts: Sequence[str]) -> None:
        """Returns once all are safe. Raises `BrokerError` when some may not be."""
        parcels = pack(facts)
        async with self._turn:
            try:
                async with within(self._timeout_s):
                    exchange = await (await self._open()).get_exchange(EXCHANGE, ensure=False)
                    for parcel in parcels:
                        await exchange.publish(self._message(parcel), parcel.key, mandatory=True)
            except BaseException as error:
                self.trouble = str(error)
                await self._give_up()
                raise
            self.trouble = None

    async def close(self) -> None:
        async with self._turn:
            await self._give_up()

    async def _open(self) -> AbstractChannel:
        if self._channel is not None and not self._channel.is_closed:
            return self._channel
        await self._give_up()
        self._connection = await connect(self._url, name=f"{self._name} publishing", timeout_s=self._timeout_s)
        self._channel = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
        return self._channel

    async def _give_up(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            await close(connection)

    def _message(self, parcel: Parcel) -> Message:
        return Message(
            parcel.body,
            content_type=CONTENT_TYPE,
            delivery_mode=DeliveryMode.PERSISTENT,
            message_id=uuid4().hex,
            timestamp=datetime.now(UTC),
            type="facts",
            app_id=self._name,
            headers={"schema": SCHEMA, "facts": parcel.facts, **self._trace()},
        )


__all__ = ["BrokerError", "Publisher", "Trace"]

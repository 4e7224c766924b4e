"""What lies before a consumer while one connection lasts: messages that arrived, and those put aside for another try.

- One message at a time; one that failed is put aside, so that it holds up no other, and taken up again when due.
- An answer (acknowledged, or to the dead letters) is given after the handler has returned, and never before.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress

import msgspec
import structlog

from shared.facts.handling import Handling, Held, Outcome
from shared.facts.subscription import Subscription

_log = structlog.get_logger()

FINISH_S = 5.0

Around = Callable[[Mapping[str, object]], AbstractContextManager[object]]
"""Surrounds the handling of a message. Its headers may hold `traceparent` and `tracestate`."""


class Tally(msgspec.Struct, kw_only=True):
    """What a consumer has done since it was made. `dead` are messages that it gave up."""

    messages: int = 0
    facts: int = 0
    failures: int = 0
    dead: int = 0
    connections: int = 0


class Desk:
    """Made for each connection anew: what was put aside is the broker's to deliver again."""

    def __init__(self, subscription: Subscription, handling: Handling, tally: Tally, around: Around) -> None:
        self._subscription = subscription
        self._handling = handling
        self._tally = tally
        self._around = around
        self._aside: list[Held] = []

    async def work(self, stop: asyncio.Event, *, watch_every_s: float) -> None:
        """Until told to stop. `stop` rings the subscription's bell too. Raises `BrokerError` once that is dead."""
        loop = asyncio.get_running_loop()
        watch_at = loop.time() + watch_every_s
        while not stop.is_set():
            self._subscription.bell.clear()
            self._subscription.ensure_alive()
            if (held := self._next(loop.time())) is not None:
                await self._attempt(held)
            elif loop.time() >= watch_at:
                await self._subscription.watch(idle=not self._aside)
                watch_at = loop.time() + watch_every_s
            else:
                next_at = min([watch_at, *(held.due for held in self._aside)])
                await rest(self._subscription.bell, next_at - loop.time())

    async def finish(self) -> None:
        """Take no more, handle what had arrived, and give back what was put aside."""
        deadline = asyncio.get_running_loop().time() + FINISH_S
        arrived = self._subscription.arrived
        await self._subscription.refuse_more()
        while arrived and asyncio.get_running_loop().time() < deadline:
            await self._attempt(Held(arrived.popleft()))
        for message in (*(held.message for held in self._aside), *arrived):
            await self._subscription.give_back(message)

    def _next(self, now: float) -> Held | None:
        """A message that is due to be tried again, or the one that arrived first."""
        for held in self._aside:
            if held.due <= now:
                self._aside.remove(held)
                return held
        arrived = self._subscription.arrived
        return Held(arrived.popleft()) if arrived else None

    async def _attempt(self, held: Held) -> None:
        facts = len(held.left)
        with self._around(held.message.headers):
            outcome = await self._handling.attempt(held)
        self._tally.facts += facts - len(held.left)
        if outcome is Outcome.DONE:
            await self._subscription.ack(held.message)
            self._tally.messages += 1
        elif outcome is Outcome.LATER:
            self._tally.failures += 1
            held.due = asyncio.get_running_loop().time() + held.retry_in_s
            self._aside.append(held)
            if held.failures == 1 or not held.excused:  # an outage is told once for each message in hand
                _tell("facts.failed", held)
        else:
            _tell("facts.dead", held)
            await self._subscription.bury(held.message)
            self._tally.dead += 1


async def rest(until: asyncio.Event, seconds: float) -> None:
    """Until it is set, or so many seconds have passed."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await until.wait()


def _tell(event: str, held: Held) -> None:
    _log.warning(
        event,
        message=held.message.message_id,
        key=held.message.routing_key,
        tries=held.tries,
        error=None if held.error is None else repr(held.error),
        left=len(held.left),
        unreadable=held.unreadable[:3],
    )

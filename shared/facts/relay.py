"""The relay: carries committed facts from the outbox to the transport, woken by each commit.

`take(publish)` hands the oldest unsent facts to `publish` and marks them only when it returned; it says how many.
After fewer than `full` the outbox is empty, and the next turn waits a moment: under load more facts share a message,
and a relay that only looks whether others left something leaves it to those who are woken.
Failures are logged and tried again, ever more slowly up to five seconds; facts wait safely in the outbox.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence

import structlog

from shared.facts.desk import rest
from shared.facts.transport import Transport

_log = structlog.get_logger()

GATHER_S = 0.01
IDLE_S = 0.5
SLOWEST_S = 5.0
CLEAR_EVERY_S = 60.0

Take = Callable[[Callable[[Sequence[str]], Awaitable[None]]], Awaitable[int]]


class Relay:
    """`woken` is set by each commit; `clear` removes what was sent long ago."""

    def __init__(
        self,
        *,
        take: Take,
        full: int,
        transport: Transport,
        clear: Callable[[], Awaitable[None]],
        woken: asyncio.Event,
    ) -> None:
        self._take = take
        self._full = full
        self._transport = transport
        self._clear = clear
        self._woken = woken

    async def drain(self) -> None:
        """Hand over everything that is unsent now."""
        while await self._take(self._transport.publish) >= self._full:
            pass

    async def run(self, stop: asyncio.Event) -> None:
        """Carry facts until told to stop; what is committed by then is tried once more."""
        loop = asyncio.get_running_loop()
        failures, clear_at = 0, loop.time() + CLEAR_EVERY_S
        while not stop.is_set():
            await self._rest(stop, failures)
            self._woken.clear()
            try:
                await self.drain()
                if loop.time() >= clear_at:
                    clear_at = loop.time() + CLEAR_EVERY_S
                    await self._clear()
                failures = 0
            except Exception as error:
                failures += 1
                _log.warning("relay.failed", error=repr(error), failures=failures)

    async def _rest(self, stop: asyncio.Event, failures: int) -> None:
        """A moment, then until something was committed or a while has passed; after a failure a while in any case."""
        if failures:
            slowest_s = min(SLOWEST_S, 0.2 * 2 ** min(failures, 16))
            await rest(stop, random.uniform(0.1, slowest_s))  # noqa: S311 - jitter
            return
        await rest(stop, GATHER_S)
        waits = [asyncio.ensure_future(event.wait()) for event in (stop, self._woken)]
        await asyncio.wait(waits, timeout=IDLE_S, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

"""A consumer: takes one queue's messages to a handler for as long as the service runs.

- A crash between the handler's return and the answer delivers the message again: facts come at least once. Handlers
  are called one at a time and never cancelled. While nothing fails they see a license's facts in order; when
  something did, or several consumers share a queue, not.
- Failures and dead letters: see `handling.py`. Lost and silently dead connections: see `subscription.py`. After any
  such trouble it connects anew, ever more slowly up to ten seconds, with jitter.
- Told to stop, it takes no more, finishes what had arrived, and gives back what waits for another try.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext

import structlog

from shared.facts.connection import CALL_S
from shared.facts.desk import Around, Desk, Tally, rest
from shared.facts.handling import AWAY, Handling, Pace
from shared.facts.subscription import subscribed
from shared.facts.topology import Subscriber
from shared.facts.transport import Receive

__all__ = ["AWAY", "Around", "Consumer", "Pace", "Tally"]

_log = structlog.get_logger()

PREFETCH = 8
WATCH_EVERY_S = 10.0
STEADY_S = 10.0
SLOWEST_S = 10.0


class Consumer:
    """`trouble` is what keeps it from consuming now, for `/readyz`; None when nothing does.

    `away` are the exceptions by which the handler says that something it needs cannot be reached.
    """

    def __init__(
        self,
        url: str,
        subscriber: Subscriber,
        handle: Receive,
        *,
        away: tuple[type[Exception], ...] = AWAY,
        prefetch: int = PREFETCH,
        pace: Pace | None = None,
        watch_every_s: float = WATCH_EVERY_S,
        timeout_s: float = CALL_S,
        around: Around = nullcontext,
    ) -> None:
        self._url = url
        self._queue = subscriber.queue
        self._handling = Handling(handle, away=away, pace=pace or Pace())
        self._prefetch = prefetch
        self._watch_every_s = watch_every_s
        self._timeout_s = timeout_s
        self._around = around
        self.tally = Tally()
        self.trouble: str | None = "not connected yet"

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until told to stop."""
        loop = asyncio.get_running_loop()
        failures = 0
        while not stop.is_set():
            began = loop.time()
            try:
                await self._consume(stop)
            except Exception as error:
                self.trouble = str(error)
                failures = 1 if loop.time() - began > STEADY_S else failures + 1
                _log.warning("facts.consumer_lost", queue=self._queue, error=repr(error), failures=failures)
                await rest(stop, random.uniform(0.1, min(SLOWEST_S, 0.2 * 2.0 ** min(failures, 10))))  # noqa: S311

    async def _consume(self, stop: asyncio.Event) -> None:
        async with (
            subscribed(self._url, self._queue, prefetch=self._prefetch, timeout_s=self._timeout_s) as subscription,
            _rung_by(stop, subscription.bell),
        ):
            self.trouble = None
            self.tally.connections += 1
            desk = Desk(subscription, self._handling, self.tally, self._around)
            await desk.work(stop, watch_every_s=self._watch_every_s)
            await desk.finish()


@asynccontextmanager
async def _rung_by(stop: asyncio.Event, bell: asyncio.Event) -> AsyncIterator[None]:
    """Have `stop` ring the bell too."""
    waiting = asyncio.ensure_future(stop.wait())
    waiting.add_done_callback(lambda _: bell.set())
    try:
        yield
    finally:
        waiting.cancel()

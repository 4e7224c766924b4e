"""The reaper's loop: a pass now and then until told to stop; what fails is told and tried at the next.

Between passes the breakers look every few seconds, so that a clock that steps halts more than the next pass. Once an
hour it keeps house: counts of contacts and offline files that are too old go, and the trail gets its coming months.
"""

import asyncio
import random
from time import monotonic

import structlog

from services.reaper.guard import Guard
from services.reaper.reap import Reap
from shared.ledger.chain import Stamp
from shared.ledger.connections import Pool, UnavailableError
from shared.ledger.contact_counts import clear_contacts
from shared.ledger.halts import Cause, Look
from shared.ledger.offline import clear_files
from shared.ledger.trail import keep_partitions
from shared.runtime.background import pause
from shared.runtime.metrics import Metrics

_log = structlog.get_logger()

LOOK_EVERY_S = 5.0
HOUSE_EVERY_S = 3600.0


class Worker:
    def __init__(
        self,
        reap: Reap,
        guard: Guard,
        pool: Pool,
        metrics: Metrics,
        stamp: Stamp,
        *,
        interval_s: float,
        retention_days: int | None = None,
    ) -> None:
        self._reap = reap
        self._guard = guard
        self._pool = pool
        self._stamp = stamp
        self._interval_s = interval_s
        self._retention_days = retention_days
        self._house_due = monotonic()
        self._freed = metrics.counter("reaper_freed", "Devices whose seats were freed.")
        self._announced = metrics.counter("reaper_announced", "Leases announced as about to end.")
        self._failed = metrics.counter("reaper_failed", "Commands that failed and wait for the next pass.")
        self._left_alone = metrics.gauge("reaper_left_alone", "Devices that were due and left alone by the last pass.")
        self._last_pass = metrics.gauge("reaper_last_pass_seconds", "How long the last whole pass took.")
        halted = metrics.gauge("reaper_halted", "Halts that stand: of the whole reaper or of accounts.", ["cause"])
        self._halted = {cause: halted.labels(cause.value) for cause in Cause}

    async def run(self, stop: asyncio.Event) -> None:
        """Pass after pass until told to stop; a pass that runs then ends with its page."""
        while not stop.is_set():
            await self._pass(stop)
            await self._keep_house()
            await self._wait(stop, self._interval_s * random.uniform(0.9, 1.1))  # noqa: S311 - jitter

    async def _wait(self, stop: asyncio.Event, seconds: float) -> None:
        until = monotonic() + seconds
        while (left_s := until - monotonic()) > 0 and not stop.is_set():
            await self._look()
            await pause(stop, min(left_s, LOOK_EVERY_S))

    async def _pass(self, stop: asyncio.Event) -> None:
        began = monotonic()
        try:
            done = await self._reap(stop)
        except UnavailableError:
            _log.warning("reaper.postgres_away")
            return
        except Exception:
            _log.exception("reaper.pass_failed")
            return
        self._last_pass.set(monotonic() - began)
        self._freed.inc(done.freed)
        self._announced.inc(done.announced)
        self._failed.inc(done.failed)
        self._left_alone.set(done.left_alone)
        if done.looked_at:
            _log.info("reaper.pass", looked_at=done.looked_at, announced=done.announced, freed=done.freed)

    async def _look(self) -> None:
        try:
            self._show(await self._guard.look())
        except UnavailableError:
            _log.warning("reaper.postgres_away")
        except Exception:
            _log.exception("reaper.look_failed")

    def _show(self, look: Look) -> None:
        halts = [one.cause for one in look.standings.values() if one.halted]
        for cause, gauge in self._halted.items():
            gauge.set(halts.count(cause))

    async def _keep_house(self) -> None:
        if monotonic() < self._house_due:
            return
        try:
            await clear_contacts(self._pool)
            await clear_files(self._pool)
            await keep_partitions(self._pool, self._stamp, retention_days=self._retention_days)
        except UnavailableError:
            return  # as the pass has told
        except Exception:
            _log.exception("reaper.keeping_house_failed")
        self._house_due = monotonic() + HOUSE_EVERY_S

"""The reaper's loop: a pass now and then until told to stop; what fails is told and tried at the next."""

import asyncio
import random
from time import monotonic

import structlog

from services.reaper.reap import Reap
from shared.ledger.connections import UnavailableError
from shared.runtime.background import pause
from shared.runtime.metrics import Metrics

_log = structlog.get_logger()


class Worker:
    def __init__(self, reap: Reap, metrics: Metrics, *, interval_s: float) -> None:
        self._reap = reap
        self._interval_s = interval_s
        self._freed = metrics.counter("reaper_freed", "Devices whose seats were freed.")
        self._announced = metrics.counter("reaper_announced", "Leases announced as about to end.")
        self._failed = metrics.counter("reaper_failed", "Commands that failed and wait for the next pass.")
        self._last_pass = metrics.gauge("reaper_last_pass_seconds", "How long the last whole pass took.")

    async def run(self, stop: asyncio.Event) -> None:
        """Pass after pass until told to stop; a pass that runs then ends with its page."""
        while not stop.is_set():
            await self._pass(stop)
            await pause(stop, self._interval_s * random.uniform(0.9, 1.1))  # noqa: S311 - jitter

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
        if done.looked_at:
            _log.info("reaper.pass", looked_at=done.looked_at, announced=done.announced, freed=done.freed)

"""The pulse: once a second a reading of the database's clock, and the watermark in Redis."""

import asyncio

import structlog

from shared.ledger.clock import Clock
from shared.ledger.connections import UnavailableError
from shared.runtime.background import pause
from shared.seats.watermark import Watermark

_log = structlog.get_logger()

INTERVAL_S = 1.0


async def beat(clock: Clock, watermark: Watermark) -> None:
    """One pulse. With Postgres away the clock goes on from its last reading and Redis is left as it is."""
    try:
        await clock.read()
        await watermark.keep(now=clock.now(), epoch=lambda: clock.epoch)
    except UnavailableError:
        _log.warning("pulse.postgres_away")


async def run_pulse(clock: Clock, watermark: Watermark, stop: asyncio.Event) -> None:
    """Beat until told to stop."""
    while not stop.is_set():
        await pause(stop, INTERVAL_S)
        try:
            await beat(clock, watermark)
        except Exception:
            _log.exception("pulse.failed")

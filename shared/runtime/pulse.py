"""The pulse: once a second a reading of the database's clock, the watermark in Redis, and what was not pushed there.

Every ten seconds, and at the end, contacts are added to their count.
"""

import asyncio

import structlog

from shared.ledger.clock import Clock
from shared.ledger.connections import UnavailableError
from shared.ledger.contact_counts import ContactCounts
from shared.runtime.background import pause
from shared.seats.projection import Projection
from shared.seats.watermark import Watermark

_log = structlog.get_logger()

INTERVAL_S = 1.0
COUNT_EVERY_S = 10.0


async def beat(clock: Clock, watermark: Watermark, projection: Projection) -> None:
    """One pulse. While Postgres cannot be asked the clock goes on from its last reading and Redis is left as it is."""
    try:
        await clock.read()
        await watermark.keep(now=clock.now(), epoch=lambda: clock.epoch, timeline=clock.timeline)
        await projection.repair()
    except UnavailableError:
        _log.warning("pulse.postgres_away")
    except Exception as error:  # such as a database without its tables: `/readyz` tells what it lacks
        _log.warning("pulse.failed", error=repr(error))


async def run_pulse(clock: Clock, watermark: Watermark, projection: Projection, stop: asyncio.Event) -> None:
    """Beat until told to stop."""
    while not stop.is_set():
        await pause(stop, INTERVAL_S)
        await beat(clock, watermark, projection)


async def run_counts(counts: ContactCounts, stop: asyncio.Event) -> None:
    """Count until told to stop. What could not be added waits for the next time."""
    while not stop.is_set():
        await pause(stop, COUNT_EVERY_S)
        try:
            await counts.add()
        except Exception as error:
            _log.warning("pulse.contacts_not_counted", error=repr(error))

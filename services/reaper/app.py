"""The wiring of the reaper: its pass, its loop and the sealer's on the shared resources.

A pass has a ledger of its own on the same pool: its batches are larger, and nobody else's commands wait behind them.
"""

from services.reaper.floating import FloatingLeases
from services.reaper.guard import Guard
from services.reaper.reap import Reap
from services.reaper.sealing import Sealing
from services.reaper.settings import Reaper, Settings
from services.reaper.worker import Worker
from shared.ledger.ledger import Ledger
from shared.ledger.sealing import Sealer
from shared.runtime.resources import Resources

BATCH_LIMIT = 256
"""Larger ones free no more in a second, and licenses are held for longer."""


def reap(resources: Resources, settings: Reaper) -> Reap:
    return _reap(resources, settings, _guard(resources))


def worker(resources: Resources, settings: Settings) -> Worker:
    guard = _guard(resources)
    return Worker(
        _reap(resources, settings.reaper, guard),
        guard,
        resources.pool,
        resources.metrics,
        resources.trail_stamp,
        interval_s=settings.reaper.interval_s,
        retention_days=settings.audit.retention_days,
    )


def floating(resources: Resources) -> FloatingLeases:
    return FloatingLeases(resources.pool, resources.ledger, resources.clock)


def sealing(resources: Resources) -> Sealing:
    return Sealing(Sealer(resources.pool, resources.trail_stamp), resources.metrics)


def _guard(resources: Resources) -> Guard:
    return Guard(resources.pool, clock_may_jump=resources.testing.simulated_clock)


def _reap(resources: Resources, settings: Reaper, guard: Guard) -> Reap:
    ledger = Ledger(
        resources.pool, after_commit=resources.after_commit, batch_limit=BATCH_LIMIT, queue_limit=2 * settings.page
    )
    return Reap(resources.pool, ledger, guard, page=settings.page)

"""The wiring of the reaper: its pass and its loop on the shared resources."""

from services.reaper.floating import FloatingLeases
from services.reaper.reap import Reap
from services.reaper.settings import Reaper
from services.reaper.worker import Worker
from shared.runtime.resources import Resources


def reap(resources: Resources, settings: Reaper) -> Reap:
    return Reap(resources.pool, resources.ledger, page=settings.page)


def worker(resources: Resources, settings: Reaper) -> Worker:
    return Worker(reap(resources, settings), resources.metrics, interval_s=settings.interval_s)


def floating(resources: Resources) -> FloatingLeases:
    return FloatingLeases(resources.pool, resources.ledger, resources.clock)

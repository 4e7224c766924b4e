"""The wiring of heartbeat: use case, routes, receiver of facts and work beside, on the shared resources."""

from services.heartbeat.handlers import Handlers
from services.heartbeat.heartbeat import Heartbeat
from services.heartbeat.projector import Projector
from services.heartbeat.settings import Settings
from shared.facts.topology import PROJECTOR
from shared.runtime.background import Work
from shared.runtime.facts import Subscription
from shared.runtime.reconciliation import Reconciler
from shared.runtime.resources import Resources
from shared.runtime.sections import Reconciliation
from shared.seats.inspection import Inspection
from shared.web.routes import Route


def routes(resources: Resources) -> list[Route]:
    r = resources
    heartbeat = Heartbeat(
        r.device_tokens, r.contacts, r.refusals, r.holders, r.ledger, r.issuer, r.clock, r.limits.heartbeats
    )
    return Handlers(heartbeat, r.clock, r.limits).routes()


def projector(resources: Resources) -> Projector:
    return Projector(resources.projection)


def wanted(resources: Resources) -> list[Subscription]:
    return [(PROJECTOR, projector(resources))]


def reconcilers(resources: Resources, settings: Reconciliation) -> list[Work]:
    """The work of comparing Redis with Postgres; none where it is switched off."""
    if not settings.licenses_per_s:
        return []
    r = resources
    inspection = Inspection(r.redis, lambda: r.clock.epoch)
    return [Reconciler(r.pool, inspection, r.projection, r.metrics, settings).run]


def beside(resources: Resources, settings: Settings) -> list[Work]:
    return reconcilers(resources, settings.reconciliation)

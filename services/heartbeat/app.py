"""The wiring of heartbeat: its use case on the shared resources, its route, its receiver of facts."""

from services.heartbeat.handlers import Handlers
from services.heartbeat.heartbeat import Heartbeat
from services.heartbeat.projector import Projector
from shared.facts.topology import PROJECTOR
from shared.runtime.facts import Subscription
from shared.runtime.resources import Resources
from shared.web.endpoints import Route


def routes(resources: Resources) -> list[Route]:
    r = resources
    heartbeat = Heartbeat(r.device_tokens, r.projection, r.refusals, r.ledger, r.issuer, r.clock)
    return Handlers(heartbeat, r.clock).routes()


def projector(resources: Resources) -> Projector:
    return Projector(resources.projection)


def wanted(resources: Resources) -> list[Subscription]:
    return [(PROJECTOR, projector(resources))]

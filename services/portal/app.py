"""The wiring of the portal. It serves its probes; the management API will call the use cases of this folder."""

from shared.runtime.resources import Resources
from shared.web.endpoints import Route


def routes(_resources: Resources) -> list[Route]:
    return []

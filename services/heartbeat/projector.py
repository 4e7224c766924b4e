"""The projector: applies facts to Redis, so that facts alone repair what a lost push left behind."""

from collections.abc import Sequence

from shared.licensing.facts import Fact, change_of
from shared.seats.projection import Projection


class Projector:
    def __init__(self, projection: Projection) -> None:
        self._projection = projection

    async def __call__(self, facts: Sequence[Fact]) -> None:
        """Idempotent and free of order: what is older than Redis's version changes nothing there."""
        await self._projection.push([change_of(fact) for fact in facts])

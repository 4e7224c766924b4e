"""Refusals that Postgres confirmed a moment ago, so that a crowd of the refused does not ask it again.

A refusal stands for the version at which it was decided and for a second at most: it is given again only while
Redis still shows that version.
"""

import time
from collections import OrderedDict
from uuid import UUID

from shared.licensing.model import Refused

LIFE_S = 1.0
LIMIT = 50_000

Asker = tuple[UUID, UUID, int]
"""(license id, device id, generation)."""


class Refusals:
    def __init__(self) -> None:
        self._kept: OrderedDict[Asker, tuple[int, float, Refused]] = OrderedDict()

    def keep(self, asker: Asker, version: int, refused: Refused) -> None:
        self._kept[asker] = (version, time.monotonic() + LIFE_S, refused)
        self._kept.move_to_end(asker)
        if len(self._kept) > LIMIT:
            self._kept.popitem(last=False)

    def find(self, asker: Asker, version: int) -> Refused | None:
        """The refusal that still stands at `version`, if any."""
        kept = self._kept.get(asker)
        if kept is None:
            return None
        kept_version, until, refused = kept
        if kept_version != version or time.monotonic() >= until:
            del self._kept[asker]
            return None
        return refused

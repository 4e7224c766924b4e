"""Refusals that Postgres confirmed a moment ago, so that a crowd of the refused does not ask it again.

A refusal stands for the version at which it was decided and for a second at most: it is given again only while
Redis still shows that version. What was refused for something that the request said is not kept: the next says other.
"""

import time
from collections import OrderedDict
from uuid import UUID

from shared.licensing.codes import Code
from shared.licensing.model import License, Refused

LIFE_S = 1.0
LIMIT = 50_000

OF_THE_REQUEST = frozenset({Code.VERSION_NOT_SUPPORTED, Code.ENTITLEMENT_MISSING, Code.CLONE_SUSPECTED})

Asker = tuple[UUID, UUID, int]
"""(license id, device id, generation)."""


class Refusals:
    def __init__(self) -> None:
        self._kept: OrderedDict[Asker, tuple[float, License, Refused]] = OrderedDict()

    def keep(self, asker: Asker, license: License, refused: Refused) -> None:
        if refused.code in OF_THE_REQUEST:
            return
        self._kept[asker] = (time.monotonic() + LIFE_S, license, refused)
        self._kept.move_to_end(asker)
        if len(self._kept) > LIMIT:
            self._kept.popitem(last=False)

    def find(self, asker: Asker, version: int) -> tuple[License, Refused] | None:
        """The refusal that still stands at `version`, if any, and the license as it was decided."""
        kept = self._kept.get(asker)
        if kept is None:
            return None
        until, license, refused = kept
        if license.version != version or time.monotonic() >= until:
            del self._kept[asker]
            return None
        return license, refused

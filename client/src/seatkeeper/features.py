"""`seatkeeper.require("export")` anywhere in a program: the client that was opened last is asked."""

from typing import Protocol

from seatkeeper.errors import EntitlementMissing
from seatkeeper.texts import Sentence


class Licensed(Protocol):
    def require(self, feature: str) -> int | None: ...


_open: list[Licensed] = []


def require(feature: str) -> int | None:
    """The limit that the license sets for a feature, or None where it sets none.

    Raises `EntitlementMissing` where the license does not cover it, is not in force, or no client is open.
    """
    if not _open:
        raise EntitlementMissing(Sentence("error.entitlement.not_open"))
    return _open[-1].require(feature)


def opened(client: Licensed) -> None:
    _open.append(client)


def closed(client: Licensed) -> None:
    _open[:] = [other for other in _open if other is not client]

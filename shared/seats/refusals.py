"""Refusals that Postgres confirmed a moment ago, so that a crowd of the refused does not ask it again.

A refusal stands for the version at which it was decided and for a second at most: it is given again only while
Redis still shows that version. What was refused for something that the request said is not kept: the next says other.

That a license was full is no refusal that is given again, but a reason to look before asking for its lock.
"""

import time
from collections import OrderedDict
from uuid import UUID

from shared.licensing.codes import Code
from shared.licensing.model import Approval, License, Refused

LIFE_S = 1.0
LIMIT = 50_000
FULL_LIMIT = 10_000
FULL_LIFE_S = 10.0
"""The look-up sees all that changes but what is changed by hand: a policy."""

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


Wish = tuple[bytes, str | None, tuple[str, ...]]
"""What a device without an activation token asks for: (the 32 bytes of account's and license's id, the application's
version, the entitlements without which it is of no use)."""


class FullLicenses:
    """Licenses as the ledger found them full, so that `Reader.still_full` may refuse the next device.

    The ledger would refuse it too. What it looks at before the seats is the license, whose every change raises the
    version, what the application asks, which is the same here, and the device, of which there is nothing to know; a
    token and a list of allowed devices are for the ledger alone.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[Wish, tuple[float, License]] = OrderedDict()

    def keep(self, wish: Wish, license: License, refused: Refused) -> None:
        if refused.code is not Code.DEVICE_LIMIT_EXCEEDED or license.terms.approval is not Approval.AUTOMATIC:
            return
        self._kept[wish] = (time.monotonic() + FULL_LIFE_S, license)
        self._kept.move_to_end(wish)
        if len(self._kept) > FULL_LIMIT:
            self._kept.popitem(last=False)

    def find(self, wish: Wish) -> License | None:
        """The license as it was found full for a device that asked the same."""
        kept = self._kept.get(wish)
        if kept is None:
            return None
        until, license = kept
        if time.monotonic() >= until:
            del self._kept[wish]
            return None
        return license

"""Who holds the seats of a license, for a device that finds none free, where the policy lets it know.

It is a courtesy beside a refusal that stands anyway: when it cannot be read, it is left out.
"""

from collections.abc import Sequence

from shared.batching import Batcher, OverloadedError
from shared.ledger.connections import UnavailableError
from shared.ledger.reader import Holder, LicenseRef, Reader
from shared.licensing.model import License

HOLDERS_LIMIT = 20


class Holders:
    """Call it with a license: the devices whose leases end first, or None where they are not to be told."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._asked: Batcher[LicenseRef, list[Holder]] = Batcher(self._read_all)

    async def __call__(self, license: License) -> list[Holder] | None:
        if not license.terms.show_holders:
            return None
        try:
            return await self._asked.ask((license.account_id, license.id))
        except (UnavailableError, OverloadedError):
            return None

    async def _read_all(self, refs: Sequence[LicenseRef]) -> list[list[Holder]]:
        return await self._reader.holders(refs, limit=HOLDERS_LIMIT)

"""Look-ups: what an account has, and how one license came to stand as it does. Lists come in pages.

What is asked of a license that is not in the account raises `LicenseNotFoundError`.
"""

from datetime import datetime
from uuid import UUID

import msgspec

from shared.ledger.catalog import FIRST, Catalog, CatalogError, LicenseRow
from shared.ledger.ledger import LicenseNotFoundError
from shared.ledger.reader import LicenseRef, Reader, TrailEntry
from shared.licensing.model import Device, DeviceState, License
from shared.runtime.keystore import Keystore
from shared.signing.keys import PublicJwk, public_jwk

DEVICES_SHOWN = 100
TRAIL_SHOWN = 20


class LicenseDetail(msgspec.Struct, frozen=True, kw_only=True):
    """A license with its first `DEVICES_SHOWN` devices and the newest `TRAIL_SHOWN` entries of its trail."""

    row: LicenseRow
    license: License
    devices: list[Device]
    trail: list[TrailEntry]


class Trail(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a license's trail. `kept_from` is its first version; one without entries begins with the next change.

    Versions have no gap, so what lies between the page asked for and `kept_from` went with its month.
    """

    entries: list[TrailEntry]
    kept_from: int


class Lookups:
    def __init__(self, catalog: Catalog, reader: Reader, keystore: Keystore) -> None:
        self._catalog = catalog
        self._reader = reader
        self._keystore = keystore

    async def require_account(self, account_id: UUID) -> None:
        """Make sure of the account and, by opening its keys, that these are the master secrets it was made under.

        With others, what is made here would be hashed under a pepper that no service holds.
        Raises `CatalogError` and `BrokenSealError`.
        """
        await self.root_key(account_id)

    async def root_key(self, account_id: UUID) -> PublicJwk:
        """The key that the account's clients pin. Raises `CatalogError`."""
        keys = await self._keystore.account(account_id)
        if keys is None:
            raise CatalogError("no such account")
        return public_jwk(keys.root.public_key)

    async def accounts(self, *, limit: int, after: UUID = FIRST) -> list[tuple[UUID, str, datetime]]:
        """(id, name, when it was made) of each account."""
        return await self._catalog.accounts(limit=limit, after=after)

    async def licenses(self, account_id: UUID, *, limit: int, after: UUID = FIRST) -> list[LicenseRow]:
        return await self._catalog.licenses(account_id, limit=limit, after=after)

    async def license(self, ref: LicenseRef) -> LicenseDetail:
        license = await self._license(ref)
        row = await self._catalog.license(ref)
        assert row is not None  # licenses are never deleted
        newest = max(0, license.version - TRAIL_SHOWN)  # each entry has raised the version by one
        return LicenseDetail(
            row=row,
            license=license,
            devices=await self.devices(ref, limit=DEVICES_SHOWN),
            trail=await self._reader.trail(ref, after_version=newest, limit=TRAIL_SHOWN),
        )

    async def devices(self, ref: LicenseRef, *, limit: int, after: UUID = FIRST) -> list[Device]:
        """The license's devices in the order of their ids, whatever their state."""
        await self._license(ref)
        return await self._reader.devices(ref, states=list(DeviceState), after=after, limit=limit)

    async def trail(self, ref: LicenseRef, *, limit: int, after_version: int = 0) -> Trail:
        """The license's audited changes in their order."""
        license = await self._license(ref)
        entries = await self._reader.trail(ref, after_version=after_version, limit=limit)
        return Trail(entries=entries, kept_from=entries[0].version if entries else license.version + 1)

    async def _license(self, ref: LicenseRef) -> License:
        license = await self._reader.license(ref)
        if license is None:
            raise LicenseNotFoundError
        return license

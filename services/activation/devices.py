"""A license holder's own devices, a page at a time."""

from collections.abc import Sequence
from uuid import UUID

import msgspec

from services.activation.access import Access, Denied
from shared.ledger.reader import Reader
from shared.licensing.codes import Code
from shared.licensing.model import Device, DeviceState, License


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Devices in the order of their ids. `more` tells that others follow the last."""

    license: License
    devices: list[Device]
    more: bool


class Devices:
    def __init__(self, access: Access, reader: Reader) -> None:
        self._access = access
        self._reader = reader

    async def __call__(
        self, key: str, address: bytes, *, states: Sequence[DeviceState], after: UUID, limit: int
    ) -> Page | Denied:
        ref = await self._access.by_key(key, address)
        if isinstance(ref, Denied):
            return ref
        await self._access.admit(ref)
        license = await self._reader.license(ref)
        if license is None:
            return Denied(code=Code.LICENSE_KEY_INVALID)
        devices = await self._reader.devices(ref, states=states, after=after, limit=limit + 1)
        return Page(license=license, devices=devices[:limit], more=len(devices) > limit)

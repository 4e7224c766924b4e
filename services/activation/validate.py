"""Validate: is this key good, and does this device hold a seat of it?

Redis may say yes; every no is confirmed in Postgres, by one look-up for all who ask at the same time. With a
fingerprint it is a contact: it extends the device's lease like a heartbeat.
"""

from uuid import UUID

import msgspec

from services.activation.access import Access, Denied
from shared.ledger.clock import Clock
from shared.ledger.ledger import Ledger
from shared.ledger.reader import LicenseRef, Reader
from shared.licensing.codes import Code
from shared.licensing.leases import is_expired
from shared.licensing.model import (
    Change,
    DeviceState,
    Extend,
    Granted,
    License,
    LicenseStatus,
    Refused,
    device_id,
)
from shared.seats.projection import Projection
from shared.seats.refusals import Refusals

VALID = "VALID"
NOT_ACTIVATED = "DEVICE_NOT_ACTIVATED"


class Validity(msgspec.Struct, frozen=True, kw_only=True):
    """The answer. `refused` is set where it is one that stands for 401 or 403."""

    valid: bool
    code: str
    full: bool = False
    limit: int | None = None
    used: int | None = None
    refused: Code | None = None
    denied: Denied | None = None


class Validation:
    def __init__(
        self,
        access: Access,
        projection: Projection,
        refusals: Refusals,
        reader: Reader,
        ledger: Ledger,
        clock: Clock,
    ) -> None:
        self._access = access
        self._projection = projection
        self._refusals = refusals
        self._reader = reader
        self._ledger = ledger
        self._clock = clock

    async def __call__(self, key: str, fingerprint: str | None) -> Validity:
        ref = await self._access.by_key(key)
        if isinstance(ref, Denied):
            return Validity(valid=False, code=ref.code, refused=ref.code, denied=ref)
        if fingerprint is None:
            return await self._license(ref)
        return await self._device(ref, device_id(ref[1], fingerprint))

    async def _license(self, ref: LicenseRef) -> Validity:
        standing = await self._projection.standing(*ref)
        if standing is not None and standing.serves(self._clock.now_s()):
            return Validity(
                valid=True, code=VALID, full=standing.full, limit=standing.seats_limit, used=standing.seats_used
            )
        license = await self._reader.license(ref)
        if license is None:
            return Validity(valid=False, code=Code.LICENSE_KEY_INVALID, refused=Code.LICENSE_KEY_INVALID)
        await self._projection.push([Change(license=license, base_version=license.version)])
        return self._standing_of(license)

    async def _device(self, ref: LicenseRef, device: UUID) -> Validity:
        seen = await self._projection.contact(*ref, device, 0)
        if seen.floor_s is not None and (standing := seen.standing) is not None:
            return Validity(
                valid=True, code=VALID, full=standing.full, limit=standing.seats_limit, used=standing.seats_used
            )
        version = seen.standing.version if seen.standing else None
        kept = self._refusals.find((ref[1], device, 0), version) if version is not None else None
        if kept is not None and (license := await self._reader.license(ref)) is not None:
            return self._refusal_of(license, kept)
        decision = await self._ledger.submit(
            Extend(account_id=ref[0], license_id=ref[1], actor="device", device_id=device)
        )
        if isinstance(decision.answer, Granted):
            return self._standing_of(decision.license)
        self._refusals.keep((ref[1], device, 0), decision.license.version, decision.answer)
        return self._refusal_of(decision.license, decision.answer)

    def _standing_of(self, license: License, code: str = VALID) -> Validity:
        """The license's own standing: of a suspended, revoked or expired one it is a plain `valid: false`."""
        fault = {LicenseStatus.SUSPENDED: Code.LICENSE_SUSPENDED, LicenseStatus.REVOKED: Code.LICENSE_REVOKED}.get(
            license.status
        )
        if fault is None and is_expired(license, self._clock.now()):
            fault = Code.LICENSE_EXPIRED
        return Validity(
            valid=fault is None,
            code=fault or code,
            full=license.full,
            limit=license.seats_limit,
            used=license.seats_used,
        )

    def _refusal_of(self, license: License, refused: Refused) -> Validity:
        """A device without a seat: the key may still be good, unless no seat is left or the device is blocked."""
        standing = self._standing_of(license, NOT_ACTIVATED)
        blocked = refused.device is not None and refused.device.state is DeviceState.BLOCKED
        if not standing.valid or not (blocked or license.full):
            return standing
        code = Code.DEVICE_BLOCKED if blocked else Code.DEVICE_LIMIT_EXCEEDED
        return msgspec.structs.replace(standing, valid=False, code=code, refused=code)

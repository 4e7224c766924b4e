"""Validate: is this key good, and does this device hold a seat of it?

Redis may say yes; every no is confirmed in Postgres, by one look-up for all who ask at the same time. With a
fingerprint it is a contact: it extends the device's lease like a heartbeat, and never takes a seat.
"""

from uuid import UUID

import msgspec

from services.activation.access import Access, Denied
from shared.ledger.clock import Clock
from shared.ledger.ledger import Ledger
from shared.ledger.reader import LicenseRef, Reader, ref_of
from shared.licensing import gates
from shared.licensing.case import Case
from shared.licensing.codes import Code
from shared.licensing.leases import hard_end, is_expired
from shared.licensing.model import DeviceState, Extend, Granted, License, LicenseStatus, OnExpiry, Refused, device_id_of
from shared.runtime.contacts import Contacts
from shared.seats.projection import Standing
from shared.seats.refusals import Refusals

VALID = "VALID"
NOT_ACTIVATED = "DEVICE_NOT_ACTIVATED"
_WITHDRAWN = {LicenseStatus.SUSPENDED: Code.LICENSE_SUSPENDED, LicenseStatus.REVOKED: Code.LICENSE_REVOKED}


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a key. `version` is the application's; `entitlements` are those it is of no use without."""

    key: str
    fingerprint: str | None = None
    version: str | None = None
    entitlements: tuple[str, ...] = ()


class Validity(msgspec.Struct, frozen=True, kw_only=True):
    """The answer. `refused` is set where it is one that stands for 401 or 403."""

    valid: bool
    code: str
    full: bool = False
    limit: int | None = None
    used: int | None = None
    overage: bool = False
    warning: Code | None = None
    refused: Code | None = None
    denied: Denied | None = None


class Validation:
    def __init__(
        self,
        access: Access,
        contacts: Contacts,
        refusals: Refusals,
        reader: Reader,
        ledger: Ledger,
        clock: Clock,
    ) -> None:
        self._access = access
        self._contacts = contacts
        self._refusals = refusals
        self._reader = reader
        self._ledger = ledger
        self._clock = clock

    async def __call__(self, question: Question, address: bytes) -> Validity:
        ids = self._access.known(question.key)
        if ids is None:
            found = await self._access.by_key(question.key, address)
            if isinstance(found, Denied):
                return Validity(valid=False, code=found.code, refused=found.code, denied=found)
            ids = found[0].bytes + found[1].bytes
        if question.fingerprint is not None:
            await self._access.admit_ids(ids)
            return await self._device(ids + device_id_of(ids[16:], question.fingerprint), question)
        standing = await self._contacts.standing(ids)
        if standing is not None and self._suffices(standing, question):
            return self._valid(standing)
        return await self._license(ref_of(ids), standing, question)

    def _suffices(self, standing: Standing, question: Question) -> bool:
        """Whether what Redis knows is a yes to all that is asked."""
        plain = not standing.versions_ranged and not question.entitlements
        return plain and standing.serves(self._clock.now_s())

    async def _license(self, ref: LicenseRef, standing: Standing | None, question: Question) -> Validity:
        license = await (self._contacts.license(ref) if standing is None else self._reader.license(ref))
        if license is None:
            return Validity(valid=False, code=Code.LICENSE_KEY_INVALID, refused=Code.LICENSE_KEY_INVALID)
        validity = self._standing_of(license)
        code = self._application(license, question)
        return _refused(validity, code) if validity.valid and code is not None else validity

    async def _device(self, ids: bytes, question: Question) -> Validity:
        """`ids` are those of account, license and device, 16 bytes each."""
        seen = await self._contacts.seen(ids)
        if seen.floor_s is not None and seen.standing is not None and await self._covers(ids, question):
            self._contacts.heard += 1
            return self._valid(seen.standing)
        ref, device = ref_of(ids[:32]), UUID(bytes=ids[32:])
        if seen.standing is not None and (kept := self._refusals.find((ref[1], device, 0), seen.standing.version)):
            return self._no(*kept, question)
        decision = await self._ledger.submit(
            Extend(
                account_id=ref[0],
                license_id=ref[1],
                actor="device",
                device_id=device,
                counter_seen=seen.counter,
                version=question.version,
                entitlements=question.entitlements,
            )
        )
        if isinstance(decision.answer, Granted):
            self._contacts.heard += 1
            return self._standing_of(decision.license)
        self._refusals.keep((ref[1], device, 0), decision.license, decision.answer)
        return self._no(decision.license, decision.answer, question)

    async def _covers(self, ids: bytes, question: Question) -> bool:
        """Whether the license has the entitlements that are asked for; Redis does not know them."""
        if not question.entitlements:
            return True
        license = await self._reader.license(ref_of(ids[:32]))
        return license is not None and self._application(license, question) is None

    def _application(self, license: License, question: Question) -> Code | None:
        """The ledger's own rule of versions and entitlements."""
        command = Extend(
            account_id=license.account_id,
            license_id=license.id,
            actor="device",
            device_id=license.id,
            version=question.version,
            entitlements=question.entitlements,
        )
        return gates.application(Case(license, {}, None, command, self._clock.now()), command)

    def _valid(self, standing: Standing) -> Validity:
        return Validity(
            valid=True,
            code=VALID,
            full=standing.full,
            limit=standing.seats_limit,
            used=standing.seats_used,
            overage=standing.overage,
            warning=Code.LICENSE_EXPIRED if standing.is_expired(self._clock.now_s()) else None,
        )

    def _standing_of(self, license: License, code: str = VALID) -> Validity:
        """The license's own standing: of a suspended, revoked or ended one it is a plain `valid: false`."""
        now = self._clock.now()
        end, expired = hard_end(license), is_expired(license, now)
        over = (end is not None and now >= end) or (expired and _takes_none(license, code))
        fault = _WITHDRAWN.get(license.status, Code.LICENSE_EXPIRED if over else None)
        return Validity(
            valid=fault is None,
            code=fault or code,
            full=license.full,
            limit=license.seats_limit,
            used=license.seats_used,
            overage=license.seats_used > license.seats_limit,
            warning=Code.LICENSE_EXPIRED if fault is None and expired else None,
        )

    def _no(self, license: License, refused: Refused, question: Question) -> Validity:
        """A device that was refused: the key may still be good, unless the device may take no seat of it."""
        state = refused.device.state if refused.device is not None else None
        standing = self._standing_of(license, VALID if state is DeviceState.ACTIVE else NOT_ACTIVATED)
        if not standing.valid:
            return standing
        if (code := self._application(license, question)) is not None:
            return _refused(standing, code)
        if state is DeviceState.BLOCKED:
            return _refused(standing, Code.DEVICE_BLOCKED)
        return standing if license.admits else _refused(standing, Code.DEVICE_LIMIT_EXCEEDED)


def _takes_none(license: License, code: str) -> bool:
    """Whether a license past its end has no seat for a device that holds none."""
    return code == NOT_ACTIVATED and license.terms.on_expiry is not OnExpiry.WARN


def _refused(validity: Validity, code: Code) -> Validity:
    return msgspec.structs.replace(validity, valid=False, code=code, refused=code)

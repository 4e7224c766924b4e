"""Offline license files: a device's signed request becomes a file, and its signed receipt gives the seat back.

- A request has one answer. It is kept before it is given, so whoever asks again gets the same file, byte for byte.
- The seat is taken and held in the ledger before anything is signed. What fails in between is found by the same
  request: its nonce is the request's own, so it takes no second seat, and none once its seat has ended.
- A device shows one key for each of its generations; nobody else's request is answered for it, or receipt believed.
"""

from datetime import datetime, timedelta

import msgspec

from services.activation.access import Access, Denied
from services.activation.offline_documents import Receipt, Request
from shared.batching import OverloadedError
from shared.ledger.clock import Clock
from shared.ledger.connections import UnavailableError
from shared.ledger.ledger import Ledger, LicenseNotFoundError
from shared.ledger.offline import OfflineFiles
from shared.ledger.reader import LicenseRef, Reader
from shared.ledger.transaction import OutcomeUnknownError
from shared.licensing import leases
from shared.licensing.codes import Code
from shared.licensing.model import (
    Activate,
    Device,
    DeviceState,
    HoldOffline,
    License,
    Refused,
    ReturnOffline,
    device_id,
)
from shared.licensing.offline_rules import allows, file_end
from shared.runtime.file_signing import FileSigner, Leaf
from shared.signing.license_file import LicenseFile
from shared.web.limits import FailedAuthentications
from shared.web.texts import Fault

NONCE_BYTES = 16
LONGEST_LIFE = timedelta(days=365)
"""Of a request. Its answer is kept for longer than it can be asked for."""

BACKDATE = timedelta(seconds=1)
"""The ledger reads a clock of its own: what is as long as the policy allows must not seem longer there."""


class Issued(msgspec.Struct, frozen=True, kw_only=True):
    """The file: made now, or kept from when the request was answered first."""

    created: bool
    file: bytes


class NotIssued(msgspec.Struct, frozen=True, kw_only=True):
    """No file, and why; `license` and `refused` where there is more to say."""

    code: Code
    fault: Fault | None = None
    license: License | None = None
    refused: Refused | None = None
    denied: Denied | None = None


class Issuing:
    """The use case of a request."""

    def __init__(
        self,
        access: Access,
        reader: Reader,
        ledger: Ledger,
        files: OfflineFiles,
        signer: FileSigner,
        clock: Clock,
        returning: "Returning",
    ) -> None:
        self._access = access
        self._returning = returning
        self._reader = reader
        self._ledger = ledger
        self._files = files
        self._signer = signer
        self._clock = clock

    async def __call__(self, request: Request, key: str, days: int | None, address: bytes) -> Issued | NotIssued:
        """`days` is what the holder asks for; without it the request's own wish counts."""
        ref = await self._access.by_key(key, address)
        if isinstance(ref, Denied):
            return NotIssued(code=ref.code, denied=ref)
        await self._access.admit(ref)
        kept = await self._files.find(ref[0], request.digest)
        if kept is not None:
            return Issued(created=False, file=kept.file) if kept.license_id == ref[1] else _used()
        days = days or request.said.days
        if (objection := await self._objection(ref, request, days)) is not None:
            return objection
        if request.receipt is not None and request.receipt.said.account == ref[0]:
            # One that nobody here can believe, as after a restore, stands in no request's way.
            await self._returning(request.receipt, address, keeps_seat=True)
        decision = await self._ledger.submit(_activation(ref, request))
        if isinstance(decision.answer, Refused):
            return _refused(decision.answer, decision.license)
        device = decision.answer.device
        assert device is not None
        if device.state is DeviceState.PENDING:
            return NotIssued(code=Code.DEVICE_NOT_ALLOWED, fault=Fault.AWAITS_APPROVAL)
        try:
            return await self._issue(request, decision.license, device, days)
        except (UnavailableError, OverloadedError) as error:
            raise OutcomeUnknownError from error  # a seat was taken, or may have been

    async def _objection(self, ref: LicenseRef, request: Request, days: int | None) -> NotIssued | None:
        """What is known to be refused before a seat is taken for it."""
        license = await self._reader.license(ref)
        if license is None:
            return NotIssued(code=Code.LICENSE_KEY_INVALID)
        if request.said.product != license.terms.product_code:
            return NotIssued(code=Code.REQUEST_INVALID, fault=Fault.OFFLINE_OTHER_PRODUCT)
        if request.said.created < self._clock.now() - LONGEST_LIFE:
            return NotIssued(code=Code.REQUEST_INVALID, fault=Fault.OFFLINE_REQUEST_OLD)
        return None if allows(license, days) else NotIssued(code=Code.OFFLINE_NOT_ALLOWED)

    async def _issue(self, request: Request, license: License, device: Device, days: int | None) -> Issued | NotIssued:
        now = self._clock.now()
        leaf = await self._signer.leaf(license.account_id, license.terms.offline_algorithm, now)
        ref = (license.account_id, license.id, device.id)
        if await self._files.bind_key(ref, device.generation, request.key) != request.key:
            until = device.offline_until if leases.is_offline(device, now) else None
            held = Refused(code=Code.OFFLINE_HELD, until=until)
            return NotIssued(code=held.code, fault=Fault.OFFLINE_OTHER_KEY, refused=held)
        issued = (now - BACKDATE).replace(microsecond=0)
        until = file_end(license, issued=issued, days=days, certificate_end=leaf.ends_at)
        decision = await self._ledger.submit(
            HoldOffline(
                account_id=license.account_id,
                license_id=license.id,
                actor="holder",
                device_id=device.id,
                generation=device.generation,
                until=until,
            )
        )
        if isinstance(decision.answer, Refused):
            return _refused(decision.answer, decision.license)
        file = await self._signer.sign(leaf, _file(license, device, leaf, issued, until))
        cleared_after = max(until, request.said.created)  # not before the request is too old, whatever its clock said
        kept = await self._files.keep(
            ref, device.generation, request=request.digest, file=file, expires_at=cleared_after
        )
        return Issued(created=kept.file == file, file=kept.file) if kept.license_id == license.id else _used()


class Returning:
    """The use case of a receipt. Repeating changes nothing."""

    def __init__(self, access: Access, failures: FailedAuthentications, ledger: Ledger, files: OfflineFiles) -> None:
        self._access = access
        self._failures = failures
        self._ledger = ledger
        self._files = files

    async def __call__(self, receipt: Receipt, address: bytes, *, keeps_seat: bool) -> Refused | Fault | None:
        """None where the seat is free or begun anew (`keeps_seat`), or that generation's had ended before."""
        said = receipt.said
        await self._failures.before_look_up(address)
        key = await self._files.key_of((said.account, said.license, said.device), said.generation)
        if key is None:
            await self._failures.after_look_up(address)
            return Refused(code=Code.DEVICE_NOT_FOUND)
        if not receipt.is_signed_by(key):
            await self._failures.after_look_up(address)
            return Fault.OFFLINE_SIGNATURE
        await self._access.admit((said.account, said.license))
        try:
            decision = await self._ledger.submit(_giving_back(receipt, keeps_seat))
        except LicenseNotFoundError:
            return Refused(code=Code.DEVICE_NOT_FOUND)
        return decision.answer if isinstance(decision.answer, Refused) else None


def _activation(ref: LicenseRef, request: Request) -> Activate:
    said = request.said
    return Activate(
        account_id=ref[0],
        license_id=ref[1],
        actor="holder",
        device_id=device_id(ref[1], said.fingerprint),
        fingerprint=said.fingerprint,
        name=said.name or "",
        nonce=request.digest[:NONCE_BYTES],
        version=said.version,
    )


def _giving_back(receipt: Receipt, keeps_seat: bool) -> ReturnOffline:
    said = receipt.said
    return ReturnOffline(
        account_id=said.account,
        license_id=said.license,
        actor="device",
        device_id=said.device,
        generation=said.generation,
        keeps_seat=keeps_seat,
    )


def _file(license: License, device: Device, leaf: Leaf, issued: datetime, until: datetime) -> LicenseFile:
    return LicenseFile(
        iss=license.account_id,
        aud=license.terms.product_code,
        license=license.id,
        device=device.id,
        generation=device.generation,
        fingerprint=device.fingerprint,
        issued=issued,
        expiry=until,
        leaf=leaf.certificate,
        trial=license.terms.trial or msgspec.UNSET,
        entitlements=license.terms.entitlements or msgspec.UNSET,
    )


def _refused(refused: Refused, license: License) -> NotIssued:
    if refused.code is Code.REPLAYED:
        return _used()
    return NotIssued(code=refused.code, license=license, refused=refused)


def _used() -> NotIssued:
    return NotIssued(code=Code.REPLAYED, fault=Fault.OFFLINE_REQUEST_USED)

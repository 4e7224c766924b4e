"""Activate: a device asks for a seat. The same request again gets the same seat, never a second one.

A crowd that tries a full license waits for no lock: whom the ledger would refuse like the last is found by a look-up.
"""

import time
from hashlib import sha256
from uuid import UUID

import msgspec

from services.activation.access import Access, Denied
from shared.ledger.ledger import Ledger, LicenseNotFoundError
from shared.ledger.reader import Holder, LicenseRef, Reader, ref_of
from shared.licensing.codes import Code
from shared.licensing.model import Activate, Device, DeviceState, License, Refused, device_id_of
from shared.runtime.holders import Holders
from shared.runtime.issuing import IssuedLease, Issuer
from shared.seats.nonces import WINDOW_S, Nonces
from shared.seats.refusals import FullLicenses


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What a device sends; exactly one of `token` and `license_key`. `timestamp_s` is the device's own clock."""

    token: str | None
    license_key: str | None
    fingerprint: str
    name: str
    timestamp_s: float
    nonce: str | None
    version: str | None = None
    entitlements: tuple[str, ...] = ()


class Activated(msgspec.Struct, frozen=True, kw_only=True):
    """A seat is held: taken now (`created`) or before."""

    created: bool
    license: License
    device: Device
    lease: IssuedLease
    device_token: str
    warning: Code | None = None


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """No seat yet: the device waits for the vendor's approval."""

    license: License
    device: Device


class NotActivated(msgspec.Struct, frozen=True, kw_only=True):
    """No seat, and why. `license` is given where one was found, `retry_after_s` where waiting is all that helps,
    `holders` where every seat is taken and the policy lets the device know by whom."""

    code: Code
    license: License | None = None
    retry_after_s: float | None = None
    holders: list[Holder] | None = None
    denied: Denied | None = None


class Activation:
    """The use case. `now_s` is the database's time for what is signed; the replay window alone uses the host's."""

    def __init__(
        self, access: Access, nonces: Nonces, reader: Reader, holders: Holders, ledger: Ledger, issuer: Issuer
    ) -> None:
        self._access = access
        self._nonces = nonces
        self._reader = reader
        self._holders = holders
        self._ledger = ledger
        self._issuer = issuer
        self._full = FullLicenses()

    def check_room(self) -> None:
        """Raises `OverloadedError` where a request would be in vain: to be asked before it is read."""
        self._ledger.check_room()

    async def __call__(self, request: Request, now_s: float, address: bytes) -> Activated | Pending | NotActivated:
        if abs(request.timestamp_s - time.time()) > WINDOW_S:
            return NotActivated(code=Code.TIMESTAMP_SKEWED)
        opened = await self._open(request, address)
        if isinstance(opened, Denied):
            return NotActivated(code=opened.code, denied=opened)
        ids, token_id = opened
        await self._access.admit_ids(ids)
        nonce = sha256(request.nonce.encode()).digest()[:16] if request.nonce is not None else None
        if nonce is not None and await self._is_replayed(ids, nonce, request):
            return NotActivated(code=Code.REPLAYED)
        device = device_id_of(ids[16:], request.fingerprint)
        wish = (ids, request.version, request.entitlements) if token_id is None else None
        if wish and (full := self._full.find(wish)) and await self._reader.still_full(full, device):
            return await self._refused(Refused(code=Code.DEVICE_LIMIT_EXCEEDED), full, now_s)
        ref = ref_of(ids)
        command = Activate(
            account_id=ref[0],
            license_id=ref[1],
            actor="device",
            device_id=UUID(bytes=device),
            fingerprint=request.fingerprint,
            name=request.name,
            nonce=nonce,
            token_id=token_id,
            version=request.version,
            entitlements=request.entitlements,
        )
        try:
            decision = await self._ledger.submit(command)
        except LicenseNotFoundError:
            return NotActivated(code=Code.LICENSE_KEY_INVALID if token_id is None else Code.TOKEN_INVALID)
        if isinstance(decision.answer, Refused):
            if wish:
                self._full.keep(wish, decision.license, decision.answer)
            return await self._refused(decision.answer, decision.license, now_s)
        seated = decision.answer.device
        assert seated is not None
        if seated.state is DeviceState.PENDING:
            return Pending(license=decision.license, device=seated)
        return Activated(
            created=decision.answer.changed,
            license=decision.license,
            device=seated,
            lease=await self._issuer.lease(decision.license, seated, now_s),
            device_token=self._issuer.token(seated),
            warning=decision.answer.warning,
        )

    async def _refused(self, answer: Refused, license: License, now_s: float) -> NotActivated:
        full = answer.code is Code.DEVICE_LIMIT_EXCEEDED
        return NotActivated(
            code=answer.code,
            license=license,
            retry_after_s=answer.until.timestamp() - now_s if answer.until is not None else None,
            holders=await self._holders(license) if full else None,
        )

    async def _open(self, request: Request, address: bytes) -> tuple[bytes, UUID | None] | Denied:
        """The 32 bytes of account's and license's id, and the token's id if it was one."""
        if request.token is not None:
            opened = await self._access.by_token(request.token, address)
            return opened if isinstance(opened, Denied) else (_ids_of(opened[0]), opened[1])
        text = request.license_key or ""
        if (known := self._access.known(text)) is not None:
            return known, None
        ref = await self._access.by_key(text, address)
        return ref if isinstance(ref, Denied) else (_ids_of(ref), None)

    async def _is_replayed(self, ids: bytes, nonce: bytes, request: Request) -> bool:
        body = sha256(msgspec.msgpack.encode(request)).digest()[:16]
        return await self._nonces.is_reused(*ref_of(ids), nonce=nonce, body=body)


def _ids_of(ref: LicenseRef) -> bytes:
    return ref[0].bytes + ref[1].bytes

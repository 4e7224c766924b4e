"""Licenses: granted under a policy, with a secret key that is shown once; changed through the ledger alone."""

import os
import re
from datetime import datetime
from uuid import UUID

import msgspec

from services.portal.ids import new_id
from shared.ledger.catalog import Catalog, CatalogError, NewKey
from shared.ledger.ledger import Ledger
from shared.ledger.reader import LicenseRef, Reader
from shared.licensing.license_key import ENTROPY_BYTES, KeyFault, LicenseKey, format_key, read_key
from shared.licensing.model import (
    Approve,
    Block,
    Decision,
    Reason,
    Reinstate,
    Release,
    Resize,
    Revoke,
    Suspend,
    Unblock,
    device_id,
)
from shared.runtime.keystore import Keystore
from shared.signing import activation_token
from shared.signing.license_key_hash import LicenseKeyHasher

ACTOR = "admin"

_FINGERPRINT = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,256}")


class NewLicense(msgspec.Struct, frozen=True, kw_only=True):
    """A license and its key, which is nowhere else to be had."""

    id: UUID
    key: str


class NewToken(msgspec.Struct, frozen=True, kw_only=True):
    id: UUID
    token: str
    expires_at: datetime


class Licenses:
    def __init__(
        self, catalog: Catalog, ledger: Ledger, reader: Reader, keystore: Keystore, hasher: LicenseKeyHasher
    ) -> None:
        self._catalog = catalog
        self._ledger = ledger
        self._reader = reader
        self._keystore = keystore
        self._hasher = hasher

    async def create(
        self,
        account_id: UUID,
        *,
        policy: str,
        seats: int | None = None,
        expires_at: datetime | None = None,
        customer: str = "",
        imported_key: str | None = None,
    ) -> NewLicense:
        """Grant a license with a fresh key, or with one that was issued elsewhere. Raises `CatalogError`."""
        id, key = new_id(), format_key(os.urandom(ENTROPY_BYTES)) if imported_key is None else imported_key
        parsed = _checked(key)
        digest = self._hasher.digest(parsed.canonical)
        await self._catalog.add_license(
            (account_id, id),
            policy=policy,
            seats=seats,
            expires_at=expires_at,
            customer=customer,
            key=NewKey(digest=digest.digest, key_id=digest.key_id, prefix=_shown(parsed)),
            actor=ACTOR,
        )
        return NewLicense(id=id, key=key)

    async def find(self, key: str) -> LicenseRef | None:
        parsed = read_key(key)
        if isinstance(parsed, KeyFault):
            return None
        return await self._reader.find([candidate.digest for candidate in self._hasher.candidates(parsed.canonical)])

    async def add_token(self, ref: LicenseRef, *, ttl_s: float, max_uses: int) -> NewToken:
        """An activation token: signed, bound to the license, good for `max_uses` new seats within `ttl_s` seconds."""
        keys = await self._keystore.account(ref[0])  # first: without them the row would be a token nobody has
        if keys is None:
            raise CatalogError("no such account")
        id = new_id()
        now, expires_at = await self._catalog.add_activation_token(ref, id, ttl_s=ttl_s, max_uses=max_uses)
        claims = activation_token.ActivationClaims(
            iss=ref[0], lic=ref[1], jti=id, iat=int(now.timestamp()), exp=int(expires_at.timestamp())
        )
        return NewToken(id=id, token=activation_token.issue(keys.signer, claims), expires_at=expires_at)

    async def revoke_token(self, account_id: UUID, id: UUID) -> None:
        await self._catalog.revoke_activation_token(account_id, id)

    async def set_status(self, ref: LicenseRef, verb: type[Suspend] | type[Reinstate] | type[Revoke]) -> Decision:
        return await self._ledger.submit(verb(account_id=ref[0], license_id=ref[1], actor=ACTOR))

    async def resize(self, ref: LicenseRef, seats: int) -> Decision:
        return await self._ledger.submit(Resize(account_id=ref[0], license_id=ref[1], actor=ACTOR, seats=seats))

    async def release(self, ref: LicenseRef, device: UUID, *, forced: bool) -> Decision:
        reason = Reason.FORCED if forced else Reason.ADMIN
        return await self._ledger.submit(
            Release(account_id=ref[0], license_id=ref[1], actor=ACTOR, device_id=device, reason=reason)
        )

    async def set_blocked(self, ref: LicenseRef, device: UUID, *, blocked: bool) -> Decision:
        verb = Block if blocked else Unblock
        return await self._ledger.submit(verb(account_id=ref[0], license_id=ref[1], actor=ACTOR, device_id=device))

    async def approve(self, ref: LicenseRef, fingerprint: str) -> Decision:
        """Put a fingerprint on the license's allow-list. Raises `CatalogError` for what no device can send."""
        if not _FINGERPRINT.fullmatch(fingerprint):
            raise CatalogError("a fingerprint has 1 to 256 characters, none of them a control character")
        device = device_id(ref[1], fingerprint)
        return await self._ledger.submit(
            Approve(account_id=ref[0], license_id=ref[1], actor=ACTOR, device_id=device, fingerprint=fingerprint)
        )


def _checked(key: str) -> LicenseKey:
    parsed = read_key(key)
    if isinstance(parsed, KeyFault):
        raise CatalogError(f"this license key cannot be used: {parsed.value}")
    return parsed


def _shown(key: LicenseKey) -> str:
    """What lists show of a key: eight characters of ours, four of an imported one, which may be short."""
    return key.prefix[:4] if key.imported else key.prefix

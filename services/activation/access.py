"""Who asks: a license key or an activation token, and the license it opens.

A mistyped key is found by its check character, without a look-up. A token is trusted only after its signature;
whether it has expired, was withdrawn or is used up, the ledger decides. An address from which too many guesses came has
nothing looked up: then `ThrottledError` is raised, but for keys that this process found before.
"""

from collections.abc import Awaitable
from uuid import UUID

import msgspec

from shared.ledger.reader import LicenseRef, Reader, ref_of
from shared.licensing.codes import Code
from shared.licensing.license_key import KeyFault, read_key
from shared.runtime.keystore import Keystore
from shared.signing import activation_token
from shared.signing.license_key_hash import LicenseKeyHasher
from shared.web.limits import Limits


class Denied(msgspec.Struct, frozen=True, kw_only=True):
    """Nobody we know. `fault` says what is wrong with the key's form, where that is all."""

    code: Code
    fault: KeyFault | None = None


class Access:
    def __init__(self, reader: Reader, keystore: Keystore, hasher: LicenseKeyHasher, limits: Limits) -> None:
        self._reader = reader
        self._keystore = keystore
        self._hasher = hasher
        self._failures = limits.failures
        self._requests = limits.ledger

    async def admit(self, ref: LicenseRef) -> None:
        """One more request for the ledger. Raises `ThrottledError`."""
        await self._requests.admit(ref[0].bytes + ref[1].bytes)

    def admit_ids(self, ids: bytes) -> Awaitable[None]:
        """The same by the 32 bytes of both ids."""
        return self._requests.admit(ids)

    def known(self, text: str) -> bytes | None:
        """The license that a key opens, if this process found it before: the 32 bytes of account's and license's id."""
        key = read_key(text)
        return None if isinstance(key, KeyFault) else self._reader.known(self._hasher.digests(key.canonical))

    async def by_key(self, text: str, address: bytes) -> LicenseRef | Denied:
        """The license that a key opens. Raises `UnavailableError` when that cannot be told."""
        key = read_key(text)
        if isinstance(key, KeyFault):
            await self._failures.seen(address)
            return Denied(code=Code.LICENSE_KEY_INVALID, fault=key)
        digests = self._hasher.digests(key.canonical)
        if (known := self._reader.known(digests)) is not None:
            return ref_of(known)
        await self._failures.before_look_up(address)
        ref = await self._reader.find(digests)
        if ref is None:
            await self._failures.after_look_up(address)
            return Denied(code=Code.LICENSE_KEY_INVALID)
        return ref

    async def by_token(self, text: str, address: bytes) -> tuple[LicenseRef, UUID] | Denied:
        """The license that an activation token is bound to, and the token's id."""
        await self._failures.before_look_up(address)
        account_id = activation_token.peek_account(text)
        keys = await self._keystore.account(account_id) if account_id is not None else None
        claims = activation_token.verify(text, keys.public) if keys is not None else None
        if claims is None or claims.iss != account_id:
            await self._failures.after_look_up(address)
            return Denied(code=Code.TOKEN_INVALID)
        return (claims.iss, claims.lic), claims.jti

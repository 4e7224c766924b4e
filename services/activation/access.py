"""Who asks: a license key or an activation token, and the license it opens.

A mistyped key is found by its check character, without a look-up. A token is trusted only after its signature;
whether it has expired, was withdrawn or is used up, the ledger decides.
"""

from uuid import UUID

import msgspec

from shared.ledger.reader import LicenseRef, Reader
from shared.licensing.codes import Code
from shared.licensing.license_key import KeyFault, read_key
from shared.runtime.keystore import Keystore
from shared.signing import activation_token
from shared.signing.license_key_hash import LicenseKeyHasher


class Denied(msgspec.Struct, frozen=True, kw_only=True):
    """Nobody we know. `fault` says what is wrong with the key's form, where that is all."""

    code: Code
    fault: KeyFault | None = None


class Access:
    def __init__(self, reader: Reader, keystore: Keystore, hasher: LicenseKeyHasher) -> None:
        self._reader = reader
        self._keystore = keystore
        self._hasher = hasher

    async def by_key(self, text: str) -> LicenseRef | Denied:
        """The license that a key opens. Raises `UnavailableError` when that cannot be told."""
        key = read_key(text)
        if isinstance(key, KeyFault):
            return Denied(code=Code.LICENSE_KEY_INVALID, fault=key)
        digests = [candidate.digest for candidate in self._hasher.candidates(key.canonical)]
        ref = await self._reader.find(digests)
        return ref if ref is not None else Denied(code=Code.LICENSE_KEY_INVALID)

    async def by_token(self, text: str) -> tuple[LicenseRef, UUID] | Denied:
        """The license that an activation token is bound to, and the token's id."""
        account_id = activation_token.peek_account(text)
        keys = await self._keystore.account(account_id) if account_id is not None else None
        claims = activation_token.verify(text, keys.public) if keys is not None else None
        if claims is None or claims.iss != account_id:
            return Denied(code=Code.TOKEN_INVALID)
        return (claims.iss, claims.lic), claims.jti

"""The keys that sign offline license files: RSA-3072, or the account's Ed25519 leaf where its policy says so.

An account's RSA leaf is made when its first file is asked for, which takes some tenths of a second, and found by the
other replicas when they read its keys again. Two that make one each do no harm: both are good, and the newest signs.
Whatever RSA does is done beside the event loop, and one after the other: it must not slow heartbeats and activations.
"""

import asyncio
from datetime import datetime
from functools import lru_cache
from uuid import UUID

import msgspec

from shared.ledger.catalog import Catalog
from shared.ledger.connections import UnavailableError
from shared.ledger.reader import StoredKey
from shared.licensing.model import OfflineAlgorithm
from shared.runtime.keystore import AccountKeys, Keystore
from shared.signing import license_file
from shared.signing.keyring import certificate_end, load_signing_key, new_rsa_leaf, seal
from shared.signing.keys import RsaSigningKey, SigningKey, load_rsa_signing_key, private_bytes
from shared.signing.license_file import LicenseFile
from shared.signing.secrets import MasterSecrets

OPENED_KEPT = 256


class Leaf(msgspec.Struct, frozen=True, kw_only=True):
    """A key that signs files, its certificate, and until when that holds."""

    key: SigningKey | RsaSigningKey
    certificate: str

    @property
    def ends_at(self) -> datetime:
        return certificate_end(self.certificate)


class FileSigner:
    def __init__(self, keystore: Keystore, catalog: Catalog, secrets: MasterSecrets) -> None:
        self._keystore = keystore
        self._catalog = catalog
        self._secrets = secrets
        self._one_at_a_time = asyncio.Lock()
        self._opened = lru_cache(OPENED_KEPT)(self._open)

    async def leaf(self, account_id: UUID, algorithm: OfflineAlgorithm, now: datetime) -> Leaf:
        """The account's key. Raises `UnavailableError`, and `OutcomeUnknownError` where one may have been made."""
        keys = await self._keys(account_id)
        if algorithm is OfflineAlgorithm.ED25519:
            return Leaf(key=keys.signer, certificate=keys.certificate)
        async with self._one_at_a_time:
            stored = (await self._keys(account_id)).rsa or await self._make(account_id, keys.root, now)
            return await asyncio.to_thread(self._opened, account_id, stored)

    async def sign(self, leaf: Leaf, file: LicenseFile) -> bytes:
        """The file, signed by a leaf whose certificate is in it."""
        async with self._one_at_a_time:
            return await asyncio.to_thread(license_file.sign, leaf.key, file)

    async def _keys(self, account_id: UUID) -> AccountKeys:
        keys = await self._keystore.account(account_id)
        if keys is None:
            raise UnavailableError
        return keys

    async def _make(self, account_id: UUID, root: StoredKey, now: datetime) -> StoredKey:
        opened = load_signing_key(self._keystore.unsealed(account_id, root), "root")
        key, certificate = await asyncio.to_thread(new_rsa_leaf, opened, account_id, now)
        sealed = seal(self._secrets, account_id, key.kid, private_bytes(key))
        stored = StoredKey(
            kid=key.kid,
            role="leaf",
            public_key=key.public,
            sealed_with=sealed.key_id,
            sealed=sealed.sealed,
            certificate=certificate,
        )
        await self._catalog.add_signing_key(account_id, stored)
        self._keystore.forget(account_id)
        return stored

    def _open(self, account_id: UUID, stored: StoredKey) -> Leaf:
        key = load_rsa_signing_key(self._keystore.unsealed(account_id, stored))
        return Leaf(key=key, certificate=stored.certificate or "")

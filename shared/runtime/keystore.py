"""The accounts' signing keys, opened for this process and read again every minute so that rotation reaches it."""

import time
from collections.abc import Sequence
from uuid import UUID

import msgspec

from shared.batching import Batcher
from shared.ledger.reader import Reader, StoredKey
from shared.signing.keyring import SealedKey, unseal
from shared.signing.keys import PUBLIC_BYTES, RSA_PUBLIC_BYTES, SigningKey, load_signing_key
from shared.signing.secrets import MasterSecrets

LIFE_S = 60.0


class AccountKeys(msgspec.Struct, frozen=True, kw_only=True):
    """An account's newest Ed25519 leaf with its certificate, and the public halves of all leaves, of RSA too.

    `root` and `rsa`, the newest leaf of RSA if there is one, are still sealed: few need them (see `file_signing`).
    """

    signer: SigningKey
    certificate: str
    public: dict[str, bytes]
    root: StoredKey
    rsa: StoredKey | None = None


class Keystore:
    def __init__(self, reader: Reader, secrets: MasterSecrets) -> None:
        self._reader = reader
        self._secrets = secrets
        self._opened: dict[UUID, tuple[float, AccountKeys]] = {}
        self._loader: Batcher[UUID, AccountKeys | None] = Batcher(self._load_all)

    async def account(self, account_id: UUID) -> AccountKeys | None:
        """The account's keys; None when there is no such account. Raises `UnavailableError`."""
        opened = self._opened.get(account_id)
        if opened is not None and time.monotonic() < opened[0]:
            return opened[1]
        return await self._loader.ask(account_id)

    async def _load_all(self, account_ids: Sequence[UUID]) -> list[AccountKeys | None]:
        return [await self._load(account_id) for account_id in account_ids]

    async def _load(self, account_id: UUID) -> AccountKeys | None:
        stored = await self._reader.account_keys(account_id)
        leaves = [key for key in stored if key.role == "leaf"]
        signing = next((key for key in leaves if len(key.public_key) == PUBLIC_BYTES), None)
        root = next((key for key in stored if key.role == "root"), None)
        if signing is None or root is None:
            return None
        keys = AccountKeys(
            signer=load_signing_key(self.unsealed(account_id, signing), "leaf"),
            certificate=signing.certificate or "",
            public={key.kid: key.public_key for key in leaves},
            root=root,
            rsa=next((key for key in leaves if len(key.public_key) == RSA_PUBLIC_BYTES), None),
        )
        self._opened[account_id] = (time.monotonic() + LIFE_S, keys)
        return keys

    def unsealed(self, account_id: UUID, key: StoredKey) -> bytes:
        """The private bytes of a key. Raises `BrokenSealError`."""
        sealed = SealedKey(key_id=key.sealed_with, sealed=key.sealed)
        return unseal(self._secrets, account_id, key.kid, sealed)

    def forget(self, account_id: UUID) -> None:
        """Have the account's keys read again before their next use: it has got another."""
        self._opened.pop(account_id, None)

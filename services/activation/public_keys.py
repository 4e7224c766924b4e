"""The public keys that verify what was signed: of one account, or of all for an installation's own clients."""

from uuid import UUID

from shared.ledger.reader import Reader
from shared.runtime.keystore import Keystore
from shared.signing.jwks import key_set
from shared.signing.keys import PublicJwk

PAGE = 500


class PublicKeys:
    def __init__(self, reader: Reader, keystore: Keystore) -> None:
        self._reader = reader
        self._keystore = keystore

    async def of_account(self, account_id: UUID) -> dict[str, list[PublicJwk]] | None:
        keys = await self._keystore.account(account_id)
        return key_set(keys.public.values()) if keys is not None else None

    async def of_all(self) -> dict[str, list[PublicJwk]]:
        """Every account's keys. Whoever verifies with them has to check `iss` too."""
        public: list[bytes] = []
        after = UUID(int=0)
        while accounts := await self._reader.accounts(after=after, limit=PAGE):
            for account_id in accounts:
                keys = await self._keystore.account(account_id)
                public.extend(keys.public.values() if keys is not None else ())
            after = accounts[-1]
        return key_set(public)

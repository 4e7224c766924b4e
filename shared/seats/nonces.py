"""Nonces within the replay window: the same request again is welcome, another under the same nonce is not.

While Redis is away nothing is known here; the ledger still refuses the nonce of a generation that has ended.
"""

from uuid import UUID

from shared.seats.connection import RedisConnection
from shared.seats.keys import nonce_key

WINDOW_S = 300


class Nonces:
    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection

    async def is_reused(self, account_id: UUID, license_id: UUID, *, nonce: bytes, body: bytes) -> bool:
        """Whether `nonce` came with another body before. Both are digests. Remembers it for the whole window."""
        if self._connection.resting:
            return False
        key = nonce_key(account_id, license_id, nonce)
        before = await self._connection.attempt(
            self._connection.client.set(key, body, nx=True, get=True, ex=2 * WINDOW_S)
        )
        return before is not None and before != body

"""Nonces within the replay window: the same request again is welcome, another under the same nonce is not.

While Redis is away nothing is known here; the ledger still refuses the nonce of a generation that has ended. Those
that arrive together go together.
"""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from shared.batching import Batcher
from shared.seats.connection import RedisConnection
from shared.seats.keys import nonce_key

WINDOW_S = 300


class Use(NamedTuple):
    """A nonce's key and the digest of the body that it came with."""

    key: bytes
    body: bytes


class Nonces:
    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self._uses: Batcher[Use, bool] = Batcher(self._note_all)

    async def is_reused(self, account_id: UUID, license_id: UUID, *, nonce: bytes, body: bytes) -> bool:
        """Whether `nonce` came with another body before. Both are digests. Remembers it for the whole window."""
        return await self._uses.ask(Use(nonce_key(account_id, license_id, nonce), body))

    async def _note_all(self, uses: Sequence[Use]) -> list[bool]:
        if self._connection.resting:
            return [False] * len(uses)
        pipeline = self._connection.client.pipeline(transaction=False)
        for use in uses:
            pipeline.set(use.key, use.body, nx=True, get=True, ex=2 * WINDOW_S)
        before = await self._connection.attempt(pipeline.execute())
        if before is None:
            return [False] * len(uses)
        return [first is not None and first != use.body for first, use in zip(before, uses, strict=True)]

"""Nonces within the replay window: the same request again is welcome, another under the same nonce is not.

While Redis is away nothing is known here; the ledger itself refuses the nonces of generations that have ended. Those
that arrive together go together.
"""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from shared.batching import Batcher
from shared.seats.connection import AWAY, RedisConnection
from shared.seats.keys import nonce_key
from shared.seats.node import Ask

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
        before = await self._connection.ask([(use.key, _noting(use)) for use in uses])
        return [first not in (None, AWAY, use.body) for first, use in zip(before, uses, strict=True)]


def _noting(use: Use) -> Ask:
    return lambda way: way.set(use.key, use.body, nx=True, get=True, ex=2 * WINDOW_S)

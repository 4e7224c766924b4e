"""Nonces within the replay window: the same request again is welcome, another under the same nonce is not.

A nonce that has made a generation is noted as spent. While Redis is away nothing is known here; the ledger still
refuses the nonce of a device's last generation once that has ended. Those that arrive together go together.
"""

from collections.abc import Sequence
from enum import Enum, auto
from typing import NamedTuple
from uuid import UUID

from shared.batching import Batcher
from shared.seats.connection import AWAY, RedisConnection
from shared.seats.keys import nonce_key
from shared.seats.node import Ask

WINDOW_S = 300
SPENT = b"+"
"""What follows the digest of a nonce that has made a generation."""


class Before(Enum):
    """What is known of a nonce from before."""

    NOTHING = auto()
    SAME_BODY = auto()
    OTHER_BODY = auto()
    SPENT = auto()


class Use(NamedTuple):
    """A nonce's key and the digest of the body that it came with."""

    key: bytes
    body: bytes


class Nonces:
    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self._uses: Batcher[Use, Before] = Batcher(self._note_all)
        self._spendings: Batcher[Use, None] = Batcher(self._spend_all)

    async def use(self, account_id: UUID, license_id: UUID, *, nonce: bytes, body: bytes) -> Before:
        """What `nonce` came with before. Both are digests. Remembers it for the whole window."""
        return await self._uses.ask(Use(nonce_key(account_id, license_id, nonce), body))

    async def spend(self, account_id: UUID, license_id: UUID, *, nonce: bytes, body: bytes) -> None:
        """It has made a generation with this body."""
        await self._spendings.ask(Use(nonce_key(account_id, license_id, nonce), body))

    async def _note_all(self, uses: Sequence[Use]) -> list[Before]:
        known = await self._connection.ask([(use.key, _noting(use)) for use in uses])
        return [_before(first, use) for first, use in zip(known, uses, strict=True)]

    async def _spend_all(self, uses: Sequence[Use]) -> list[None]:
        await self._connection.ask([(use.key, _spending(use)) for use in uses])
        return [None] * len(uses)


def _noting(use: Use) -> Ask:
    return lambda way: way.set(use.key, use.body, nx=True, get=True, ex=2 * WINDOW_S)


def _spending(use: Use) -> Ask:
    return lambda way: way.set(use.key, use.body + SPENT, ex=2 * WINDOW_S)


def _before(first: object, use: Use) -> Before:
    if first is None or first is AWAY:
        return Before.NOTHING
    if first == use.body:
        return Before.SAME_BODY
    return Before.SPENT if first == use.body + SPENT else Before.OTHER_BODY

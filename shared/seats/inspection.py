"""Looking into Redis beside the traffic: what it holds of licenses, whole; and taking out what is wrong or outdated.

Unlike the projection it says when Redis could not be asked (`AwayError`): who compares must not take silence for
"nothing there". It is gentle, a page at a time, and never removes what has become newer meanwhile.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from shared.seats.connection import RedisConnection
from shared.seats.drift import Fields
from shared.seats.keys import HEADER_FIELD, LICENSES, RECONCILER, license_key
from shared.seats.scripts import register

Ref = tuple[UUID, UUID]
"""(account id, license id)."""

SCANNED_AT_ONCE = 500
TURN_S = 15.0


class AwayError(Exception):
    """Redis could not be asked."""


class Inspection:
    def __init__(self, connection: RedisConnection, epoch: Callable[[], int]) -> None:
        self._connection = connection
        self._epoch = epoch
        scripts = register(connection.client)
        self._turn, self._discard, self._sweep = scripts["turn"], scripts["discard"], scripts["sweep"]

    @property
    def epoch(self) -> int:
        return self._epoch()

    async def take_turn(self, who: bytes) -> bool:
        """Whether it is `who`'s turn to look. One has it at a time, and loses it `TURN_S` after it asked last."""
        return bool(await self._ask(lambda: self._turn([RECONCILER], [who, int(TURN_S * 1000)])))

    async def read(self, refs: Sequence[Ref]) -> list[Fields]:
        """What Redis holds of each license."""
        pipeline = self._connection.client.pipeline(transaction=False)
        for ref in refs:
            pipeline.hgetall(license_key(*ref))
        found: list[Fields] = await self._ask(pipeline.execute)
        return found

    async def discard(self, seen: Mapping[Ref, Fields]) -> int:
        """Remove the licenses that are still as they were seen; returns how many."""
        headers = [fields.get(HEADER_FIELD, b"") for fields in seen.values()]
        removed: int = await self._ask(lambda: self._discard([license_key(*ref) for ref in seen], headers))
        return removed

    async def sweep(self, cursor: int, *, remove: bool) -> tuple[int, int]:
        """Remove, or only count, the licenses of older epochs in the next part of Redis.

        Returns (the cursor of the part after it, 0 when that was the last; how many there were).
        """
        following, found = await self._ask(
            lambda: self._connection.client.scan(cursor, match=LICENSES, count=SCANNED_AT_ONCE)
        )
        if not found:
            return following, 0
        return following, await self._ask(lambda: self._sweep(found, [self._epoch(), int(remove)]))

    async def _ask(self, call: Callable[[], Awaitable[Any]]) -> Any:
        answer = None if self._connection.resting else await self._connection.attempt(call())
        if answer is None:
            raise AwayError
        return answer

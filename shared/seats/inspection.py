"""Looking into Redis beside the traffic: what it holds of licenses, whole; and taking out what is wrong or outdated.

Unlike the projection it says when Redis could not be asked (`AwayError`): who compares must not take silence for
"nothing there". It is gentle, a page at a time, and never removes what has become newer meanwhile.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from shared.seats.connection import AWAY, RedisConnection
from shared.seats.drift import Fields
from shared.seats.keys import HEADER_FIELD, LICENSES, RECONCILER, license_key
from shared.seats.node import Ask

Ref = tuple[UUID, UUID]
"""(account id, license id)."""

SCANNED_AT_ONCE = 500
TURN_S = 15.0

NODE_SHIFT = 64
CURSOR_MASK = (1 << NODE_SHIFT) - 1


class AwayError(Exception):
    """Redis could not be asked."""


class Inspection:
    def __init__(self, connection: RedisConnection, epoch: Callable[[], int]) -> None:
        self._connection = connection
        self._epoch = epoch

    @property
    def epoch(self) -> int:
        return self._epoch()

    async def take_turn(self, who: bytes) -> bool:
        """Whether it is `who`'s turn to look. One has it at a time, and loses it `TURN_S` after it asked last."""
        taken = await self._connection.call_one("turn", RECONCILER, [who, int(TURN_S * 1000)])
        return bool(_answered([taken])[0])

    async def read(self, refs: Sequence[Ref]) -> list[Fields]:
        """What Redis holds of each license."""
        keys = [license_key(*ref) for ref in refs]
        return _answered(await self._connection.ask([(key, _reading(key)) for key in keys]))

    async def discard(self, seen: Mapping[Ref, Fields]) -> int:
        """Remove the licenses that are still as they were seen; returns how many."""
        headers = [fields.get(HEADER_FIELD, b"") for fields in seen.values()]
        removed = await self._connection.call(
            "discard", [license_key(*ref) for ref in seen], lambda numbers: [headers[number] for number in numbers]
        )
        return sum(_answered([count for _, count in removed]))

    async def sweep(self, cursor: int, *, remove: bool) -> tuple[int, int]:
        """Remove, or only count, the licenses of older epochs in the next part of Redis.

        Returns (the cursor of the part after it, 0 when that was the last; how many there were). A cursor's upper half
        says which node it is of.
        """
        nodes, number = self._connection.nodes, cursor >> NODE_SHIFT
        if number >= len(nodes):
            if number:
                return 0, 0  # there are fewer nodes than when the sweep began
            raise AwayError
        ((following, found),) = _answered(await nodes[number].send([_scanning(cursor & CURSOR_MASK)]))
        if following or number + 1 < len(nodes):
            following = number << NODE_SHIFT | following if following else number + 1 << NODE_SHIFT
        if not found:
            return following, 0
        outdated = await self._connection.call("sweep", found, lambda _: [self._epoch(), int(remove)])
        return following, sum(_answered([count for _, count in outdated]))


def _answered(answers: list[Any]) -> list[Any]:
    if AWAY in answers:
        raise AwayError
    return answers


def _reading(key: bytes) -> Ask:
    return lambda way: way.hgetall(key)


def _scanning(cursor: int) -> Ask:
    return lambda way: way.scan(cursor, match=LICENSES, count=SCANNED_AT_ONCE)

"""A Redis Cluster: which node has which part of the keys, as its nodes tell.

- The map is read before the first use, with each pulse, and when a node says that a key moved. What a node that is
  cut off from the others tells is not believed.
- A key in a slot that is just being moved is unknown until that is done.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from shared.seats.keys import WATERMARK
from shared.seats.node import AWAY, MOVED, PAUSE_S, Ask, Node, open_member
from shared.seats.url import Address, Place

ASKED_AT_ONCE = 3


class Cluster:
    def __init__(self, address: Address, timeout_s: float) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._members: dict[Place, Node] = {}
        self._primaries: dict[Place, int] = {}
        self._owners: list[Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        self._learning: asyncio.Task[None] | None = None
        self._learned_at = -PAUSE_S

    @property
    def nodes(self) -> list[Node]:
        """The primaries, in an order that stays while they do."""
        return [self._members[place] for place in sorted(self._primaries)]

    @property
    def marks(self) -> list[tuple[Node, bytes]]:
        """Each primary with the key of its watermark: one in the first of its slots."""
        return [(self._members[place], mark_key(slot)) for place, slot in self._primaries.items()]

    def groups(self, keys: Sequence[bytes]) -> list[Sequence[int]]:
        """The numbers of the keys that one call may name: those that share a slot."""
        groups: dict[int, list[int]] = {}
        for number, key in enumerate(keys):
            groups.setdefault(key_slot(key), []).append(number)
        return list(groups.values())

    async def send(self, asks: Sequence[tuple[bytes, Ask]], *, now: bool = False) -> list[Any]:
        """The answer of each, asked of the node that has its key."""
        if not self._primaries and time.monotonic() > self._learned_at + PAUSE_S:
            await self.learn()
        answers = await self._scatter(asks, now)
        if moved := [number for number, answer in enumerate(answers) if answer is MOVED]:
            await self.learn()
            again = await self._scatter([asks[number] for number in moved], now)
            for number, answer in zip(moved, again, strict=True):
                answers[number] = AWAY if answer is MOVED else answer
        return answers

    async def _scatter(self, asks: Sequence[tuple[bytes, Ask]], now: bool) -> list[Any]:
        answers: list[Any] = [AWAY] * len(asks)
        shares: dict[Node, list[int]] = {}
        for number, (key, _) in enumerate(asks):
            if (owner := self._owners[key_slot(key)]) is not None:
                shares.setdefault(owner, []).append(number)

        async def share(node: Node, numbers: list[int]) -> None:
            for number, answer in zip(numbers, await node.send([asks[n][1] for n in numbers], now=now), strict=True):
                answers[number] = answer

        await asyncio.gather(*(share(*one) for one in shares.items()))
        return answers

    async def learn(self) -> None:
        """Read the map. Those who ask meanwhile wait for the same reading."""
        if self._learning is None:
            self._learning = asyncio.create_task(self._learn())
            self._learning.add_done_callback(self._learned)
        await asyncio.shield(self._learning)

    async def close(self) -> None:
        if self._learning is not None:
            await asyncio.wait([self._learning])
        await asyncio.gather(*(node.close() for node in self._members.values()))

    def _learned(self, _: "asyncio.Task[None]") -> None:
        self._learning, self._learned_at = None, time.monotonic()

    async def _learn(self) -> None:
        """Ask a few members at once, until one tells: those that answered last before those that did not."""
        asked = [self._member(place) for place in {*self._members, *self._address.hosts}]
        random.shuffle(asked)
        asked.sort(key=lambda node: not node.reachable)
        for start in range(0, len(asked), ASKED_AT_ONCE):
            few = asked[start : start + ASKED_AT_ONCE]
            for node, ranges in zip(few, await asyncio.gather(*map(_ranges, few)), strict=True):
                if ranges:
                    await self._follow(ranges, node)
                    return

    def _member(self, place: Place) -> Node:
        if place not in self._members:
            self._members[place] = open_member(self._address.url, place, self._timeout_s)
        return self._members[place]

    async def _follow(self, ranges: Sequence[Any], teller: Node) -> None:
        owners: list[Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        primaries: dict[Place, int] = {}
        present: set[Place] = set(self._address.hosts)
        for first, last, *members in ranges:
            places = [_place(member, teller) for member in members]
            present.update(places)
            primaries[places[0]] = min(first, primaries.get(places[0], first))
            owners[first : last + 1] = [self._member(places[0])] * (last + 1 - first)
        self._owners, self._primaries = owners, primaries
        gone = [self._members.pop(place) for place in self._members.keys() - present]
        await asyncio.gather(*(node.close() for node in gone))


async def _ranges(node: Node) -> Sequence[Any] | None:
    """Who has which slots, as this node tells; None where it cannot be asked, or belongs to no majority."""
    info, ranges = await node.send([_asking("CLUSTER INFO"), _asking("CLUSTER SLOTS")], now=True)
    if AWAY in (info, ranges) or info["cluster_state"] != "ok":
        return None
    found: Sequence[Any] = ranges
    return found


def _asking(command: str) -> Ask:
    return lambda way: way.execute_command(command)  # type: ignore[no-untyped-call]


def _place(member: Sequence[Any], teller: Node) -> Place:
    host = member[0].decode() if member[0] else teller.name.rpartition(":")[0]
    return host, int(member[1])


@lru_cache
def mark_key(slot: int) -> bytes:
    """A watermark's key in that slot."""
    number = 0
    while key_slot(key := WATERMARK + b"{%d}" % number) != slot:
        number += 1
    return key

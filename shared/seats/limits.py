"""Rates by GCRA (the leaky bucket as a meter): by all processes together through Redis, by each alone without it.

- A key owes nothing until it is used; every unit puts off by one interval the moment from which it owes nothing again,
  and that moment may lie one burst ahead of now. So memory is one number for each key, and only while it owes.
- What this process knows is enough for a no, so those who are refused on end cost Redis nothing.
- With Redis away each process goes on by what it counted itself. Its memory is bounded: the keys used last stay.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from shared.batching import GroupLoop, OverloadedError
from shared.seats.connection import AWAY, RedisConnection

KEYS_KEPT = 50_000
LONGEST_DEBT = 10
"""In bursts; lua/limit.lua has the same."""

BATCH_LIMIT = 256
CAPACITY = 16_384


class Rate(NamedTuple):
    """One unit in each interval, and so many intervals at once. Both in microseconds."""

    interval_us: int
    burst_us: int

    @classmethod
    def of(cls, per_s: float, burst: float) -> "Rate":
        """So many units a second on end, and so many at once (one at least)."""
        interval_us = max(1, round(1e6 / per_s))
        return cls(interval_us, round(interval_us * max(1.0, burst)))


class LocalMeter:
    """The arithmetic, in this process alone. Waits are in seconds; 0 means that it may be."""

    def __init__(self, rate: Rate, *, kept: int = KEYS_KEPT, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = rate.interval_us / 1e6
        self._burst_s = rate.burst_us / 1e6
        self._kept = kept
        self._clock = clock
        self._free_at: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._free_at)

    def take(self, key: bytes) -> float:
        """Take one unit; when it does not fit, take none and tell how long to wait."""
        now = self._clock()
        free_at = self._free_at.get(key, now)
        after = (free_at if free_at > now else now) + self._interval_s
        if (wait_s := after - now - self._burst_s) > 1e-9:
            return wait_s
        self._keep(key, after)
        return 0.0

    def wait_s(self, key: bytes) -> float:
        """How long until a unit would fit."""
        now = self._clock()
        wait_s = self._free_at.get(key, now) + self._interval_s - now - self._burst_s
        return wait_s if wait_s > 1e-9 else 0.0

    def owe(self, key: bytes) -> None:
        """One unit, whether or not it fits."""
        now = self._clock()
        after = max(self._free_at.get(key, now), now) + self._interval_s
        self._keep(key, min(after, now + LONGEST_DEBT * self._burst_s))

    def learn(self, key: bytes, wait_s: float) -> None:
        """What others counted: no unit fits before that time."""
        known = self._clock() + wait_s + self._burst_s - self._interval_s
        self._keep(key, max(self._free_at.get(key, known), known))

    def _keep(self, key: bytes, free_at: float) -> None:
        self._free_at[key] = free_at
        self._free_at.move_to_end(key)
        if len(self._free_at) > self._kept:
            self._free_at.popitem(last=False)


class Asked(NamedTuple):
    """Units of one key, on their way to Redis: owed, or asked for; and whom to tell."""

    key: bytes
    rate: Rate
    owed: int
    asked: int
    told: "asyncio.Future[float | None]"


class RedisMeter:
    """The arithmetic in Redis. Those that ask together go together, and all of one key as one."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self._asked: GroupLoop[Asked] = GroupLoop(self._serve, limit=BATCH_LIMIT, in_flight=2, capacity=CAPACITY)

    async def ask(self, key: bytes, rate: Rate, *, owed: int = 0, asked: int = 0) -> float | None:
        """0 when what was asked for is given, else the seconds to wait; None when Redis cannot be asked."""
        told: asyncio.Future[float | None] = asyncio.get_running_loop().create_future()
        try:
            self._asked.put(Asked(key, rate, owed, asked, told))
        except OverloadedError:
            return None
        return await told

    async def _serve(self, items: list[Asked]) -> None:
        groups: dict[bytes, list[Asked]] = {}
        for item in items:
            groups.setdefault(item.key, []).append(item)
        of_key = list(groups.values())

        def arguments(numbers: Sequence[int]) -> list[int]:
            return [number for at in numbers for number in _arguments(of_key[at])]

        answers = await self._connection.call_each("limit", list(groups), arguments)
        for group, answer in zip(of_key, answers, strict=True):
            _tell(group, None if answer is AWAY else answer)


def _arguments(group: Sequence[Asked]) -> tuple[int, int, int, int]:
    return (*group[0].rate, sum(item.owed for item in group), sum(item.asked for item in group))


def _tell(group: Sequence[Asked], answer: Sequence[int] | None) -> None:
    given, wait_us = answer or (0, 0)
    for item in group:
        fits = item.asked <= given if item.asked else not wait_us
        given -= item.asked if fits else 0
        if not item.told.done():
            item.told.set_result(None if answer is None else 0.0 if fits else wait_us / 1e6)


class Meter:
    """One limit of many keys, all processes together as far as Redis can be asked. Waits are in seconds.

    With `unasked` (a part of the rate), what a process takes of a key within that part of it is not told to Redis:
    a license that is asked for now and then costs no call, and `n` processes exceed the rate by `n * unasked` at most.
    """

    def __init__(self, redis: RedisMeter, rate: Rate, *, unasked: float = 0.0) -> None:
        self._redis = redis
        self._rate = rate
        self._local = LocalMeter(rate)
        part = Rate(round(rate.interval_us / unasked), rate.burst_us) if unasked else None
        self._unasked = LocalMeter(part) if part is not None and part.burst_us >= part.interval_us else None

    async def take(self, key: bytes) -> float:
        """Take one unit; 0 when it fits, else how long to wait."""
        if self._unasked is not None and not self._unasked.take(key):
            return 0.0
        if wait_s := self._local.wait_s(key):
            return wait_s
        wait = await self._redis.ask(key, self._rate, asked=1)
        if wait is None:
            return self._local.take(key)
        if wait:
            self._local.learn(key, wait)
        else:
            self._local.owe(key)
        return wait

    async def wait_s(self, key: bytes) -> float:
        """How long until a unit would fit; takes none."""
        if wait_s := self._local.wait_s(key):
            return wait_s
        wait = await self._redis.ask(key, self._rate)
        if wait:
            self._local.learn(key, wait)
        return wait or 0.0

    async def owe(self, key: bytes) -> None:
        """One unit, whether or not it fits: it has been used already."""
        self._local.owe(key)
        if wait := await self._redis.ask(key, self._rate, owed=1):
            self._local.learn(key, wait)

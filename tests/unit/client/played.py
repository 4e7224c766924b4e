"""Time that tests play: what sleeps moves it, so that days pass in a moment."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

_T = TypeVar("_T")


class PlayedClock:
    """A `seatkeeper.clock.Clock`. Sleepers move it on, one at a time, as far as `play` allows; at first without end.

    `wall_rate` is how fast the machine's clock goes: 0 while it is frozen.
    """

    def __init__(self, wall_s: float = 1_800_000_000.0, *, allowed_s: float = float("inf")) -> None:
        self._wall_s = wall_s
        self._monotonic_s = 1000.0
        self._end_s = self._monotonic_s + allowed_s
        self._more = asyncio.Event()
        self._arrived = asyncio.Event()
        self.wall_rate = 1.0

    def wall_s(self) -> float:
        return self._wall_s

    def monotonic_s(self) -> float:
        return self._monotonic_s

    def set_wall(self, seconds: float) -> None:
        self._wall_s = seconds

    async def sleep(self, seconds: float) -> None:
        wakes_s = self._monotonic_s + seconds
        while self._monotonic_s < wakes_s:
            if self._monotonic_s >= self._end_s:
                self._more.clear()
                self._arrived.set()
                await self._more.wait()
            until_s = min(wakes_s, self._end_s)
            self._wall_s += (until_s - self._monotonic_s) * self.wall_rate
            self._monotonic_s = until_s
        await asyncio.sleep(0)

    async def freely(self, doing: Awaitable[_T]) -> _T:
        """Do what needs time, however much."""
        self._end_s = float("inf")
        try:
            return await doing
        finally:
            self._end_s = self._monotonic_s

    async def play(self, seconds: float) -> None:
        """Let so much time pass; returns when the sleeper has come there."""
        self._arrived.clear()
        self._end_s = max(self._end_s, self._monotonic_s) + seconds
        self._more.set()
        await self._arrived.wait()

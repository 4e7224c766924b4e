"""The time that leases are judged by: one that setting the machine's clock back does not set back.

Rules:
- What counts is the latest of three: the machine's clock; the highest time seen, which the cache keeps; and that time
  plus what went by since on the monotonic clock.
- A genuine word of the server (`anchor`) replaces the highest time seen, also by an earlier one, and tells how far the
  machine's clock is ahead: a clock that is wrong costs nobody a lease.
- A signed document (`saw`) only raises it: an old one can be shown again.
"""

from seatkeeper.clock import Clock
from seatkeeper.state import CLOCK_FROZEN, CLOCK_SET_BACK

TOLERANCE_S = 300.0
FROZEN_S = 120.0


class TrustedTime:
    """A `Clock` whose `wall_s` is the trusted time. `ahead_s` is how far the machine's own is ahead of the server's."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.ahead_s = 0.0
        self._base = (clock.wall_s(), clock.monotonic_s())
        self._moved = (clock.wall_s(), clock.monotonic_s())

    def resume(self, *, seen_s: float, ahead_s: float) -> None:
        """Take up what was kept of an earlier run."""
        self.ahead_s = ahead_s
        self._base = (max(seen_s, self._corrected_s()), self._clock.monotonic_s())

    def wall_s(self) -> float:
        seen_s, at_s = self._base
        monotonic_s = self._clock.monotonic_s()
        now_s = max(self._corrected_s(), seen_s + monotonic_s - at_s)
        self._base = (now_s, monotonic_s)
        return now_s

    def monotonic_s(self) -> float:
        return self._clock.monotonic_s()

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)

    def saw(self, seconds: float) -> None:
        """Something that is signed says it is at least so late."""
        if seconds > self.wall_s():
            self._base = (seconds, self._clock.monotonic_s())

    def anchor(self, seconds: float) -> None:
        """The server itself said, in answer to a question just asked, that it is so late."""
        self._base = (seconds, self._clock.monotonic_s())
        self.ahead_s = max(0.0, self._clock.wall_s() - seconds)

    def fault(self) -> str | None:
        """What is wrong with the machine's clock, if anything."""
        wall_s, now_s = self._clock.wall_s(), self._clock.monotonic_s()
        if abs(wall_s - self._moved[0]) > 1:
            self._moved = (wall_s, now_s)
        if now_s - self._moved[1] > FROZEN_S:
            return CLOCK_FROZEN
        return CLOCK_SET_BACK if self._corrected_s() + TOLERANCE_S < self.wall_s() else None

    def _corrected_s(self) -> float:
        return self._clock.wall_s() - self.ahead_s

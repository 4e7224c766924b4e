"""When to speak with the server next: at its own schedule, and sooner after a failure.

Rules: a pause after a failure has full jitter, doubles, and is never longer than the server's interval; what
`Retry-After` asks for, an hour at most since nobody signs it, comes on top. Each costs the budget one retry; where that
is used up, half a minute at least goes by.
"""

import asyncio
import logging
from collections.abc import Callable

from seatkeeper.clock import Clock
from seatkeeper.errors import SeatkeeperError
from seatkeeper.retry import Budget, pause_s

FIRST_INTERVAL_S = 3600.0
SOON_S = 15.0
WITHOUT_BUDGET_S = 30.0
LONGEST_ASKED_S = 3600.0
_log = logging.getLogger("seatkeeper")


class Schedule:
    def __init__(self, clock: Clock, budget: Budget, random: Callable[[], float]) -> None:
        self._clock = clock
        self._budget = budget
        self._random = random
        self._interval_s = FIRST_INTERVAL_S
        self._due_s = float("inf")
        self._changed = asyncio.Event()
        self.failures = 0

    def take_due(self) -> bool:
        """Whether it is time. If so, the next time is to be set by what comes of it."""
        if self._clock.monotonic_s() < self._due_s:
            return False
        self._due_s = float("inf")
        return True

    def answered(self, next_in_s: float | None = None) -> None:
        """The server spoke: next time at the interval, which it may have told."""
        self.failures = 0
        self._interval_s = next_in_s or self._interval_s
        self.next_in(self._interval_s)

    def asked_to_wait(self, seconds: float) -> None:
        """The server has no answer yet; many wait for the same."""
        self.failures = 0
        self.next_in(min(LONGEST_ASKED_S, seconds) * (1 + 0.2 * self._random()))

    def failed(self, error: SeatkeeperError) -> None:
        """There was no answer."""
        self.failures += 1
        base_s = min(SOON_S, self._interval_s / 8)
        wait_s = pause_s(self.failures, self._random(), base_s=base_s, cap_s=self._interval_s)
        if not self._budget.take(self._clock.monotonic_s()):
            wait_s = max(wait_s, min(self._interval_s, WITHOUT_BUDGET_S * (1 + self._random())))
        wait_s += min(LONGEST_ASKED_S, getattr(error.__cause__, "retry_after_s", None) or 0.0)
        self.next_in(wait_s)
        _log.info("no answer of the license server (%s); again in %.0f s", error, wait_s)

    def next_in(self, seconds: float) -> None:
        self._due_s = self._clock.monotonic_s() + seconds
        self._changed.set()

    def never(self) -> None:
        self.next_in(float("inf"))

    async def rest(self, at_most_s: float) -> None:
        """Until it is due, there is another plan, or so much time has passed."""
        self._changed = asyncio.Event()  # of the loop that runs now
        seconds = max(0.0, min(at_most_s, self._due_s - self._clock.monotonic_s()))
        ends = {asyncio.ensure_future(self._clock.sleep(seconds)), asyncio.ensure_future(self._changed.wait())}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()

"""Time as the client takes it: injectable, so that tests play years in a second."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    def wall_s(self) -> float:
        """Seconds since 1970, as the machine tells; it may be wrong, set back or frozen."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that never go back, counted through sleep where the system can; good within one boot at most."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's own."""

    def wall_s(self) -> float:
        return time.time()

    def monotonic_s(self) -> float:
        boottime = getattr(time, "CLOCK_BOOTTIME", None)
        return time.monotonic() if boottime is None else time.clock_gettime(boottime)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

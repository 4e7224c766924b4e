"""The database's clock, carried forward by the process's monotonic one between readings.

Host wall clocks decide nothing. A reading costs half a round trip of error at most.
"""

import time
from datetime import datetime, timedelta

from shared.ledger.connections import Pool, UnavailableError
from shared.ledger.reader import fetch
from shared.ledger.statements import load

_SQL = load("reading.sql")


class Clock:
    """Call `read` once at start and then every second or so; `now` is cheap and never blocks."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._read_at = 0.0
        self._reading: datetime | None = None
        self._reading_s = 0.0
        self.epoch = 0
        self.timeline = ""

    async def read(self) -> None:
        """Take a reading of clock, projection epoch and timeline. Raises `UnavailableError`; the last reading stays."""
        row = (await fetch(self._pool, _SQL["pulse"]))[0]
        self._read_at = time.monotonic()
        self._reading = row["now"]
        self._reading_s = row["now"].timestamp()
        self.epoch = row["epoch"]
        self.timeline = row["timeline"]

    async def raise_epoch(self, seen: int) -> None:
        """Make everything in Redis that was written under `seen` count as missing, for all processes."""
        await fetch(self._pool, _SQL["raise_epoch"], seen)
        await self.read()

    @property
    def known(self) -> bool:
        return self._reading is not None

    def now(self) -> datetime:
        """The database's time. Raises `UnavailableError` before the first reading."""
        if self._reading is None:
            raise UnavailableError
        return self._reading + timedelta(seconds=time.monotonic() - self._read_at)

    def now_s(self) -> float:
        """The same in seconds since 1970, for the paths where every microsecond counts."""
        if self._reading is None:
            raise UnavailableError
        return self._reading_s + time.monotonic() - self._read_at

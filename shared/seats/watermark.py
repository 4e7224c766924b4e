"""The watermark: written every second, it tells an emptied, restarted or set-back Redis.

Its history is unbroken while the same server run holds a mark that is a few seconds old at most and no older than
the one this process saw last. A broken history means that pushes may be lost: the epoch is raised in Postgres, and
all that was written under older ones counts as missing.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog

from shared.seats.connection import RedisConnection
from shared.seats.keys import WATERMARK
from shared.seats.scripts import register

_log = structlog.get_logger()

MAX_AGE_S = 5

LOST, MOVED = 0, 1


class Watermark:
    """Keeps the mark. `raise_epoch(seen)` raises the epoch in Postgres, once however many ask."""

    def __init__(self, connection: RedisConnection, raise_epoch: Callable[[int], Awaitable[None]]) -> None:
        self._connection = connection
        self._raise_epoch = raise_epoch
        self._script = register(connection.client)["watermark"]
        self._last_us = 0

    async def keep(self, *, now: datetime, epoch: Callable[[], int]) -> None:
        """Check the mark and move it to `now`; where the history is broken, begin a new one."""
        info = await self._connection.attempt(self._connection.client.info("server"))
        if info is None:
            return
        run, now_us = str(info["run_id"]), int(now.timestamp() * 1_000_000)
        if await self._write(epoch(), run, now_us, begin=False) == LOST:
            _log.info("projection.begins_anew", after_epoch=epoch())
            await self._raise_epoch(epoch())
            await self._write(epoch(), run, now_us, begin=True)

    async def _write(self, epoch: int, run: str, now_us: int, *, begin: bool) -> int | None:
        arguments: list[int | str] = [epoch, run, now_us, MAX_AGE_S * 1_000_000, self._last_us, int(begin)]
        answer = await self._connection.attempt(self._script([WATERMARK], arguments))
        if answer is not None:
            self._last_us = now_us if answer == MOVED else 0
        return answer

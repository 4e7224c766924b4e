"""The way to Redis: few connections that a crowd shares, short timeouts, and no waiting at all just after a failure.

Redis only makes answers cheap. So its trouble is never an error: a call that fails answers None, and for half a
second after a failure none is tried.
"""

import time
from collections.abc import Awaitable
from typing import TypeVar

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

_log = structlog.get_logger()

Answer = TypeVar("Answer")

PAUSE_S = 0.5
SOCKETS = 16


class RedisConnection:
    """One client of one Redis, and whether it can be reached."""

    def __init__(self, url: str, *, timeout_s: float = 0.25) -> None:
        self.client: Redis = Redis.from_pool(
            BlockingConnectionPool.from_url(
                url,
                protocol=2,
                max_connections=SOCKETS,
                timeout=timeout_s,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                retry=Retry(NoBackoff(), 0),
            )
        )
        self._away_until = 0.0
        self._failing = False

    @property
    def reachable(self) -> bool:
        return not self._failing

    async def attempt(self, call: Awaitable[Answer]) -> Answer | None:
        """The call's answer; None when Redis could not be asked."""
        try:
            answer = await call
        except (RedisError, OSError, TimeoutError) as error:
            self._away_until = time.monotonic() + PAUSE_S
            if not self._failing:
                self._failing = True
                _log.warning("redis.away", error=type(error).__name__)
            return None
        if self._failing:
            self._failing = False
            _log.info("redis.back")
        return answer

    @property
    def resting(self) -> bool:
        """Whether a failure is too recent for another try."""
        return time.monotonic() < self._away_until

    async def close(self) -> None:
        await self.client.aclose()

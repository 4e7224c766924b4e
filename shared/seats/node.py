"""One server of Redis: few connections that a crowd shares, short timeouts, and no waiting at all just after a failure.

Redis only makes answers cheap. So its trouble is never an error: what it could not be asked is `AWAY`, and for half a
second after a failure it is asked nothing. Under Sentinel a node is whichever server is the primary.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import structlog
from redis.asyncio import BlockingConnectionPool, Redis, Sentinel
from redis.asyncio.connection import SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool, SentinelManagedConnection, SentinelManagedSSLConnection
from redis.backoff import NoBackoff
from redis.exceptions import AskError, MovedError, NoScriptError, RedisError, ResponseError

from shared.seats.client import ScriptClient
from shared.seats.scripts import SOURCES
from shared.seats.url import Address, Place

_log = structlog.get_logger()

PAUSE_S = 0.5
SOCKETS = 16

Ask = Callable[[Redis], Awaitable[Any]]
"""One command, given to a client or, with others, to a pipeline."""


class Silence:
    """What stands in the place of an answer."""

    def __init__(self, why: str) -> None:
        self._why = why

    def __repr__(self) -> str:
        return self._why


AWAY: Final = Silence("AWAY")
MOVED: Final = Silence("MOVED")
"""Another node has that part of the keys by now."""

_TROUBLE = (RedisError, OSError, TimeoutError, RuntimeError)
"""A RuntimeError is the event loop's word for a connection that was reset a moment before it is written to."""


class Node:
    """A client of one server, and whether it can be reached."""

    def __init__(self, client: Redis, name: str = "", *, clustered: bool = False) -> None:
        self.client = client
        self.name = name
        self._clustered = clustered
        self.shunned = False
        """Nothing is taken from a server that refused the watermark, until it takes one again."""
        self.refusing = False
        """Whether it answered when it was asked last, but with an error."""
        self.reachable = True
        self._away_until = 0.0

    @property
    def resting(self) -> bool:
        """Whether a failure is too recent for another try."""
        return self.shunned or time.monotonic() < self._away_until

    async def send(self, asks: Sequence[Ask], *, now: bool = False) -> list[Any]:
        """The answer of each, in one round trip; `now` asks a server that rests too."""
        if self.resting and not now:
            return [AWAY] * len(asks)
        try:
            answers = await self._exchange(asks)
            if any(isinstance(answer, NoScriptError) for answer in answers):
                answers = await self._with_scripts(asks, answers)
        except _TROUBLE as error:
            self._fail(error)
            return [AWAY] * len(asks)
        return self._judged(answers)

    async def seek(self) -> None:
        """Find out which server it is by now, where that may change."""

    async def close(self) -> None:
        await self.client.aclose()

    async def _exchange(self, asks: Sequence[Ask]) -> list[Any]:
        if len(asks) == 1:
            try:
                return [await asks[0](self.client)]
            except ResponseError as error:
                return [error]
        async with self.client.pipeline(transaction=False) as pipeline:
            for ask in asks:
                ask(pipeline)
            return await pipeline.execute(raise_on_error=False)

    async def _with_scripts(self, asks: Sequence[Ask], answers: list[Any]) -> list[Any]:
        """Give a server that lost the scripts all of them, and ask again what it could not run."""
        await self._exchange([_loading(source) for source in SOURCES.values()])
        again = [index for index, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        for index, answer in zip(again, await self._exchange([asks[index] for index in again]), strict=True):
            answers[index] = answer
        return answers

    def _judged(self, answers: list[Any]) -> list[Any]:
        refused = None
        for index, answer in enumerate(answers):
            if self._clustered and isinstance(answer, MovedError):
                answers[index] = MOVED
            elif isinstance(answer, Exception):
                refused = refused if isinstance(answer, AskError) else answer
                answers[index] = AWAY
        if refused is not None:
            self._fail(refused)
            return answers
        self.refusing = False
        if not self.reachable:
            self.reachable = True
            _log.info("redis.back", node=self.name)
        return answers

    def _fail(self, error: Exception) -> None:
        self._away_until = time.monotonic() + PAUSE_S
        self.refusing = isinstance(error, ResponseError)
        if self.reachable:
            self.reachable = False
            _log.warning("redis.away", error=type(error).__name__, node=self.name)


def _loading(source: bytes) -> Ask:
    return lambda way: way.script_load(source)


class PrimaryNode(Node):
    """The primary that Sentinels name, sought anew by every new connection."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        options: dict[str, Any] = {**parse_url(address.url), **_patience(timeout_s)}
        encrypted = options.pop("connection_class", None) is SSLConnection
        del options["host"]
        of_sentinels = {
            **_patience(timeout_s),
            **{name: value for name, value in options.items() if name.startswith("ssl")},
            "username": address.sentinel_username,
            "password": address.sentinel_password,
            "ssl": encrypted,
        }
        self._sentinel = Sentinel(address.hosts, sentinel_kwargs=of_sentinels)  # type: ignore[no-untyped-call]
        self._pool = _PrimaryPool(  # type: ignore[no-untyped-call]
            address.service,
            self._sentinel,
            connection_class=SentinelManagedSSLConnection if encrypted else SentinelManagedConnection,
            max_connections=SOCKETS,
            timeout=timeout_s,
            **options,
        )
        self._named = True
        super().__init__(Redis.from_pool(self._pool), address.service)

    async def seek(self) -> None:
        """Ask who is the primary, and leave one that is no more. While no Sentinel says, nothing changes."""
        try:
            await self._pool.get_master_address()  # type: ignore[no-untyped-call]
        except _TROUBLE as error:
            if self._named:
                _log.warning("redis.primary_unknown", error=type(error).__name__, node=self.name)
            self._named = False
        else:
            self._named = True

    async def close(self) -> None:
        await super().close()
        await self._sentinel.aclose()


class _PrimaryPool(SentinelConnectionPool, BlockingConnectionPool):
    """Waits for a connection where redis-py's own pool for Sentinel fails when all are in use."""


def open_server(url: str, timeout_s: float) -> Node:
    return Node(ScriptClient.from_pool(_pool(url, timeout_s)))


def open_member(url: str, place: Place, timeout_s: float) -> Node:
    """A node of a Cluster, at `place`, with the options of `url`."""
    pool = _pool(url, timeout_s)
    pool.connection_kwargs["host"], pool.connection_kwargs["port"] = place
    return Node(ScriptClient.from_pool(pool), "{}:{}".format(*place), clustered=True)


def _pool(url: str, timeout_s: float) -> BlockingConnectionPool:
    return BlockingConnectionPool.from_url(url, max_connections=SOCKETS, timeout=timeout_s, **_patience(timeout_s))


def _patience(timeout_s: float) -> dict[str, Any]:
    return {
        "protocol": 2,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "retry": Retry(NoBackoff(), 0),
    }

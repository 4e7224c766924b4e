"""Connections to Postgres, with the settings that every statement of this package relies on.

Plans: each statement is planned once, generically, as nested loops over indexes. The planner's own choice was
made for the tables as they were then, and a plan made for empty tables scans full ones. What no setting forces, the
hot statements are written for (see `sql/ledger.sql`).

Where the DSN names several hosts, the one that may be written is looked for, each in its own time: a host that hangs
must not hide the others. Connections to a server that may not be written any more are dropped.

A server that lives ends a statement by itself in time. One that stays silent for longer hangs, or waits at COMMIT for a
standby that is away. It is not told to cancel: it would end that wait and show everybody a commit that the standby
lacks, and what is answered by that would be lost with the primary.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg

_PLANS: Mapping[str, str] = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}

GRACE_S = 2.0
"""How much longer than a statement may take, its answer is waited for."""

CONNECT_TIMEOUT_S = 5.0

LOST = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.exceptions.OperatorInterventionError,
    asyncpg.exceptions.CannotConnectNowError,
    asyncpg.exceptions.InsufficientResourcesError,
    asyncpg.InternalClientError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.exceptions.ReadOnlySQLTransactionError,
)
"""What asyncpg raises when the server, or the way to it, is the trouble and not the statement."""

_OF_ONE_HOST = (OSError, TimeoutError, asyncpg.TargetServerAttributeNotMatched, asyncpg.CannotConnectNowError)
"""What one host may raise while another serves."""

Pool = asyncpg.Pool
Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy


class UnavailableError(Exception):
    """Postgres could not be asked. Nothing was changed; a later try may succeed."""


async def open_pool(dsn: str, *, application: str, size: int, statement_timeout_s: float) -> asyncpg.Pool:
    """A pool of up to `size` connections. They are opened when first needed, so this works with Postgres away."""
    timeout_ms = str(int(statement_timeout_s * 1000))
    hosts = _Hosts(dsn)
    pool = await asyncpg.create_pool(
        dsn,
        connect=hosts.connect,
        connection_class=_Session,
        min_size=0,
        max_size=size,
        max_inactive_connection_lifetime=300,
        command_timeout=statement_timeout_s + GRACE_S,
        reset=hosts.check,
        server_settings={
            "application_name": application,
            "statement_timeout": timeout_ms,
            "idle_in_transaction_session_timeout": timeout_ms,
            **_PLANS,
        },
    )
    hosts.pool = pool
    return pool


def hosts_of(dsn: str) -> list[tuple[str, int]]:
    """The hosts that a DSN names, with their ports; none where it leaves them to the environment.

    Raises `ValueError` with a line that repeats nothing of it.
    """
    parts = urlsplit(dsn)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    place = parts.netloc.rpartition("@")[2] or query.get("host", "")
    hosts = [unquote(host) for host in place.split(",")] if place else []
    ports = query.get("port", "5432").split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    try:
        return [_host(host, port) for host, port in zip(hosts, ports, strict=True)]
    except ValueError:
        raise ValueError("the dsn names hosts and ports as a:5432,b:5432, an IPv6 address in brackets") from None


def _host(host: str, port: str) -> tuple[str, int]:
    name, colon, own = host.rpartition(":")
    if colon and not host.endswith("]") and not host.startswith("/"):
        host, port = name, own
    return host.strip("[]"), int(port)


class _Hosts:
    """Those that may be the primary, the one that was it last before the others."""

    def __init__(self, dsn: str) -> None:
        self._hosts = hosts_of(dsn)
        self.pool: asyncpg.Pool | None = None

    async def connect(self, dsn: str, **options: Any) -> asyncpg.Connection:
        """A connection to the first that serves. Raises what the last raised."""
        found = await self._connect(dsn, options)
        found.forsake = self._forsake
        return found

    async def check(self, connection: Any) -> None:
        """Leave a server that may not be written any more. Sessions hold no state between uses (no SET, no LISTEN, no
        open transaction), so none is reset."""
        settings = connection.get_settings()
        if "on" in (settings.default_transaction_read_only, settings.in_hot_standby):
            await self._forsake()

    async def _connect(self, dsn: str, options: Mapping[str, Any]) -> asyncpg.Connection:
        if len(self._hosts) < 2:
            return await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT_S, **options)
        failure: Exception | None = None
        each_s = CONNECT_TIMEOUT_S / len(self._hosts)
        for host, port in list(self._hosts):
            try:
                found = await asyncpg.connect(dsn, host=host, port=port, timeout=each_s, **options)
            except _OF_ONE_HOST as error:
                failure = error
            else:
                self._hosts.sort(key=(host, port).__ne__)
                return found
        assert failure is not None
        raise failure

    async def _forsake(self) -> None:
        """Have each connection that is open now replaced before its next use."""
        if self.pool is not None:
            await self.pool.expire_connections()


def _left_when_silent(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @wraps(method)
    async def ask(session: Any, *args: Any, **options: Any) -> Any:
        try:
            return await method(session, *args, **options)
        except TimeoutError:
            session.terminate()  # before it would have the server cancel
            await session.forsake()
            raise

    return ask


class _Session(asyncpg.Connection):  # type: ignore[misc]
    """A connection that is left without a word when its server is silent, with all others to that server."""

    forsake: Callable[[], Awaitable[None]]

    execute = _left_when_silent(asyncpg.Connection.execute)
    fetch = _left_when_silent(asyncpg.Connection.fetch)
    fetchrow = _left_when_silent(asyncpg.Connection.fetchrow)
    fetchval = _left_when_silent(asyncpg.Connection.fetchval)

"""Connections to Postgres, with the settings that every statement of this package relies on.

Plans: each statement is planned once, generically, as nested loops over indexes. The planner's own choice was
made for the tables as they were then, and a plan made for empty tables scans full ones. What no setting forces, the
hot statements are written for (see `sql/ledger.sql`).
"""

from collections.abc import Mapping
from typing import Any

import asyncpg

_PLANS: Mapping[str, str] = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}

COMMAND_TIMEOUT_S = 10.0

LOST = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.exceptions.OperatorInterventionError,
    asyncpg.exceptions.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InternalClientError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.exceptions.ReadOnlySQLTransactionError,
)
"""What asyncpg raises when the server, or the way to it, is the trouble and not the statement."""

Pool = asyncpg.Pool
Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy


class UnavailableError(Exception):
    """Postgres could not be asked. Nothing was changed; a later try may succeed."""


async def open_pool(dsn: str, *, application: str, size: int, statement_timeout_s: float) -> asyncpg.Pool:
    """A pool of up to `size` connections. They are opened when first needed, so this works with Postgres away."""
    timeout_ms = str(int(statement_timeout_s * 1000))
    return await asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=size,
        max_inactive_connection_lifetime=300,
        command_timeout=COMMAND_TIMEOUT_S,
        timeout=5,
        reset=_keep_session,
        server_settings={
            "application_name": application,
            "statement_timeout": timeout_ms,
            "idle_in_transaction_session_timeout": timeout_ms,
            **_PLANS,
        },
    )


async def _keep_session(connection: Any) -> None:
    """Sessions hold no state between uses (no SET, no LISTEN, no open transaction), so none is reset."""

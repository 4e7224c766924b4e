"""The trail's upkeep: a partition for each month that is about to be written, and none that is past its retention.

A month without a partition loses nothing: its rows go to the default partition, and to their month when that is made.
Rows are never deleted; a month goes whole, by the database's clock, and a year at least is always kept.
"""

from typing import Any

import asyncpg
import structlog

from shared.ledger.connections import LOST, Connection, Pool, UnavailableError
from shared.ledger.statements import load

_SQL = load("trail.sql")

MONTHS_AHEAD = 3

_log = structlog.get_logger()


async def keep_partitions(pool: Pool, *, retention_days: int | None) -> list[str]:
    """Make this month and the next ones, and drop what ended before the retention; None keeps everything.

    Returns the partitions that were dropped. Where somebody holds the trail, as a dump does, this leaves it for the
    next time. Raises `UnavailableError`.
    """
    try:
        await prepare(pool)
        dropped = [] if retention_days is None else await _ask(pool, "drop_before", retention_days) or []
    except LOST as error:
        raise UnavailableError from error
    if dropped:
        _log.info("trail.dropped", partitions=dropped, retention_days=retention_days)
    return dropped


async def prepare(connection: Pool | Connection) -> None:
    """Make the partitions of this month and the next ones."""
    await _ask(connection, "prepare", MONTHS_AHEAD)


async def _ask(connection: Pool | Connection, statement: str, argument: int) -> Any:
    """What the function answers; None when somebody holds the trail."""
    try:
        return await connection.fetchval(_SQL[statement], argument)
    except asyncpg.LockNotAvailableError:
        _log.warning("trail.in_use")
        return None

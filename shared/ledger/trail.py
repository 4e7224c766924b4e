"""The trail's upkeep: a partition for each month that is about to be written, and none that is past its retention.

A month without a partition loses nothing: its rows go to the default partition, and to their month when that is made.
Rows are never deleted; a month goes whole, by the database's clock, and a year at least is always kept. That it went is
sealed in the same transaction, which tells it apart from a deletion.
"""

from datetime import date, datetime
from typing import Any

import asyncpg
import structlog

from shared.ledger.chain import Stamp
from shared.ledger.connections import LOST, Connection, Pool, UnavailableError
from shared.ledger.sealing import BrokenChainError, await_turn, seal_dropped, sound_head
from shared.ledger.statements import load

_SQL = load("trail.sql")

MONTHS_AHEAD = 3

_log = structlog.get_logger()


async def keep_partitions(pool: Pool, stamp: Stamp, *, retention_days: int | None) -> list[str]:
    """Make this month and the next ones, and drop what ended before the retention; None keeps everything.

    Returns the partitions that were dropped. Where somebody holds the trail, as a dump does, this leaves it for the
    next time; and nothing goes while the chain of seals is broken. Raises `UnavailableError`.
    """
    try:
        await prepare(pool)
        dropped = [] if retention_days is None else await _drop(pool, stamp, retention_days)
    except LOST as error:
        raise UnavailableError from error
    if dropped:
        _log.info("trail.dropped", partitions=dropped, retention_days=retention_days)
    return dropped


async def prepare(connection: Pool | Connection) -> None:
    """Make the partitions of this month and the next ones."""
    await _ask(connection, "prepare", MONTHS_AHEAD)


async def _drop(pool: Pool, stamp: Stamp, retention_days: int) -> list[str]:
    try:
        async with pool.acquire() as connection, connection.transaction():
            await await_turn(connection)
            await sound_head(connection, stamp)
            dropped: list[str] = await connection.fetchval(_SQL["drop_before"], retention_days) or []
            if dropped:
                now: datetime = await connection.fetchval(_SQL["now"])
                await seal_dropped(connection, stamp, [_month(name) for name in dropped], now)
            return dropped
    except asyncpg.LockNotAvailableError:
        _log.warning("trail.in_use")
    except BrokenChainError as error:
        _log.error("trail.chain_broken", error=str(error))
    return []


def _month(partition: str) -> date:
    """The month of `audit_2026_03`."""
    return datetime.strptime(partition, "audit_%Y_%m").date()


async def _ask(connection: Pool | Connection, statement: str, argument: int) -> Any:
    """What the function answers; None when somebody holds the trail."""
    try:
        return await connection.fetchval(_SQL[statement], argument)
    except asyncpg.LockNotAvailableError:
        _log.warning("trail.in_use")
        return None

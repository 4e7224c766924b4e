"""Sealing the trail: committed rows are chained by hash behind the ledger's transactions, which know nothing of it.

Rows commit out of the order of their ids, and ids of transactions that were rolled back stay away for good. So only the
ids below a horizon are sealed, at which no transaction can still bring one:

- whoever takes an id already has its transaction's id (the column's default sees to that);
- the highest id taken is read first, then a transaction's id of our own is drawn. Every transaction that holds an id up
  to the one that was read has a lower one than ours;
- once all transactions below ours have ended, what they committed is seen by each later statement.

Any number may seal: each batch is a transaction under one lock, in which the head is read again. A head that was not
made under a master secret of ours is not built upon: it would vouch for what is wrong.
"""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import msgspec
import structlog

from shared.ledger.chain import Kind, Seal, Stamp, link, link_dropped, next_id, tallied
from shared.ledger.connections import LOST, Connection, Pool, UnavailableError
from shared.ledger.statements import load

_SQL = load("sealing.sql")
_TURN = 0x5EA7_5EA1

BATCH = 10_000
"""Rows that one seal speaks for, at most."""

_log = structlog.get_logger()


class BrokenChainError(Exception):
    """The last seal is not one that a holder of the master secrets made."""


class Sealed(msgspec.Struct, frozen=True, kw_only=True):
    """What one turn has done: rows sealed, whether none is left below the horizon, and the chain's head then."""

    rows: int = 0
    done: bool = True
    head: Seal | None = None


class _Horizon(msgspec.Struct, frozen=True, kw_only=True):
    """The trail's highest id once, and a transaction's id below which all that held such ids began."""

    last_id: int
    transaction: int


class Sealer:
    """Seals what was committed, batch by batch. Raises `UnavailableError` and `BrokenChainError`."""

    def __init__(self, pool: Pool, stamp: Stamp, *, batch: int = BATCH) -> None:
        self._pool = pool
        self._stamp = stamp
        self._batch = batch
        self._horizon: _Horizon | None = None
        self._sealed_id = 0

    async def seal(self) -> Sealed:
        """Seal the next batch, if its transactions have ended and nobody else is at it."""
        try:
            horizon = self._horizon = self._horizon or await self._next_horizon()
            if horizon is None:
                return Sealed()
            if await self._pool.fetchval(_SQL["oldest"]) < horizon.transaction:
                return Sealed(done=False)
            sealed = await self._seal(horizon.last_id)
        except LOST as error:
            raise UnavailableError from error
        if sealed.done:
            self._sealed_id, self._horizon = horizon.last_id, None
        return sealed

    async def _next_horizon(self) -> _Horizon | None:
        """None when no id was taken since the last."""
        issued = await self._pool.fetchval(_SQL["issued"])
        if issued <= self._sealed_id:
            return None
        return _Horizon(last_id=issued, transaction=await self._pool.fetchval(_SQL["mark"]))

    async def _seal(self, last_id: int) -> Sealed:
        async with self._pool.acquire() as connection, connection.transaction():
            if not await connection.fetchval(_SQL["take_turn"], _TURN):
                return Sealed(done=False)
            head = await sound_head(connection, self._stamp)
            rows = await connection.fetch(_SQL["rows"], next_id(head), last_id, self._batch)
            if not rows:
                return Sealed(head=head)
            done = len(rows) < self._batch
            seals = link(
                head,
                tallied(rows),
                last_id=last_id if done else rows[-1]["id"],
                now=await connection.fetchval(_SQL["now"]),
                stamp=self._stamp,
            )
            await _add(connection, seals)
        return Sealed(rows=len(rows), done=done, head=seals[-1])


async def seal_dropped(connection: Connection, stamp: Stamp, months: Sequence[date], now: datetime) -> None:
    """Say in the chain that these months went, in the transaction that drops them and whose turn it is."""
    await _add(connection, link_dropped(await sound_head(connection, stamp), months, now=now, stamp=stamp))


async def await_turn(connection: Connection) -> None:
    """From here to the end of the transaction nobody else adds to the chain."""
    await connection.execute(_SQL["await_turn"], _TURN)


async def sound_head(connection: Connection, stamp: Stamp) -> Seal | None:
    """The last seal; None before the first. Raises `BrokenChainError`."""
    row = await connection.fetchrow(_SQL["head"])
    if row is None:
        return None
    head = seal_of(row)
    if head.computed_hash() != head.hash or not stamp.fits(head.key_id, head.hash, head.mac):
        raise BrokenChainError(f"seal {head.number} was not made here, or was changed")
    return head


def seal_of(row: Any) -> Seal:
    return Seal(**dict(row) | {"kind": Kind(row["kind"])})


async def _add(connection: Connection, seals: Sequence[Seal]) -> None:
    await connection.executemany(
        _SQL["add"], [tuple(getattr(seal, name) for name in Seal.__struct_fields__) for seal in seals]
    )

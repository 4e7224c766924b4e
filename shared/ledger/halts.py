"""How the reaper stands: halted by a breaker or not, for all or for one account, and until when it is held.

Kept in Postgres, so that replicas agree and `decide` itself honours what is said for all: see `ledger.sql`.
"""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from shared.ledger.connections import Pool
from shared.ledger.reader import fetch
from shared.ledger.rows import own
from shared.ledger.statements import load

_SQL = load("reaping.sql")

ALL = UUID(int=0)
"""In place of an account: all of them."""


class Cause(StrEnum):
    """The breakers."""

    CLOCK_STEPPED = "clock_stepped"
    CONTACTS_FELL = "contacts_fell"
    TOO_MANY = "too_many"


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How the reaper stands towards one account, or all. `detail` holds the figures in one line."""

    not_before: datetime | None = None
    halted_at: datetime | None = None
    cause: Cause | None = None
    detail: str | None = None
    resumed_at: datetime | None = None
    resumed_cause: Cause | None = None

    @property
    def halted(self) -> bool:
        return self.halted_at is not None


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """One reading: the database's clock, contacts of the last full hour and a week before it, and all standings."""

    now: datetime
    contacts: int
    contacts_week_before: int
    standings: dict[UUID, Standing]

    @property
    def all(self) -> Standing:
        return self.standings.get(ALL, Standing())

    @property
    def halted_accounts(self) -> dict[UUID, Standing]:
        return {account: one for account, one in self.standings.items() if one.halted and account != ALL}

    @property
    def held_until(self) -> datetime | None:
        """The moment before which no lease of a day or more ends, if it is still to come."""
        until = self.all.not_before
        return until if until is not None and self.now < until else None


async def look(pool: Pool) -> Look:
    """Raises `UnavailableError`, as all of these do."""
    rows = await fetch(pool, _SQL["look"])
    return Look(
        now=rows[0]["now"],
        contacts=rows[0]["contacts"],
        contacts_week_before=rows[0]["contacts_week_before"],
        standings={
            own(row["account_id"]): Standing(
                not_before=row["not_before"],
                halted_at=row["halted_at"],
                cause=row["cause"] and Cause(row["cause"]),
                detail=row["detail"],
                resumed_at=row["resumed_at"],
                resumed_cause=row["resumed_cause"] and Cause(row["resumed_cause"]),
            )
            for row in rows
        },
    )


async def halt(pool: Pool, account: UUID, cause: Cause, detail: str) -> bool:
    """Halt for an account or `ALL`; False where a halt stood already."""
    return bool(await fetch(pool, _SQL["halt"], account, cause, detail))


async def resume(pool: Pool, account: UUID) -> bool:
    """End the halt; False where there was none."""
    return bool(await fetch(pool, _SQL["resume"], account))


async def hold(pool: Pool, until: datetime | None) -> None:
    """End no lease of a day or more before `until`; None lifts that."""
    await fetch(pool, _SQL["hold"], until)


async def begin_after_restore(pool: Pool, *, hold_s: int) -> tuple[datetime, int]:
    """Hold for so long from now, and let nothing count that Redis has of the lost future.

    Returns the moment until which it is held, and the seconds of the longest lease of any policy.
    """
    held = (await fetch(pool, _SQL["hold_for"], hold_s))[0]
    await fetch(pool, _SQL["leave_lost_epochs"])
    return held["not_before"], held["longest_lease_s"] or 0

"""Where the reaper looks: devices whose leases seem over or about to end, a page of the index on lease ends at a time.

These are hints. Each becomes a command, and the ledger decides again under its lock.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

import msgspec

from shared.ledger.connections import Pool
from shared.ledger.reader import fetch
from shared.ledger.rows import own
from shared.ledger.statements import load

_SQL = load("reaping.sql")

COUNT_PAGE = 20_000

Which = Literal["expired_devices", "expiring_devices", "floating_devices"]

Position = tuple[datetime, UUID, UUID, UUID]
"""(lease end, account id, license id, device id) of the last device that was looked at."""

START: Position = (datetime(1970, 1, 1, tzinfo=UTC), UUID(int=0), UUID(int=0), UUID(int=0))


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A device that was silent for long. `long` tells a lease of a day or more."""

    account_id: UUID
    license_id: UUID
    device_id: UUID
    generation: int
    lease_expires_at: datetime
    last_contact_at: datetime | None
    customer: str
    key_prefix: str
    long: bool


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Candidates ordered by license, and where the next page begins if there is one."""

    found: list[Candidate]
    next: Position | None


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How many leases are past their end, and how many of them are due; long ones are those of a day or more."""

    short: int
    short_due: int
    long: int
    long_due: Counter[UUID]

    @property
    def due(self) -> int:
        return self.short_due + self.long_due.total()


async def candidates(pool: Pool, which: Which, *, after: Position, limit: int) -> Page:
    """The candidates among the next `limit` devices behind `after`. Raises `UnavailableError`."""
    rows = await fetch(pool, _SQL[which], *after, limit)
    last = next((row for row in rows if row["last"]), None)
    return Page(found=[_candidate(row) for row in rows if row["due"]], next=None if last is None else _position(last))


async def ended(pool: Pool) -> Ended:
    """Count the leases past their end, a page at a time. Raises `UnavailableError`."""
    position: Position | None = START
    long_due: Counter[UUID] = Counter()
    short = short_due = long = 0
    while position is not None:
        rows = await fetch(pool, _SQL["ended_leases"], *position, COUNT_PAGE)
        for row in rows:
            if row["long"]:
                long += row["ended"]
                long_due[own(row["counted_account_id"])] += row["due"]
            elif row["long"] is not None:
                short += row["ended"]
                short_due += row["due"]
        position = _position(rows[0]) if rows[0]["id"] is not None else None
    return Ended(short=short, short_due=short_due, long=long, long_due=+long_due)


async def active_devices(pool: Pool, accounts: Sequence[UUID]) -> dict[UUID, int]:
    """The seats in use of each account. Raises `UnavailableError`."""
    rows = await fetch(pool, _SQL["active_devices"], accounts)
    return {own(row["account_id"]): int(row["active"]) for row in rows}


def _candidate(row: Any) -> Candidate:
    return Candidate(
        account_id=own(row["account_id"]),
        license_id=own(row["license_id"]),
        device_id=own(row["id"]),
        generation=row["generation"],
        lease_expires_at=row["lease_expires_at"],
        last_contact_at=row["last_contact_at"],
        customer=row["customer"],
        key_prefix=row["key_prefix"],
        long=row["long"],
    )


def _position(row: Any) -> Position:
    return row["lease_expires_at"], row["account_id"], row["license_id"], row["id"]

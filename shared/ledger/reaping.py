"""Where the reaper looks: devices whose leases seem over or about to end, oldest first, a page at a time.

These are hints. Each becomes a command, and the ledger decides again under its lock.
"""

from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

import msgspec

from shared.ledger.connections import Pool
from shared.ledger.reader import fetch
from shared.ledger.rows import own
from shared.ledger.statements import load

_SQL = load("reading.sql")

Which = Literal["expired_devices", "expiring_devices", "floating_devices"]


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A device that was silent for long."""

    account_id: UUID
    license_id: UUID
    device_id: UUID
    generation: int
    lease_expires_at: datetime
    last_contact_at: datetime | None
    customer: str
    key_prefix: str


async def candidates(pool: Pool, which: Which, *, after: Candidate | None, limit: int) -> list[Candidate]:
    """The next page of candidates behind `after`. Raises `UnavailableError`."""
    rows = await fetch(pool, _SQL[which], *_position(after), limit)
    return [
        Candidate(
            account_id=own(row["account_id"]),
            license_id=own(row["license_id"]),
            device_id=own(row["id"]),
            generation=row["generation"],
            lease_expires_at=row["lease_expires_at"],
            last_contact_at=row["last_contact_at"],
            customer=row["customer"],
            key_prefix=row["key_prefix"],
        )
        for row in rows
    ]


def _position(after: Candidate | None) -> tuple[datetime, UUID, UUID, UUID]:
    if after is None:
        nil = UUID(int=0)
        return datetime(1970, 1, 1, tzinfo=UTC), nil, nil, nil
    return after.lease_expires_at, after.account_id, after.license_id, after.device_id

"""A reaper for tests: its pass, with a pool, a ledger and breakers of its own, and devices for it to free."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

from services.reaper.guard import Guard
from services.reaper.reap import Reap
from shared.ledger.connections import Pool
from shared.ledger.ledger import Ledger
from shared.ledger.reader import LicenseRef
from shared.licensing.model import Activate, Granted, Terms
from tests.builders import add_license, ask, fetch, names, open_ledger, open_role
from tests.conftest import Database

REAPER = "seatkeeper_reaper"


@dataclass(frozen=True)
class Reaper:
    """One replica. `pass_` makes a pass; a ledger of its own batches little, so that replicas meet often."""

    pass_: Reap
    guard: Guard
    pool: Pool


@asynccontextmanager
async def open_reaper(
    database: Database, *, clock_may_jump: bool = True, page: int = 1000, batch_limit: int = 256
) -> AsyncIterator[Reaper]:
    async with open_role(database.dsn_for(REAPER)) as pool:
        ledger = Ledger(pool, after_commit=_tell_nobody, batch_limit=batch_limit, queue_limit=2 * page)
        guard = Guard(pool, clock_may_jump=clock_may_jump)
        yield Reaper(Reap(pool, ledger, guard, page=page), guard, pool)


async def seat(
    database: Database,
    count: int,
    *,
    account: UUID | None = None,
    terms: Terms | None = None,
    prefix: str = "device",
) -> LicenseRef:
    """A license all of whose seats are held by devices that were heard now."""
    ref = await add_license(database, seats=count, terms=terms, account_id=account)
    async with open_ledger(database) as ledger:
        answers = await asyncio.gather(*(ledger.submit(ask(Activate, one, ref=ref)) for one in names(count, prefix)))
    assert all(isinstance(decision.answer, Granted) for decision in answers)
    return ref


async def silence(database: Database, ref: LicenseRef, *, count: int, ended: timedelta) -> None:
    """Let the leases of `count` of the license's devices have ended so long ago."""
    await fetch(
        database,
        "UPDATE device d SET lease_expires_at = e, last_contact_at = e - interval '1 day' FROM ("
        " SELECT id, ledger_clock() - $3::interval AS e FROM device WHERE license_id = $1 AND state = 'active'"
        " ORDER BY id LIMIT $2) AS s WHERE d.license_id = $1 AND d.id = s.id",
        ref[1],
        count,
        ended,
    )


async def used(database: Database, ref: LicenseRef) -> int:
    return int((await fetch(database, "SELECT seats_used FROM license WHERE id = $1", ref[1]))[0][0])


async def new_account(database: Database) -> UUID:
    id = uuid4()
    await fetch(database, "INSERT INTO account (id, name) VALUES ($1, 'Vendor')", id)
    return id


async def _tell_nobody(_: object) -> None:
    """Redis is away."""

"""What the system itself holds when it is at rest: licenses, devices, trail, outbox and effects, of one instant.

Reading is all that happens here; what follows from it is for the checks, which take these structs alone.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from shared.ledger.connections import open_pool
from shared.ledger.reconciling import named
from shared.licensing.model import Change, Kind
from shared.seats.connection import RedisConnection
from shared.seats.drift import drift
from shared.seats.inspection import AwayError, Inspection

LOOKED_AT_ONCE = 200

_LICENSES = """
    SELECT l.account_id, l.id, l.status, l.seats_limit, l.seats_used, l.seats_allowed, l.version, p.kind, p.lease_s,
           coalesce(p.rules ->> 'overage' = 'unlimited', false) AS overage
    FROM license l JOIN policy p ON p.account_id = l.account_id AND p.id = l.policy_id
    WHERE l.id = ANY ($1::uuid[])"""
_EVENTS = """
    SELECT license_id, version, at, actor, event, device_id, generation, reason, seats_limit, seats_used, seats_allowed
    FROM audit WHERE license_id = ANY ($1::uuid[]) ORDER BY license_id, version"""
_DEVICES = "SELECT license_id, id, state, generation FROM device WHERE license_id = ANY ($1::uuid[])"
_OUTBOX = "SELECT license_id, version FROM outbox WHERE license_id = ANY ($1::uuid[])"
_UNSENT = "SELECT count(*) FROM outbox WHERE sent_at IS NULL"
_EFFECTS = """
    SELECT license_id, version, count(*) AS times FROM witness_effect WHERE license_id = ANY ($1::uuid[])
    GROUP BY license_id, version"""


class Event(msgspec.Struct, frozen=True):
    """A row of the trail. `at_ns` is the ledger's time, since 1970."""

    version: int
    at_ns: int
    actor: str
    event: str
    device: str
    generation: int | None
    reason: str
    limit: int
    used: int
    allowed: int


class Row(msgspec.Struct, frozen=True):
    """A device as its row has it."""

    device: str
    state: str
    generation: int


class License(msgspec.Struct, kw_only=True):
    """A license as Postgres holds it. None: not looked at.

    `outbox` and `effects` count by version; `delivered` tells when the witness heard of each first (monotonic, ns).
    """

    account: str
    id: str
    status: str
    limit: int
    used: int
    allowed: int
    version: int
    kind: Kind
    lease_s: int
    overage: bool
    events: list[Event] = msgspec.field(default_factory=list)
    rows: list[Row] = msgspec.field(default_factory=list)
    outbox: Counter[int] = msgspec.field(default_factory=Counter)
    effects: Counter[int] | None = None
    delivered: dict[int, int] | None = None


async def read(owner_dsn: str, ids: Sequence[str]) -> dict[str, License]:
    """The licenses of one snapshot."""
    connection = await asyncpg.connect(owner_dsn)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return await _read(connection, [UUID(id) for id in ids])
    finally:
        await connection.close()


async def _read(connection: asyncpg.Connection, ids: Sequence[UUID]) -> dict[str, License]:
    licenses = {}
    for row in await connection.fetch(_LICENSES, ids):
        licenses[str(row["id"])] = License(
            account=str(row["account_id"]),
            id=str(row["id"]),
            status=row["status"],
            limit=row["seats_limit"],
            used=row["seats_used"],
            allowed=row["seats_allowed"],
            version=row["version"],
            kind=Kind(row["kind"]),
            lease_s=row["lease_s"],
            overage=row["overage"],
        )
    for row in await connection.fetch(_EVENTS, ids):
        licenses[str(row["license_id"])].events.append(_event(row))
    for row in await connection.fetch(_DEVICES, ids):
        found = Row(str(row["id"]), row["state"], row["generation"])
        licenses[str(row["license_id"])].rows.append(found)
    for row in await connection.fetch(_OUTBOX, ids):
        licenses[str(row["license_id"])].outbox[row["version"]] += 1
    return licenses


def _event(row: Any) -> Event:
    return Event(
        row["version"],
        nanoseconds(row["at"]),
        row["actor"],
        row["event"],
        str(row["device_id"] or ""),
        row["generation"],
        row["reason"] or "",
        row["seats_limit"],
        row["seats_used"],
        row["seats_allowed"],
    )


def nanoseconds(moment: datetime) -> int:
    """Since 1970, to the microsecond: a float would lose some."""
    return int(moment.replace(microsecond=0).timestamp()) * 1_000_000_000 + moment.microsecond * 1000


async def drained(owner_dsn: str, *, within_s: float) -> int:
    """Wait until no fact waits to be sent; returns how many still do at the end of the time."""
    deadline = time.monotonic() + within_s
    connection = await asyncpg.connect(owner_dsn)
    try:
        while True:
            unsent: int = await connection.fetchval(_UNSENT)
            if not unsent or time.monotonic() > deadline:
                return unsent
            await asyncio.sleep(0.05)
    finally:
        await connection.close()


async def read_effects(owner_dsn: str, licenses: dict[str, License]) -> None:
    """Fill in how often each fact had its effect."""
    for license in licenses.values():
        license.effects = Counter()
    connection = await asyncpg.connect(owner_dsn)
    try:
        for row in await connection.fetch(_EFFECTS, [UUID(id) for id in licenses]):
            effects = licenses[str(row["license_id"])].effects
            assert effects is not None
            effects[row["version"]] = row["times"]
    finally:
        await connection.close()


async def lasting_drift(
    owner_dsn: str, redis_url: str, ids: Sequence[tuple[str, str]], *, within_s: float
) -> dict[str, str]:
    """The licenses that Redis holds otherwise than Postgres until the end of the time, and how.

    `ids` are of account and license. One look at which both agree is enough. A license that changed meanwhile, because
    a lease ended, has the whole time from then on.
    """
    pool = await open_pool(owner_dsn, application="observer", size=1, statement_timeout_s=30)
    redis = RedisConnection(redis_url, timeout_s=2.0)
    try:
        epoch: int = await pool.fetchval("SELECT epoch FROM projection")
        inspection = Inspection(redis, lambda: epoch)
        left = {(UUID(account), UUID(id)): (0, time.monotonic() + within_s) for account, id in ids}
        found: dict[str, str] = {}
        while left:
            epoch = await pool.fetchval("SELECT epoch FROM projection")
            refs = list(left)[:LOOKED_AT_ONCE]
            seen = await _seen(inspection, refs)
            held = {(one.license.account_id, one.license.id): one for one in await named(pool, refs)}
            for ref in refs:
                difference = "out of reach" if seen is None else _difference(epoch, seen[ref], held[ref])
                version, deadline = left.pop(ref)
                if difference and held[ref].license.version != version:
                    version, deadline = held[ref].license.version, time.monotonic() + within_s
                if difference and time.monotonic() < deadline:
                    left[ref] = version, deadline
                elif difference:
                    found[str(ref[1])] = difference
            await asyncio.sleep(0.1 if left else 0)
        return found
    finally:
        await redis.close()
        await pool.close()


async def _seen(inspection: Inspection, refs: Sequence[tuple[UUID, UUID]]) -> dict[tuple[UUID, UUID], Any] | None:
    try:
        return dict(zip(refs, await inspection.read(refs), strict=True))
    except AwayError:
        return None


def _difference(epoch: int, fields: Any, held: Change) -> str:
    return "; ".join(f"{kind}: {words}" for kind, words in drift(epoch, fields, held).items())

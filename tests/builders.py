"""Makes what tests talk about: terms, licenses, devices and commands in memory, and the same in a database.

In memory everything belongs to one license (`REF`) and happens at `NOW`; what a test does not name is ordinary.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid4

import asyncpg
from msgspec.structs import replace

from shared.ledger.catalog import Catalog, NewKey
from shared.ledger.connections import Pool, open_pool
from shared.ledger.ledger import QUEUE_LIMIT, AfterCommit, Ledger
from shared.ledger.reader import LicenseRef
from shared.licensing.codes import Code
from shared.licensing.leases import DAY_S
from shared.licensing.model import (
    ActivationToken,
    Approval,
    Change,
    Command,
    Decision,
    Device,
    DeviceCommand,
    DeviceState,
    Granted,
    Kind,
    License,
    LicenseStatus,
    Reason,
    Refused,
    Terms,
    device_id,
)
from shared.signing.seal import TrailStamp
from shared.signing.secrets import MasterSecrets
from tests.conftest import Database

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
REF: LicenseRef = (UUID("0190aaaa-0000-7000-8000-000000000001"), UUID("0190bbbb-0000-7000-8000-000000000002"))
ACTIVATION = "seatkeeper_activation"
STAMP = TrailStamp(MasterSecrets({"k1": bytes(range(32))}, "k1"))

Kinds = TypeVar("Kinds", bound=Command)


# --- In memory ------------------------------------------------------------------------------------------------


def make_terms(*, lease_s: int = 90 * DAY_S, kind: Kind = Kind.NODE_LOCKED, **changes: Any) -> Terms:
    terms = Terms(
        kind=kind,
        lease_s=lease_s,
        offline_grace_s=lease_s if kind is Kind.FLOATING else min(7 * DAY_S, lease_s),
        heartbeat_interval_s=max(1, min(3600, lease_s // 3)),
        approval=Approval.AUTOMATIC,
        product_code="editor",
    )
    return replace(terms, **changes)


def floating(lease_s: int = 600) -> Terms:
    return make_terms(kind=Kind.FLOATING, lease_s=lease_s)


def make_device(fingerprint: str = "laptop", state: DeviceState = DeviceState.ACTIVE, **changes: Any) -> Device:
    """An active device was heard a moment ago under a lease of 90 days, any other never held more than one seat."""
    seated = state is DeviceState.ACTIVE
    ended = {DeviceState.RELEASED: Reason.USER, DeviceState.BLOCKED: Reason.BLOCKED}.get(state)
    device = Device(
        account_id=REF[0],
        license_id=REF[1],
        id=device_id(REF[1], fingerprint),
        fingerprint=fingerprint,
        name="",
        state=state,
        generation=0 if state is DeviceState.PENDING else 1,
        approved=False,
        activated_at=None if state is DeviceState.PENDING else NOW - timedelta(days=1),
        last_contact_at=NOW if seated else None,
        lease_expires_at=NOW + timedelta(days=90) if seated else None,
        announced_lease_end=None,
        ended_at=NOW - timedelta(hours=1) if ended else None,
        ended_reason=ended,
        reset_at=None,
        nonces=(),
    )
    return replace(device, **changes)


def make_license(devices: Iterable[Device] = (), *, seats: int = 3, **changes: Any) -> License:
    """A license whose counts are those of its devices."""
    devices = list(devices)
    states = [device.state for device in devices]
    used = states.count(DeviceState.ACTIVE)
    license = License(
        account_id=REF[0],
        id=REF[1],
        status=LicenseStatus.ACTIVE,
        seats_limit=seats,
        seats_allowed=max(seats, used),
        seats_used=used,
        devices_pending=sum(device.state is DeviceState.PENDING and not device.approved for device in devices),
        version=7,
        expires_at=None,
        terms=make_terms(),
    )
    return replace(license, **changes)


def make_token(**changes: Any) -> ActivationToken:
    token = ActivationToken(id=UUID(int=77), expires_at=NOW + timedelta(days=30), max_uses=5, uses=0, revoked_at=None)
    return replace(token, **changes)


def ask(kind: type[Kinds], fingerprint: str = "laptop", *, ref: LicenseRef = REF, **members: Any) -> Kinds:
    """A command to `ref`, about the device of that fingerprint where the kind is about one."""
    if issubclass(kind, DeviceCommand):
        members.setdefault("device_id", device_id(ref[1], fingerprint))
    if "fingerprint" in kind.__struct_fields__:
        members.setdefault("fingerprint", fingerprint)
    return kind(account_id=ref[0], license_id=ref[1], actor="test", **members)


def names(count: int, prefix: str = "device") -> list[str]:
    """So many fingerprints."""
    return [f"{prefix}-{number}" for number in range(count)]


def code_of(decision: Decision) -> Code | None:
    """Why a command was refused; None when it was granted."""
    return decision.answer.code if isinstance(decision.answer, Refused) else None


def device_of(decision: Decision) -> Device:
    """The device of a command that was granted."""
    assert isinstance(decision.answer, Granted)
    assert decision.answer.device is not None
    return decision.answer.device


# --- In a database --------------------------------------------------------------------------------------------


async def add_license(
    database: Database,
    *,
    seats: int = 3,
    terms: Terms | None = None,
    expires_at: datetime | None = None,
    account_id: UUID | None = None,
) -> LicenseRef:
    """Grant a license under a product and policy of its own, in a new account or in the given one."""
    return (await add_licenses(database, 1, seats=seats, terms=terms, expires_at=expires_at, account_id=account_id))[0]


async def add_licenses(
    database: Database,
    count: int,
    *,
    seats: int = 3,
    terms: Terms | None = None,
    expires_at: datetime | None = None,
    account_id: UUID | None = None,
) -> list[LicenseRef]:
    account, name = account_id or uuid4(), uuid4().hex
    terms = replace(terms or make_terms(), product_code=name)
    async with owner_pool(database) as pool:
        catalog = Catalog(pool)
        if account_id is None:
            await catalog.add_account(account, "Vendor", [])
        await catalog.add_product(account, uuid4(), code=name, name="Editor")
        await catalog.add_policy(account, uuid4(), name=name, seats=seats, terms=terms)
        refs = sorted((account, uuid4()) for _ in range(count))
        for ref in refs:
            await catalog.add_license(
                ref,
                policy=name,
                seats=None,
                expires_at=expires_at,
                customer="",
                key=NewKey(digest=uuid4().bytes * 2, key_id="test", prefix=""),
                actor="test",
            )
    return refs


async def add_token(database: Database, ref: LicenseRef, *, max_uses: int = 1, ttl_s: float = 3600) -> UUID:
    id = uuid4()
    async with owner_pool(database) as pool:
        await Catalog(pool).add_activation_token(ref, id, ttl_s=ttl_s, max_uses=max_uses)
    return id


@asynccontextmanager
async def owner_pool(database: Database) -> AsyncIterator[Pool]:
    async with open_role(database.owner_dsn) as pool:
        yield pool


@asynccontextmanager
async def open_role(dsn: str, *, size: int = 4, statement_timeout_s: float = 5.0) -> AsyncIterator[Pool]:
    """A pool as services open theirs."""
    pool = await open_pool(dsn, application="test", size=size, statement_timeout_s=statement_timeout_s)
    try:
        yield pool
    finally:
        await pool.close()


@asynccontextmanager
async def open_ledger(
    database: Database,
    *,
    role: str = ACTIVATION,
    after_commit: AfterCommit | None = None,
    queue_limit: int = QUEUE_LIMIT,
    statement_timeout_s: float = 5.0,
) -> AsyncIterator[Ledger]:
    """A ledger with a pool of its own, as one process of a service has."""
    async with open_role(database.dsn_for(role), statement_timeout_s=statement_timeout_s) as pool:
        ledger = Ledger(pool, after_commit=after_commit or _tell_nobody, queue_limit=queue_limit)
        try:
            yield ledger
        finally:
            await ledger.close()


@asynccontextmanager
async def owner(database: Database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.owner_dsn)
    try:
        yield connection
    finally:
        await connection.close(timeout=5)


async def fetch(database: Database, statement: str, *arguments: object) -> list[tuple[Any, ...]]:
    """What the owner sees."""
    async with owner(database) as connection:
        return [tuple(row) for row in await connection.fetch(statement, *arguments)]


async def shift_clock(database: Database, shift: timedelta) -> None:
    """Make the ledger's clock run that far ahead of the true one, as demonstrations do."""
    async with owner(database) as connection:
        await connection.execute(
            "CREATE OR REPLACE FUNCTION ledger_clock() RETURNS timestamptz LANGUAGE sql VOLATILE AS "
            f"'SELECT clock_timestamp() + interval ''{shift.total_seconds():.6f} seconds'''"
        )


async def _tell_nobody(changes: Sequence[Change]) -> None:
    """Redis is away."""

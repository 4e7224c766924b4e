"""Reading outside the ledger's transactions: what a key belongs to, how a license stands, which devices it has.

Questions that arrive together go to Postgres together. Nothing here decides about a seat.
"""

from collections.abc import Awaitable, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec

from shared.batching import Batcher
from shared.ledger.connections import LOST, Pool, UnavailableError
from shared.ledger.rows import columns, device_of, license_of, own
from shared.ledger.statements import load
from shared.licensing.leases import slack_s
from shared.licensing.model import Device, DeviceState, License

_SQL = load("reading.sql")

KEYS_REMEMBERED = 500_000
"""Some 200 bytes each. So many at most; once there are more, the latest half at least."""

LicenseRef = tuple[UUID, UUID]
"""(account id, license id)."""

DeviceRef = tuple[UUID, UUID, UUID]
"""(account id, license id, device id)."""

Newcomer = tuple[UUID, UUID, UUID, int, int]
"""(account id, license id, device id, the license's version, its slack in seconds): see `Reader.still_full`."""


class StoredKey(msgspec.Struct, frozen=True, kw_only=True):
    """A signing key as it rests in Postgres: the private half sealed."""

    kid: str
    role: str
    public_key: bytes
    sealed_with: str
    sealed: bytes
    certificate: str | None


class Holder(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An active device as another device of its license may be told of it; times to the second."""

    name: str
    device_id: UUID
    last_contact_at: datetime | None
    lease_expires_at: datetime | None


class TrailEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One audited change of a license."""

    version: int
    at: datetime
    actor: str
    event: str
    device_id: UUID | None
    generation: int | None
    reason: str | None
    seats_limit: int
    seats_used: int
    seats_allowed: int


class Reader:
    """Batched look-ups. Every method raises `UnavailableError` when Postgres cannot be asked."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._found: dict[bytes, bytes] = {}
        self._found_before: dict[bytes, bytes] = {}
        self._finder: Batcher[bytes, LicenseRef | None] = Batcher(self._find_all)
        self._licenses: Batcher[LicenseRef, License | None] = Batcher(self._read_all)
        self._newcomers: Batcher[Newcomer, bool] = Batcher(self._still_full_all, in_flight=1)

    def known(self, digests: Sequence[bytes]) -> bytes | None:
        """The license of a key that was found before and is remembered: the ids of account and license, 16 bytes each.

        To most who ask they are enough; to make UUIDs of them took longer than the look-up.
        """
        for digest in digests:
            if (ids := self._found.get(digest)) is not None:
                return ids
        for digest in digests:
            if (ids := self._found_before.get(digest)) is not None:
                self._remember(digest, ids)
                return ids
        return None

    async def find(self, digests: Sequence[bytes]) -> LicenseRef | None:
        """The license that a key belongs to, by its HMAC under each pepper in use.

        Remembered, since a key is never moved to another license; that a key is unknown is not.
        """
        if (ids := self.known(digests)) is not None:
            return ref_of(ids)
        for digest in digests:
            if (ref := await self._finder.ask(digest)) is not None:
                self._remember(digest, ref[0].bytes + ref[1].bytes)
                return ref
        return None

    async def license(self, ref: LicenseRef) -> License | None:
        return await self._licenses.ask(ref)

    def still_full(self, license: License, device_id: bytes) -> Awaitable[bool]:
        """Whether a license that the ledger found full would be found so again for a device, by the bytes of its id.

        All that a refusal rests on besides the version is read: that there is no such device, and the ends of leases
        and of the license.
        """
        slack, device = slack_s(license.terms.lease_s), UUID(bytes=device_id)
        return self._newcomers.ask((license.account_id, license.id, device, license.version, slack))

    async def devices(self, ref: LicenseRef, *, states: Sequence[DeviceState], after: UUID, limit: int) -> list[Device]:
        """A page of a license's devices in the order of their ids."""
        rows = await fetch(self._pool, _SQL["list_devices"], *ref, after, [state.value for state in states], limit)
        return [device_of(row) for row in rows]

    async def seats(self, refs: Sequence[DeviceRef]) -> list[tuple[License, Device | None] | None]:
        """Each device with its license, as of one moment and without a lock."""
        rows = await fetch(self._pool, _SQL["read_seats"], *columns(refs, 3))
        licenses: dict[LicenseRef, License] = {}
        devices: dict[DeviceRef, Device] = {}
        for row in rows:
            ref = own(row["account_id"]), own(row["license_id"])
            if ref not in licenses:
                licenses[ref] = license_of({**row, "id": row["license_id"]})
            if row["id"] is not None:
                devices[*ref, own(row["id"])] = device_of(row)
        found = ((licenses.get(ref[:2]), devices.get(ref)) for ref in refs)
        return [(license, device) if license is not None else None for license, device in found]

    async def holders(self, refs: Sequence[LicenseRef], *, limit: int) -> list[list[Holder]]:
        """The first `limit` active devices of each license, by the ends of their leases."""
        rows = await fetch(self._pool, _SQL["read_holders"], *columns(refs, 2), limit)
        holders: dict[LicenseRef, list[Holder]] = {}
        for row in rows:
            holders.setdefault((own(row["account_id"]), own(row["license_id"])), []).append(_holder_of(row))
        return [holders.get(ref, []) for ref in refs]

    async def account_keys(self, account_id: UUID) -> list[StoredKey]:
        rows = await fetch(self._pool, _SQL["account_keys"], account_id)
        return [StoredKey(**dict(row)) for row in rows]

    async def accounts(self, *, after: UUID, limit: int) -> list[UUID]:
        return [own(row["id"]) for row in await fetch(self._pool, _SQL["accounts"], after, limit)]

    async def trail(self, ref: LicenseRef, *, after_version: int = 0, limit: int = 1000) -> list[TrailEntry]:
        """The license's audited changes in their order."""
        rows = await fetch(self._pool, _SQL["trail"], *ref, after_version, limit)
        return [TrailEntry(**dict(row)) for row in rows]

    def _remember(self, digest: bytes, ids: bytes) -> None:
        """In two generations: when the younger is full, the older goes, but for what was asked for meanwhile."""
        self._found[digest] = ids
        if len(self._found) >= KEYS_REMEMBERED // 2:
            self._found, self._found_before = {}, self._found

    async def _find_all(self, digests: Sequence[bytes]) -> list[LicenseRef | None]:
        rows = await fetch(self._pool, _SQL["find_licenses"], list(digests))
        found = {row["digest"]: (own(row["account_id"]), own(row["license_id"])) for row in rows}
        return [found.get(digest) for digest in digests]

    async def _read_all(self, refs: Sequence[LicenseRef]) -> list[License | None]:
        rows = await fetch(self._pool, _SQL["read_licenses"], *columns(refs, 2))
        found = {(license.account_id, license.id): license for license in map(license_of, rows)}
        return [found.get(ref) for ref in refs]

    async def _still_full_all(self, newcomers: Sequence[Newcomer]) -> list[bool]:
        rows = await fetch(self._pool, _SQL["no_longer_full"], *columns(newcomers, 5))
        answers = [True] * len(newcomers)
        for row in rows:
            answers[row["number"] - 1] = False
        return answers


def ref_of(ids: bytes) -> LicenseRef:
    """By the 32 bytes of both ids."""
    return UUID(bytes=ids[:16]), UUID(bytes=ids[16:])


def _holder_of(row: asyncpg.Record) -> Holder:
    return Holder(
        name=row["name"],
        device_id=own(row["id"]),
        last_contact_at=_to_the_second(row["last_contact_at"]),
        lease_expires_at=_to_the_second(row["lease_expires_at"]),
    )


def _to_the_second(moment: datetime | None) -> datetime | None:
    return moment.replace(microsecond=0) if moment is not None else None


async def fetch(pool: Pool, statement: str, *arguments: object) -> list[asyncpg.Record]:
    """Run one reading statement; raises `UnavailableError` when Postgres cannot be asked."""
    try:
        return list(await pool.fetch(statement, *arguments))
    except LOST as error:
        raise UnavailableError from error

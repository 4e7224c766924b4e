"""Offline files as they are kept: one device key for each generation, one file for each request.

Both are added and never changed, so of those who come at the same time one is first and the others find what it kept.
What fails while it is being added may be there all the same: `OutcomeUnknownError`, and asking again tells.
"""

from datetime import datetime
from uuid import UUID

import msgspec

from shared.ledger.connections import LOST, Pool, UnavailableError
from shared.ledger.reader import DeviceRef, fetch
from shared.ledger.rows import own
from shared.ledger.statements import load
from shared.ledger.transaction import OutcomeUnknownError

_SQL = load("offline.sql")

KEEP_ENDED_S = 366 * 86_400.0
"""A request older than a year is not answered, so that none is answered again after its file was cleared away."""

CLEARED_AT_ONCE = 1000


class KeptFile(msgspec.Struct, frozen=True, kw_only=True):
    """What was answered to a request, and under which license."""

    license_id: UUID
    file: bytes


class OfflineFiles:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def bind_key(self, device: DeviceRef, generation: int, key: bytes) -> bytes:
        """The key of a device's generation: this one, unless it has another already."""
        await self._add(_SQL["bind_key"], *device, generation, key)
        bound = await self.key_of(device, generation)
        assert bound is not None  # rows are never removed
        return bound

    async def key_of(self, device: DeviceRef, generation: int) -> bytes | None:
        """The key of a generation that was given an offline file. Raises `UnavailableError`."""
        rows = await fetch(self._pool, _SQL["key_of"], *device, generation)
        return rows[0]["device_key"] if rows else None

    async def keep(
        self, device: DeviceRef, generation: int, *, request: bytes, file: bytes, expires_at: datetime
    ) -> KeptFile:
        """The answer to a request: this file, unless it was answered already."""
        account_id, license_id, device_id = device
        await self._add(_SQL["keep_file"], account_id, request, license_id, device_id, generation, file, expires_at)
        kept = await self.find(account_id, request)
        assert kept is not None  # it lives for a year
        return kept

    async def find(self, account_id: UUID, request: bytes) -> KeptFile | None:
        """The answer to a request, by the request's SHA-256. Raises `UnavailableError`."""
        rows = await fetch(self._pool, _SQL["find_file"], account_id, request)
        return KeptFile(license_id=own(rows[0]["license_id"]), file=rows[0]["file"]) if rows else None

    async def _add(self, statement: str, *arguments: object) -> None:
        try:
            await self._pool.execute(statement, *arguments)
        except LOST as error:
            raise OutcomeUnknownError from error


async def clear_files(pool: Pool, *, keep_s: float = KEEP_ENDED_S) -> None:
    """Remove files that ended more than `keep_s` seconds ago, a thousand at a time."""
    try:
        while await pool.execute(_SQL["clear_files"], keep_s, CLEARED_AT_ONCE) == f"DELETE {CLEARED_AT_ONCE}":
            pass
    except LOST as error:
        raise UnavailableError from error

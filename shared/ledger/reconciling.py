"""Licenses as Postgres holds them, a page at a time, each with all of its active devices.

Nothing is locked: whoever compares what is read here with anything else has to reckon with later changes.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any
from uuid import UUID

from shared.ledger.connections import Pool
from shared.ledger.reader import LicenseRef, fetch
from shared.ledger.rows import columns, device_of, license_of
from shared.ledger.statements import load
from shared.licensing.model import Change

_SQL = load("reconciling.sql")

FIRST: LicenseRef = (UUID(int=0), UUID(int=0))
"""What the first page comes after."""


async def count(pool: Pool) -> int:
    """How many licenses there are."""
    ((licenses,),) = await fetch(pool, _SQL["count"])
    return int(licenses)


async def page_after(pool: Pool, after: LicenseRef, *, limit: int) -> list[Change]:
    """The next licenses in the order of their ids. Raises `UnavailableError`."""
    return _changes(await fetch(pool, _SQL["page"], *after, limit))


async def named(pool: Pool, refs: Sequence[LicenseRef]) -> list[Change]:
    """These licenses, in any order. Raises `UnavailableError`."""
    return _changes(await fetch(pool, _SQL["named"], *columns(refs, 2)))


def _changes(rows: Iterable[Any]) -> list[Change]:
    """The rows of a license stand together."""
    return [_change(list(group)) for _, group in groupby(rows, key=lambda row: (row["account_id"], row["license_id"]))]


def _change(rows: list[Any]) -> Change:
    license = license_of({**rows[0], "id": rows[0]["license_id"]})
    devices = tuple(device_of(row) for row in rows if row["id"] is not None)
    return Change(license=license, base_version=license.version, devices=devices)

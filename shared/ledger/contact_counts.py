"""Contacts by the hour: what this process heard, added up in Postgres so that the reaper knows a normal hour.

Statistics: an addition whose outcome is unknown is tried again, and may count twice.
"""

from collections.abc import Callable
from datetime import datetime

from shared.ledger.connections import Pool
from shared.ledger.reader import fetch
from shared.ledger.statements import load

_SQL = load("reaping.sql")


class ContactCounts:
    """`heard` says how many contacts this process has heard since it began."""

    def __init__(self, pool: Pool, heard: Callable[[], int]) -> None:
        self._pool = pool
        self._heard = heard
        self._added = 0

    async def add(self) -> None:
        """Add what was heard since the last time to the hour that it is in Postgres. Raises `UnavailableError`."""
        heard = self._heard()
        if heard > self._added:
            await fetch(self._pool, _SQL["add_contacts"], heard - self._added)
            self._added = heard


async def last_contacts(pool: Pool) -> tuple[datetime, int] | None:
    """The youngest hour that has a count. Raises `UnavailableError`."""
    rows = await fetch(pool, _SQL["last_contacts"])
    return (rows[0]["hour"], rows[0]["contacts"]) if rows else None


async def clear_contacts(pool: Pool) -> None:
    """Forget hours older than five weeks. Raises `UnavailableError`."""
    await fetch(pool, _SQL["clear_contacts"])

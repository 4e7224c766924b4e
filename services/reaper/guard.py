"""Gathers what the breakers judge, and halts the reaper where one trips.

A halt is written once, however many replicas see its cause, and stays until an operator resumes.
"""

import time
from datetime import datetime
from uuid import UUID

import structlog

from services.reaper import breakers
from services.reaper.breakers import Trip
from shared.ledger import halts
from shared.ledger.connections import Pool
from shared.ledger.halts import ALL, Look, Standing
from shared.ledger.reaping import Ended, active_devices

_log = structlog.get_logger()

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Goes on while the machine sleeps, as the database's does; elsewhere than on Linux the monotonic one does too."""


class Guard:
    """With `clock_may_jump` the database's clock is a simulated one, and its steps are no cause."""

    def __init__(self, pool: Pool, *, clock_may_jump: bool = False) -> None:
        self._pool = pool
        self._clock_may_jump = clock_may_jump
        self._last: tuple[datetime, float, float] | None = None

    async def look(self) -> Look:
        """How things stand, after a halt for all where there is cause. Raises `UnavailableError`."""
        look, trip = await self.judged()
        if trip is None:
            return look
        await self._halt(ALL, trip)
        return await halts.look(self._pool)

    async def check(self, ended: Ended) -> Look:
        """The same, and halts for the accounts of which a pass would free too many. Raises `UnavailableError`."""
        look = await self.look()
        trips = await self.judged_accounts(look, ended)
        for account, trip in trips.items():
            await self._halt(account, trip)
        return await halts.look(self._pool) if trips else look

    async def judged(self) -> tuple[Look, Trip | None]:
        """How things stand, and what would halt the reaper for all. Halts nothing."""
        began = time.clock_gettime(_CLOCK)
        look = await halts.look(self._pool)
        stepped = self._stepped(look.now, began, time.clock_gettime(_CLOCK))
        fell = breakers.contacts_fell(contacts=look.contacts, week_before=look.contacts_week_before)
        return look, _trip(look.all, look.now, stepped, fell)

    async def judged_accounts(self, look: Look, ended: Ended) -> dict[UUID, Trip]:
        """The accounts of which a pass would free too many. Halts nothing."""
        suspects = {account: due for account, due in ended.long_due.items() if due > breakers.MANY_DEVICES}
        if not suspects or look.all.halted or look.held_until is not None:
            return {}
        active = await active_devices(self._pool, list(suspects))
        trips = {
            account: _trip(
                look.standings.get(account, Standing()),
                look.now,
                breakers.too_many(due=due, active=active.get(account, 0)),
            )
            for account, due in suspects.items()
        }
        return {account: trip for account, trip in trips.items() if trip is not None}

    def _stepped(self, now: datetime, began_s: float, ended_s: float) -> Trip | None:
        """A reading was taken at some moment between its question and its answer."""
        last, self._last = self._last, (now, began_s, ended_s)
        if last is None or self._clock_may_jump:
            return None
        last_now, last_began_s, last_ended_s = last
        return breakers.clock_stepped(
            moved_s=(now - last_now).total_seconds(),
            at_least_s=began_s - last_ended_s,
            at_most_s=ended_s - last_began_s,
        )

    async def _halt(self, account: UUID, trip: Trip) -> None:
        if await halts.halt(self._pool, account, trip.cause, trip.detail):
            scope = {} if account == ALL else {"account": str(account)}
            _log.error("reaper.halted", cause=trip.cause.value, detail=trip.detail, **scope)


def _trip(standing: Standing, now: datetime, *found: Trip | None) -> Trip | None:
    """The first that counts: none does while a halt stands, or was ended by an operator a short while ago."""
    if standing.halted:
        return None
    return next((one for one in found if one and not breakers.is_quiet(one.cause, standing, now)), None)

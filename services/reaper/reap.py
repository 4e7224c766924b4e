"""One pass of the reaper: announce first, then free.

Candidates are hints, read without a lock. Each becomes a command, and the ledger decides again under its lock: a
reaper that was paused for minutes, or works beside others, changes nothing wrongly.

Replicas share the work without talking to each other: a license that another transaction holds is passed over, most
likely because another reaper is at it, and asked for once more when all else is done. What the breakers halt, or an
operator holds, is left alone.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from services.reaper.breakers import Trip
from services.reaper.guard import Guard
from services.reaper.sweep import Choose, Sweep, Swept
from shared.ledger.connections import Pool
from shared.ledger.halts import Look, Standing
from shared.ledger.ledger import Ledger
from shared.ledger.reaping import START, Candidate, Position, Which, candidates, ended
from shared.licensing.leases import ANNOUNCE_LEAD_S
from shared.licensing.model import Announce, Expire

Progress = Callable[[int, int], None]
"""Told how many devices are done, of how many that were due."""


class Stand(msgspec.Struct, kw_only=True):
    """What keeps leases of a day or more from being freed: for all, for some accounts, until a moment."""

    halted: Trip | None = None
    halted_accounts: dict[UUID, Trip] = msgspec.field(default_factory=dict)
    held_until: datetime | None = None


class Pass(Stand, kw_only=True):
    """What a pass did, and how the reaper stood at its end.

    Devices it asked for, announced and freed; commands that failed and will be tried again; devices that were due and
    left alone, since the reaper is halted or held.
    """

    looked_at: int = 0
    announced: int = 0
    freed: int = 0
    failed: int = 0
    left_alone: int = 0


class Plan(Stand, kw_only=True):
    """What a pass would do now: the devices that it would free, and how many it would leave alone."""

    devices: list[Candidate] = msgspec.field(default_factory=list)
    left_alone: int = 0


class Reap:
    def __init__(self, pool: Pool, ledger: Ledger, guard: Guard, *, page: int = 1000) -> None:
        self._pool = pool
        self._guard = guard
        self._page = page
        self._sweep = Sweep(pool, ledger, guard, page=page)

    async def __call__(self, stop: asyncio.Event | None = None, progress: Progress | None = None) -> Pass:
        """Announce and free whatever is due, or what can be before `stop` is set.

        Raises `UnavailableError` when Postgres cannot be asked.
        """
        stop = stop or asyncio.Event()
        done = Pass()
        if _may_announce(await self._guard.look()):
            done.announced = await self._sweep_all(done, "expiring_devices", Announce, _announceable, stop=stop)
            done.left_alone = 0
        found = await ended(self._pool)
        look = await self._guard.check(found)
        if found.short_due or (_may_free(look) and found.long_due.keys() - look.halted_accounts.keys()):
            done.freed = await self._sweep_all(
                done,
                "expired_devices",
                Expire,
                _freeable,
                stop=stop,
                progress=lambda freed: progress and progress(freed, found.due),
            )
            look = await self._guard.look()
        else:
            done.left_alone = found.due
        _tell(done, look)
        return done

    async def plan(self) -> Plan:
        """What a pass would do now, changing nothing."""
        look, trip = await self._guard.judged()
        trips = await self._guard.judged_accounts(look, await ended(self._pool))
        freeable = _freeable(look)
        plan = Plan()
        position: Position | None = START
        while position is not None:
            page = await candidates(self._pool, "expired_devices", after=position, limit=self._page)
            for one in page.found:
                if one.long and (trip or one.account_id in trips or not freeable(one)):
                    plan.left_alone += 1
                else:
                    plan.devices.append(one)
            position = page.next
        plan.devices.sort(key=lambda one: one.lease_expires_at)
        _tell(plan, look)
        plan.halted = plan.halted or trip
        plan.halted_accounts |= trips
        return plan

    async def _sweep_all(
        self,
        done: Pass,
        which: Which,
        kind: type[Announce] | type[Expire],
        choose: Choose,
        *,
        stop: asyncio.Event,
        progress: Callable[[int], object] = lambda _: None,
    ) -> int:
        """Sweep, and once more for those whose license another transaction held; returns how many were changed."""
        first = await self._sweep(which, kind, choose, stop=stop, progress=lambda so_far: progress(so_far.changed))
        _add(done, first)
        if not first.held or stop.is_set():
            return first.changed
        again = await self._sweep(which, kind, choose, stop=stop, waits=True)
        _add(done, again)
        return first.changed + again.changed


def _may_announce(look: Look) -> bool:
    """Nothing is announced that would not come: while held, that begins when the end is near."""
    until = look.held_until
    return not look.all.halted and (until is None or look.now >= until - timedelta(seconds=ANNOUNCE_LEAD_S))


def _may_free(look: Look) -> bool:
    """Whether leases of a day or more may be freed, but for accounts that are halted."""
    return not look.all.halted and look.held_until is None


def _announceable(look: Look) -> Callable[[Candidate], bool]:
    may = _may_announce(look)
    return lambda _: may


def _freeable(look: Look) -> Callable[[Candidate], bool]:
    may, halted = _may_free(look), look.halted_accounts
    return lambda one: not one.long or (may and one.account_id not in halted)


def _add(done: Pass, swept: Swept) -> None:
    done.looked_at += swept.asked - swept.held
    done.failed += swept.failed
    done.left_alone = swept.left_alone


def _tell(stand: Stand, look: Look) -> None:
    stand.halted = _trip(look.all)
    stand.halted_accounts = {account: trip for account, one in look.halted_accounts.items() if (trip := _trip(one))}
    stand.held_until = look.held_until


def _trip(standing: Standing) -> Trip | None:
    return Trip(cause=standing.cause, detail=standing.detail or "") if standing.cause else None

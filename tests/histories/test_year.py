"""A year of a fleet: half of it node-locked under leases of 90 days, half floating under leases of a minute to hours.

The ledger and the reaper are the real ones; time is simulated, and jumps to whatever happens next. `FLEET` devices live
it, 300 unless the variable says otherwise: `make histories` has 2,000.
"""

import asyncio
import heapq
import itertools
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from random import Random, SystemRandom

import asyncpg
import pytest
from msgspec.structs import replace

from services.reaper import floating
from services.reaper.app import floating as floating_leases
from services.reaper.app import reap
from services.reaper.settings import Reaper
from shared.ledger.clock import Clock
from shared.ledger.outbox import relay_once
from shared.licensing.facts import decode
from shared.licensing.model import Decision, Kind, device_id
from shared.runtime.background import background
from shared.runtime.resources import Resources, open_resources
from tests.builders import NOW, add_licenses, fetch, make_terms, names, owner
from tests.builders import floating as floating_terms
from tests.conftest import Database
from tests.histories.fleet import DAY, SECOND, Freed, Unit, judge
from tests.histories.real import set_clock, stop_clock
from tests.invariants import check_invariants
from tests.platform import settings_for

FLEET = int(os.environ.get("FLEET", "300"))
LEASE_S, FLOATING_LEASES_S = 90 * 86_400, (60, 600, 3600, 43_200)
SHARERS = 10
"""So many devices have a license in common, with fewer seats than that."""

PASS_EVERY = timedelta(hours=12)
YEAR = timedelta(days=365)
FREED = "SELECT license_id, device_id, at FROM audit WHERE reason IN ('idle', 'lease_expired') ORDER BY at"


class SimulatedClock(Clock):
    """The process's view of the ledger's clock, which stands where it is put."""

    at: datetime = NOW

    def now(self) -> datetime:
        return self.at

    def now_s(self) -> float:
        return self.at.timestamp()


class Turns:
    """Lets the loop that frees floating leases take one turn when told, instead of one each half second."""

    def __init__(self) -> None:
        self._go, self._rests = asyncio.Event(), asyncio.Event()

    async def pause(self, stop: asyncio.Event, _seconds: float) -> None:
        self._rests.set()
        if not stop.is_set():
            await self._go.wait()
            self._go.clear()

    async def take(self) -> None:
        await self._rests.wait()
        self._rests.clear()
        self._go.set()
        await self._rests.wait()

    def end(self) -> None:
        self._go.set()


class Simulation:
    """Time, what moves it, and who acts in it."""

    def __init__(
        self, connection: asyncpg.Connection, resources: Resources, clock: SimulatedClock, turns: Turns
    ) -> None:
        self._connection = connection
        self._resources = resources
        self._clock = clock
        self._turns = turns
        self.leases = floating_leases(resources)
        self._reap = reap(resources, Reaper())
        self._numbers = itertools.count()
        self._ahead: list[tuple[datetime, int, Unit | None]] = []

    async def live(self, units: Sequence[Unit], until: datetime) -> None:
        """Everything that happens until then, in its order. After a year nobody is heard any more."""
        passes = {NOW + PASS_EVERY * number for number in range((until - NOW) // PASS_EVERY)}
        for at in passes:
            self._plan(at)
        for unit in units:
            self._plan_next(unit)
        while self._ahead:
            now = self._ahead[0][0]
            await self._move_to(now)
            if heard := [unit for unit in self._due(now) if unit is not None]:
                await self._contact(heard, now)
            if now in passes:
                done = await self._reap()
                assert (done.failed, done.halted, done.halted_accounts) == (0, None, {})
            await self._turns.take()

    async def _contact(self, units: list[Unit], now: datetime) -> None:
        submit = self._resources.ledger.submit
        decisions: list[Decision] = await asyncio.gather(*(submit(unit.command()) for unit in units))
        for unit, decision in zip(units, decisions, strict=True):
            unit.hear(decision, now)
            self._plan_next(unit)
            if unit.kind is Kind.FLOATING and unit.seated and (told := unit.log[-1].told) is not None:
                for beside_s in (-0.5, 0.5, 1.5):
                    self._plan(told + beside_s * SECOND)
        if any(decision.events for decision in decisions):
            await relay_once(self._resources.pool, self._tell)

    async def _tell(self, facts: Sequence[str]) -> None:
        await self.leases([decode(fact) for fact in facts])

    async def _move_to(self, now: datetime) -> None:
        self._clock.at = now
        await set_clock(self._connection, now)

    def _plan(self, at: datetime, unit: Unit | None = None) -> None:
        heapq.heappush(self._ahead, (at, next(self._numbers), unit))

    def _plan_next(self, unit: Unit) -> None:
        if unit.next_at is not None and unit.next_at <= NOW + YEAR:
            self._plan(unit.next_at, unit)

    def _due(self, now: datetime) -> Iterator[Unit | None]:
        while self._ahead and self._ahead[0][0] == now:
            yield heapq.heappop(self._ahead)[2]


@asynccontextmanager
async def open_simulation(database: Database, redis_url: str, turns: Turns) -> AsyncIterator[Simulation]:
    async with (
        owner(database) as connection,
        open_resources(settings_for(database.dsn_for("seatkeeper_standalone"), redis_url), application="test") as real,
    ):
        await stop_clock(connection)
        await set_clock(connection, NOW)
        clock = SimulatedClock(real.pool)
        simulation = Simulation(connection, replace(real, clock=clock), clock, turns)
        async with background(simulation.leases.run):
            try:
                yield simulation
            finally:
                turns.end()


async def make_fleet(database: Database, random: Random) -> list[Unit]:
    """Half of it node-locked, half floating; some have nine seats for ten devices."""
    per_kind = FLEET // 2 // SHARERS
    licenses = [
        (ref, Kind.NODE_LOCKED, LEASE_S)
        for ref in await add_licenses(database, per_kind, seats=SHARERS, terms=make_terms())
    ]
    for lease_s in FLOATING_LEASES_S:
        refs = await add_licenses(
            database, -(-per_kind // len(FLOATING_LEASES_S)), seats=4, terms=floating_terms(lease_s)
        )
        licenses += [(ref, Kind.FLOATING, lease_s) for ref in refs]
    return [
        Unit(
            ref=ref,
            name=name,
            kind=kind,
            lease_s=lease_s,
            random=Random(random.random()),
            next_at=NOW + DAY * random.uniform(0, 60),
            id=device_id(ref[1], name),
        )
        for ref, kind, lease_s in licenses
        for name in names(SHARERS)
    ]


async def test_in_a_year_no_seat_is_freed_within_its_lease_and_every_other_soon(
    database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = int(os.environ.get("SEED", "0")) or SystemRandom().getrandbits(32)
    print(f"SEED={seed}")
    turns = Turns()
    monkeypatch.setattr(floating, "pause", turns.pause)
    units = await make_fleet(database, Random(seed))
    end = NOW + YEAR + timedelta(days=95)

    async with open_simulation(database, redis_url, turns) as simulation:
        await simulation.live(units, end)

    freed = [Freed((license_id, device_id), at) for license_id, device_id, at in await fetch(database, FREED)]
    verdict = judge(units, freed, end)
    lost, resumed = sum(unit.lost for unit in units), sum(unit.resumed for unit in units)
    contacts = sum(len(unit.log) for unit in units)
    print(f"{len(units)} devices, {contacts} contacts; {lost} lost, {resumed} resumed; {verdict}")
    assert verdict.freed > len(units)
    assert min(verdict.narrowly_kept, lost, resumed) > 0
    await check_invariants(database)

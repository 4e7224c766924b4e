"""Floating leases, freed within a second or two of their end.

Facts tell of each new one; its end is waited for here, and then an `expire` command asks the ledger. A lease that was
extended meanwhile is still active by its answer, and waited for anew. One that the ledger leaves be past its end is
forgotten: a suspended license keeps its seats, and long leases have slack. Nothing is lost with this process: a new
one looks once through the leases that end soon, as does one that hears of a license reinstated, and the regular passes
find whatever was missed.
"""

import asyncio
import heapq
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import structlog

from shared.ledger.clock import Clock
from shared.ledger.connections import Pool
from shared.ledger.ledger import Ledger, LicenseNotFoundError
from shared.ledger.reaping import START, Position, candidates
from shared.licensing.facts import Fact
from shared.licensing.model import DeviceState, EventKind, Expire, Granted, Kind
from shared.runtime.background import pause

_log = structlog.get_logger()

LOOK_EVERY_S = 0.5
TRY_AGAIN_S = 1.0
FORGET_S = 1.0
BATCH = 1000
LOOK_AT = 10_000

Seat = tuple[UUID, UUID, UUID, int]
"""(account id, license id, device id, generation)."""


class FloatingLeases:
    def __init__(self, pool: Pool, ledger: Ledger, clock: Clock) -> None:
        self._pool = pool
        self._ledger = ledger
        self._clock = clock
        self._ends: list[tuple[float, Seat]] = []
        self._known: set[Seat] = set()
        self._to_look = True

    async def __call__(self, facts: Sequence[Fact]) -> None:
        """Note the leases that facts tell of; a repeated fact changes nothing."""
        for fact in facts:
            device = fact.device
            if fact.terms.kind is not Kind.FLOATING:
                continue
            if fact.type == EventKind.LICENSE_REINSTATED:
                self._to_look = True
            if device is not None and device.state is DeviceState.ACTIVE:
                self._note((fact.account_id, fact.license_id, device.id, device.generation), device.lease_expires_at)

    async def run(self, stop: asyncio.Event) -> None:
        """Free what ends until told to stop."""
        while not stop.is_set():
            more = False
            try:
                if self._to_look:
                    await self._look()
                more = await self._free_ended()
            except Exception as error:
                _log.warning("reaper.floating_failed", error=repr(error))
            if not more:
                await pause(stop, LOOK_EVERY_S)

    async def _look(self) -> None:
        self._to_look = False
        position: Position | None = START
        try:
            while position is not None:
                page = await candidates(self._pool, "floating_devices", after=position, limit=LOOK_AT)
                for one in page.found:
                    self._note((one.account_id, one.license_id, one.device_id, one.generation), one.lease_expires_at)
                position = page.next
        except Exception:
            self._to_look = True
            raise

    async def _free_ended(self) -> bool:
        """Ask for a batch of those that are due; returns whether there may be more."""
        now_s = self._clock.now_s()
        ended: list[Seat] = []
        while self._ends and self._ends[0][0] <= now_s and len(ended) < BATCH:
            ended.append(heapq.heappop(self._ends)[1])
        await asyncio.gather(*map(self._free, ended))
        return len(ended) == BATCH

    async def _free(self, seat: Seat) -> None:
        account_id, license_id, device_id, generation = seat
        self._known.discard(seat)
        try:
            decision = await self._ledger.submit(
                Expire(
                    account_id=account_id,
                    license_id=license_id,
                    actor="reaper",
                    device_id=device_id,
                    generation=generation,
                )
            )
        except LicenseNotFoundError:
            return  # a fact from before a restore, say
        except Exception as error:
            _log.warning("reaper.command_failed", error=repr(error))
            self._wait_until(seat, self._clock.now_s() + TRY_AGAIN_S)
            return
        device = decision.answer.device if isinstance(decision.answer, Granted) else None
        if device is not None and device.state is DeviceState.ACTIVE and device.generation == generation:
            self._note_unless_left(seat, device.lease_expires_at)

    def _note_unless_left(self, seat: Seat, lease_expires_at: datetime | None) -> None:
        """Clocks that differ a little are no reason to forget."""
        if lease_expires_at is not None and lease_expires_at.timestamp() > self._clock.now_s() - FORGET_S:
            self._note(seat, lease_expires_at)

    def _note(self, seat: Seat, lease_expires_at: datetime | None) -> None:
        if lease_expires_at is not None and seat not in self._known:
            self._wait_until(seat, max(lease_expires_at.timestamp(), self._clock.now_s() + TRY_AGAIN_S / 2))

    def _wait_until(self, seat: Seat, end_s: float) -> None:
        self._known.add(seat)
        heapq.heappush(self._ends, (end_s, seat))

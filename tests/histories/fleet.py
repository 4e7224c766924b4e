"""Devices that live as people use them, and the log of what they were promised.

A device decides by its own random numbers when it is heard next: soon, after a long pause, a moment before or after its
lease ends, or never again. The log keeps every contact that was acknowledged, and nothing that the ledger says of
itself.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from uuid import UUID

from shared.ledger.reader import LicenseRef
from shared.licensing.leases import DAY_S
from shared.licensing.model import Activate, Command, Decision, Device, DeviceState, Extend, Granted, Kind, Release
from tests.builders import ask

SECOND, DAY = timedelta(seconds=1), timedelta(days=1)


@dataclass(frozen=True)
class Heard:
    """A contact that was acknowledged, and the end of the lease that the answer told; None: the device left."""

    at: datetime
    told: datetime | None


@dataclass
class Unit:
    """One device. `next_at` is when it will be heard again; None: never."""

    ref: LicenseRef
    name: str
    kind: Kind
    lease_s: int
    random: Random
    next_at: datetime | None
    id: UUID
    generation: int = 0
    seated: bool = False
    leaving: bool = False
    log: list[Heard] = field(default_factory=list)
    lost: int = 0
    resumed: int = 0

    @property
    def lease(self) -> timedelta:
        return timedelta(seconds=self.lease_s)

    def command(self) -> Command:
        """What it asks for now: a seat, to keep the one it believes to have, or to give it back."""
        if not self.seated:
            return ask(Activate, self.name, ref=self.ref)
        kind, members = (Release, {}) if self.leaving else (Extend, {"resumes": self.kind is Kind.FLOATING})
        return ask(kind, self.name, ref=self.ref, generation=self.generation, **members)

    def hear(self, decision: Decision, now: datetime) -> None:
        """Note the answer, and plan the next contact."""
        answer = decision.answer
        if not isinstance(answer, Granted) or answer.device is None:
            self._refused(now)
        elif answer.device.state is DeviceState.ACTIVE:
            self._granted(answer.device, now, resumed=answer.changed and self.seated)
        else:
            self.log.append(Heard(now, None))
            self.seated = self.leaving = False
            self.next_at = now + self._break()

    def _granted(self, device: Device, now: datetime, *, resumed: bool) -> None:
        assert device.lease_expires_at is not None
        self.seated, self.generation = True, device.generation
        self.resumed += resumed
        self.log.append(Heard(now, device.lease_expires_at))
        pause = self._pause(device.lease_expires_at - now)
        self.next_at = None if pause is None else now + pause

    def _refused(self, now: datetime) -> None:
        """Without a seat it asks for one anew, later."""
        self.lost += self.seated
        self.seated = self.leaving = False
        self.next_at = now + (self._break() if self.random.random() < 0.7 else 10 * SECOND)

    def _pause(self, left: timedelta) -> timedelta | None:
        """Until it is heard again; `left` is what remains of its lease."""
        around = left + SECOND * self.random.choice([-60, -1, -0.001, 0, 0.001, 1, 60])
        if self.kind is Kind.FLOATING:
            self.leaving = self.random.random() < 0.15
            usual = self.lease * self.random.uniform(0.2, 0.9)
            late = around + self._break()
            return self.random.choices([usual, max(SECOND, around), late, None], [70, 15, 14, 1])[0]
        slack = around + DAY if self.random.random() < 0.5 else around
        return self.random.choices(
            [
                DAY * self.random.uniform(0.01, 2),
                DAY * self.random.uniform(5, 80),
                slack,
                slack + DAY * self.random.uniform(1, 40),
                None,
            ],
            [25, 55, 10, 6, 4],
        )[0]

    def _break(self) -> timedelta:
        return DAY * self.random.uniform(0.5, 90 if self.kind is Kind.FLOATING else 20)


@dataclass(frozen=True)
class Freed:
    """A seat that was lost to silence."""

    device: tuple[UUID, UUID]
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Verdict:
    freed: int
    narrowly_kept: int
    latest_node_locked: timedelta
    latest_floating: timedelta


def judge(units: list[Unit], freed: list[Freed], end: datetime) -> Verdict:
    """Whether the seats that were freed, and no others, were those of devices silent past their lease and slack."""
    moments: dict[tuple[UUID, UUID], list[datetime]] = {}
    for one in freed:
        moments.setdefault(one.device, []).append(one.at)
    kept, latest = 0, {kind: timedelta() for kind in Kind}
    for unit in units:
        mine = moments.pop((unit.ref[1], unit.id), [])
        slack = DAY if unit.lease_s >= DAY_S else timedelta()
        allowed = DAY if unit.kind is Kind.NODE_LOCKED else 5 * SECOND
        for heard, later in zip(unit.log, [*[one.at for one in unit.log[1:]], end], strict=True):
            if heard.told is None:
                continue
            between = [at for at in mine if heard.at <= at <= later]
            mine = [at for at in mine if at not in between]
            for at in between:
                assert at >= heard.at + unit.lease, f"{unit.name} was freed {heard.at + unit.lease - at} too early"
                assert at >= max(one.told for one in unit.log if one.told and one.at <= heard.at), unit.name
                latest[unit.kind] = max(latest[unit.kind], at - (heard.told + slack))
            assert len(between) <= 1, unit.name
            assert between or later <= heard.told + slack + allowed, f"{unit.name} still has its seat at {later}"
            kept += not between and later >= heard.told - 60 * SECOND
        assert mine == [], f"{unit.name} was freed without a seat"
    assert moments == {}
    assert latest[Kind.NODE_LOCKED] <= DAY
    assert latest[Kind.FLOATING] <= 5 * SECOND
    return Verdict(
        freed=len(freed),
        narrowly_kept=kept,
        latest_node_locked=latest[Kind.NODE_LOCKED],
        latest_floating=latest[Kind.FLOATING],
    )

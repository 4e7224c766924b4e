"""A license's trail, played again from its first event: what every seat and count must have been at every version.

Whatever does not follow from the events alone is a violation: I1 where a seat is beyond the allowance, I2 and I3 where
devices and counts differ from it, I5 for a second seat of one device, I6 for a gap.

An event bears the time of its decision. Who reads without the license's lock may not see it before COMMIT is done, and
it surely was when the next transaction decided or the witness was told, whichever was first: in between, both the state
before and the one after are right.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import msgspec

from tests.faults.calls_made import NEVER, Clocks
from tests.faults.observed import Event, License

EVIDENCE = 12

TAKES_SEAT = frozenset({"device.activated", "device.resumed"})
ENDS_SEAT = frozenset({"device.released", "device.blocked"})
SILENCE = frozenset({"idle", "lease_expired"})


class Violation(msgspec.Struct, frozen=True):
    """An invariant that was broken. `at` is the moment (CLOCK_MONOTONIC, ns) that shows it, 0 where there is none."""

    invariant: str
    license: str
    what: str
    evidence: list[dict[str, Any]] = []
    at: int = 0


class Stay(msgspec.Struct):
    """A time for which a device had a seat, both ends included; `visible` is when everybody surely saw it."""

    device: str
    generation: int
    began: int
    visible: int
    resumed: bool
    event: Event
    ended: int = NEVER
    end: Event | None = None

    def overlaps(self, first: int, last: int) -> bool:
        return self.began <= last and self.ended >= first

    def covers(self, first: int, last: int) -> bool:
        """Whether there was no moment in between at which the device had lost this seat, or not yet had it."""
        return self.visible < first and self.ended > last

    @property
    def events(self) -> list[Event]:
        return [self.event] if self.end is None else [self.event, self.end]


class State(msgspec.Struct, frozen=True):
    """The license from one event to the next; `visible` is when everybody surely saw the first."""

    at: int
    visible: int
    used: int
    limit: int
    status: str


class Trail:
    """`stays` are by device, in their order."""

    def __init__(self, license: License, clocks: Clocks) -> None:
        self.license = license
        self.clocks = clocks
        self.stays: dict[str, list[Stay]] = {}
        self.states: list[State] = []
        self.broken: list[Violation] = []
        self._play()

    def stays_of(self, device: str, generation: int | None = None) -> list[Stay]:
        stays = self.stays.get(device, [])
        return stays if generation is None else [stay for stay in stays if stay.generation == generation]

    def stays_within(self, device: str, first: int, last: int) -> Iterator[Stay]:
        """Those of which at least a moment lies between the two."""
        stays = self.stays.get(device, [])
        begin = bisect_left(stays, first, key=lambda stay: stay.ended)
        for stay in stays[begin:]:
            if stay.began > last:
                return
            yield stay

    def states_within(self, first: int, last: int) -> list[State]:
        """Every state that somebody may have seen the license in at some moment between the two."""
        begin = max(0, bisect_left(self.states, first, key=lambda state: state.visible) - 1)
        return self.states[begin : bisect_right(self.states, last, key=lambda state: state.at)]

    def break_(self, invariant: str, what: str, evidence: Sequence[Event], at: int = 0) -> None:
        told = [shown(event) for event in evidence]
        self.broken.append(Violation(invariant, self.license.id, what, told[:EVIDENCE], at))

    # --- Playing ------------------------------------------------------------------------------------------------

    def _play(self) -> None:
        used = limit = version = 0
        status = "active"
        moments = list(accumulate((self.clocks.of_wall(event.at_ns) for event in self.license.events), max))
        for event, at, visible in zip(self.license.events, moments, self._visible(moments), strict=True):
            if event.version != version + 1:
                self.break_("I6", f"the trail goes from version {version} to {event.version}", [event], at)
            if self.clocks.of_wall(event.at_ns) < at - self.clocks.slack_ns:
                self.break_("I9", "the ledger's time goes back from one version to the next", [event], at)
            version = event.version
            if event.event in ("license.created", "license.resized"):
                limit = event.limit
            elif event.event.startswith("license."):
                status = _STATUS_AFTER[event.event]
            elif event.event in TAKES_SEAT:
                used += 1
                self._take(event, at, visible, used, limit, status)
            elif event.event == "device.renewed":
                used -= self._end(event, at)
                used += 1
                self._take(event, at, visible, used, max(used, limit), "active")
            elif event.event in ENDS_SEAT:
                used -= self._end(event, at)
            if (event.used, event.limit, event.allowed) != (used, limit, max(used, limit)):
                self.break_(
                    "I1",
                    f"the trail counts {event.used} of {event.allowed} seats, and it is {used} of "
                    f"{max(used, limit)} by its own events",
                    [event],
                    at,
                )
            self.states.append(State(at, visible, used, limit, status))
        self._compare(used, limit, status, version)

    def _visible(self, moments: Sequence[int]) -> list[int]:
        """When everybody surely saw each event. Those of one transaction have one moment."""
        delivered = self.license.delivered or {}
        visible: list[int] = []
        later = known = NEVER
        for event, at in zip(reversed(self.license.events), reversed(moments), strict=True):
            known = min(later if at < later else known, delivered.get(event.version, NEVER))
            visible.append(max(at, known))
            later = at
        return visible[::-1]

    def _take(self, event: Event, at: int, visible: int, used: int, limit: int, status: str) -> None:
        stays = self.stays.setdefault(event.device, [])
        generation = event.generation or 0
        last = stays[-1] if stays else None
        evidence = [*(last.events if last else []), event]
        resumed = event.event == "device.resumed"
        if last is not None and last.ended == NEVER:
            self.break_("I5", "a device that has a seat takes another", evidence, at)
        if generation != (last.generation if last else 0) + (0 if resumed else 1):
            self.break_(
                "I4", f"a seat of generation {generation} after one of {last.generation if last else 0}", evidence, at
            )
        if used > limit and not self.license.overage:
            self.break_("I1", f"a seat is given beyond the limit: {used} of {limit}", evidence, at)
        if status != "active":
            self.break_("I1", f"a seat is given under a {status} license", evidence, at)
        stays.append(Stay(event.device, generation, at, visible, resumed, event))

    def _end(self, event: Event, at: int) -> int:
        """How many seats that freed."""
        stays = self.stays.get(event.device, [])
        if not stays or stays[-1].ended != NEVER:
            return 0
        stays[-1].ended, stays[-1].end = at, event
        return 1

    def _compare(self, used: int, limit: int, status: str, version: int) -> None:
        """With the rows: the license's and the devices'."""
        license = self.license
        if version != license.version:
            self.break_("I6", f"the trail ends at version {version}, the license is at {license.version}", [])
        if (license.used, license.limit, license.status) != (used, limit, status):
            self.break_(
                "I1",
                f"the license says {license.used} of {license.limit}, {license.status}; its trail {used} "
                f"of {limit}, {status}",
                [],
            )
        if license.allowed < license.used:
            self.break_("I1", f"{license.used} seats are used of {license.allowed}", [])
        active = {row.device: row.generation for row in license.rows if row.state == "active"}
        if len(active) != license.used:
            self.break_("I2", f"{license.used} seats are counted, and {len(active)} devices are active", [])
        for device, stays in self.stays.items():
            stay = stays[-1]
            if stay.ended == NEVER and active.get(device) != stay.generation:
                self.break_("I3", f"device {device} has lost its seat, and nothing recorded its end", stay.events)
            elif stay.ended != NEVER and device in active:
                self.break_("I2", f"device {device} is active after its end", stay.events)
        for device in active.keys() - self.stays.keys():
            self.break_("I2", f"device {device} is active, and nothing recorded its seat", [])


_STATUS_AFTER = {
    "license.suspended": "suspended",
    "license.reinstated": "active",
    "license.revoked": "revoked",
}


def shown(record: Any) -> dict[str, Any]:
    """A record as evidence: its members that say something."""
    return {name: value for name, value in msgspec.to_builtins(record).items() if value or type(value) is int}

"""The checker of fault tests, over histories made by hand: good ones pass, and each kind of violation is found.

Moments are in seconds; the ledger's clock shows `WALL_S` at moment 0.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from shared.licensing.leases import DAY_S
from shared.licensing.model import Kind
from tests.faults.calls_made import Clocks, Gathered, clocks_of
from tests.faults.checker import found
from tests.faults.history import Reader, Record, Writer
from tests.faults.observed import Event, License, Row
from tests.faults.report import Report
from tests.faults.report import Row as Line
from tests.faults.trail import Violation

WALL_S = 1_800_000_000
SECOND = 1_000_000_000
CLOCKS = Clocks(WALL_S * SECOND, 1_000_000)
LICENSE = "license"
LONG_S = 90 * DAY_S


def ns(moment: float) -> int:
    return round(moment * SECOND)


@dataclass
class Story:
    """What the ledger wrote and what clients saw, in the order in which the story tells it."""

    seats: int = 2
    kind: Kind = Kind.NODE_LOCKED
    lease_s: int = LONG_S
    overage: bool = False
    records: list[Record] = field(default_factory=list)
    license: License = field(init=False)
    limit: int = field(init=False)
    used: int = 0

    def __post_init__(self) -> None:
        self.limit = self.seats
        self.license = License(
            account="account",
            id=LICENSE,
            status="active",
            limit=self.seats,
            used=0,
            allowed=self.seats,
            version=0,
            kind=self.kind,
            lease_s=self.lease_s,
            overage=self.overage,
        )
        self.writes("license.created", at=0)

    # --- The ledger ---------------------------------------------------------------------------------------------

    def writes(
        self,
        event: str,
        device: str = "",
        generation: int = 0,
        *,
        at: float,
        reason: str = "",
        visible_after: float = 0.01,
    ) -> None:
        """An event, and the rows as they are after it."""
        license = self.license
        self.used += {"device.activated": 1, "device.resumed": 1, "device.released": -1}.get(event, 0)
        license.version += 1
        license.used, license.limit, license.allowed = self.used, self.limit, max(self.used, self.limit)
        license.events.append(
            Event(
                license.version,
                ns(WALL_S + at),
                "device",
                event,
                device,
                generation or None,
                reason,
                self.limit,
                self.used,
                max(self.used, self.limit),
            )
        )
        license.outbox[license.version] += 1
        license.delivered = {**(license.delivered or {}), license.version: ns(at + visible_after)}
        if event in ("license.suspended", "license.reinstated"):
            license.status = {"license.suspended": "suspended"}.get(event, "active")
        if device:
            license.rows = [row for row in license.rows if row.device != device]
            state = "released" if event == "device.released" else "active"
            license.rows.append(Row(device, state, generation))

    def gives(self, device: str, generation: int = 1, *, at: float, visible_after: float = 0.01) -> None:
        self.writes("device.activated", device, generation, at=at, visible_after=visible_after)

    def frees(
        self, device: str, generation: int = 1, *, at: float, reason: str = "user", visible_after: float = 0.01
    ) -> None:
        self.writes("device.released", device, generation, at=at, reason=reason, visible_after=visible_after)

    def resizes(self, seats: int, *, at: float) -> None:
        self.limit = seats
        self.call("resize", "", at, asked={"limit": seats})
        self.writes("license.resized", at=at)

    # --- Clients ------------------------------------------------------------------------------------------------

    def call(
        self,
        verb: str,
        device: str,
        at: float,
        outcome: str = "ok",
        *,
        took: float = 0.2,
        asked: dict[str, Any] | None = None,
        **answer: Any,
    ) -> None:
        """A call that was under way around `at`: what was `asked`, and what the answer says."""
        name = f"call-{len(self.records)}"
        said = {"op": name, "nonce": verb == "activate", **(asked or {})}
        members: dict[str, Any] = {"call": name, "verb": verb, "license": LICENSE, "device": device}
        self.records.append(Record(kind="invoke", at=ns(at - took / 2), **members, **said))
        self.records.append(Record(kind=outcome, at=ns(at + took / 2), call=name, **answer))

    def activated(
        self, device: str, generation: int = 1, *, at: float, asked: dict[str, Any] | None = None, **answer: Any
    ) -> None:
        """A yes, which quotes the lease's whole length from `at`."""
        yes = {"status": 201, "state": "active", "told": device, "until": WALL_S + int(at + self.lease_s)}
        self.call("activate", device, at, asked=asked, generation=generation, **{**yes, **answer})

    def heard(self, device: str, generation: int = 1, *, at: float, **answer: Any) -> None:
        yes = {"state": "active", "told": device, "until": WALL_S + int(at + self.lease_s)}
        asked = {"generation": generation}
        self.call("heartbeat", device, at, asked=asked, generation=generation, **{**yes, **answer})

    def refused(self, verb: str, device: str, code: str, *, at: float, **asked: Any) -> None:
        self.call(verb, device, at, "refused", asked=asked, code=code)

    def left(self, device: str, generation: int | None = None, *, at: float, verb: str = "deactivate") -> None:
        self.call(verb, device, at, asked={"generation": generation})

    # --- The judge ----------------------------------------------------------------------------------------------

    def judged(self, clocks: Clocks = CLOCKS, seen_until: float = 1000) -> list[Violation]:
        gathered = Gathered()
        gathered.take(self.records)
        return found(gathered.calls, {LICENSE: self.license}, {LICENSE: self.seats}, clocks, ns(seen_until))

    @property
    def broken(self) -> set[str]:
        return {violation.invariant for violation in self.judged()}


# --- Good stories -----------------------------------------------------------------------------------------------


def a_plain_life() -> Story:
    story = Story()
    story.gives("a", at=1)
    story.activated("a", at=1)
    story.heard("a", at=2)
    story.frees("a", at=3)
    story.left("a", at=3)
    story.refused("heartbeat", "a", "LEASE_LOST", at=4, generation=1)
    return story


def a_contended_life() -> Story:
    """A full license, a resize below what is used, and a seat that nobody gets until there is room again."""
    story = Story()
    for at, device in enumerate("ab", 1):
        story.gives(device, at=at)
        story.activated(device, at=at)
    story.refused("activate", "c", "DEVICE_LIMIT_EXCEEDED", at=3)
    story.resizes(1, at=4)
    story.frees("a", at=5)
    story.left("a", 1, at=5)
    story.refused("activate", "c", "DEVICE_LIMIT_EXCEEDED", at=6)
    story.frees("b", at=7)
    story.left("b", at=7)
    story.gives("c", at=8)
    story.activated("c", at=8)
    return story


def an_answer_that_was_lost() -> Story:
    """The first attempt took the seat and nobody heard of it; the second is told of the same."""
    story = Story()
    story.gives("a", at=1)
    story.call("activate", "a", 1, "unknown", asked={"op": "op"})
    story.activated("a", at=2, status=200, asked={"op": "op", "attempt": 1})
    return story


def a_seat_that_came_back() -> Story:
    """A floating seat that ended for silence is taken again by the same generation."""
    story = Story(kind=Kind.FLOATING, lease_s=4)
    story.gives("a", at=1)
    story.activated("a", at=1)
    story.frees("a", at=5.5, reason="lease_expired")
    story.writes("device.resumed", "a", 1, at=6)
    story.heard("a", at=6)
    return story


def a_suspension() -> Story:
    story = Story()
    story.gives("a", at=1)
    story.activated("a", at=1)
    story.writes("license.suspended", at=2)
    story.refused("heartbeat", "a", "LICENSE_SUSPENDED", at=3, generation=1)
    story.writes("license.reinstated", at=4)
    story.refused("heartbeat", "a", "LICENSE_SUSPENDED", at=4.5, generation=1)  # kept for a second
    story.heard("a", at=6)
    return story


def a_late_yes_of_a_long_lease() -> Story:
    """Redis may answer for a lease of 90 days, and had not heard yet that the seat was given back."""
    story = a_plain_life()
    story.heard("a", at=3.5)
    return story


def seats_whose_ends_are_being_committed() -> Story:
    """Who reads without a lock sees the license full until COMMIT is done. One transaction has one time."""
    story = Story(seats=2)
    for device in "ab":
        story.gives(device, at=1)
        story.activated(device, at=1)
    for device in "ab":
        story.frees(device, at=3, visible_after=0.5)
        story.call("deactivate", device, 3.25, took=0.6)
    story.refused("activate", "c", "DEVICE_LIMIT_EXCEEDED", at=3.3)
    return story


def a_seat_that_is_being_committed() -> Story:
    story = Story()
    story.gives("a", at=1, visible_after=1.5)
    story.activated("a", at=1.8, took=1.7)
    story.refused("validate", "a", "NOT_ACTIVATED", at=2.3)
    return story


def overage() -> Story:
    story = Story(seats=1, overage=True)
    for at, device in enumerate("abc", 1):
        story.gives(device, at=at)
        story.activated(device, at=at, used=at, limit=1)
    return story


GOOD = [
    a_plain_life,
    a_contended_life,
    an_answer_that_was_lost,
    a_seat_that_came_back,
    a_suspension,
    a_late_yes_of_a_long_lease,
    seats_whose_ends_are_being_committed,
    a_seat_that_is_being_committed,
    overage,
]


@pytest.mark.parametrize("tell", GOOD)
def test_a_good_history_passes(tell: Callable[[], Story]) -> None:
    assert tell().judged() == []


# --- Bad stories ------------------------------------------------------------------------------------------------


def seats_beyond_the_limit_in_the_trail() -> Story:
    story = Story()
    for at, device in enumerate("abc", 1):
        story.gives(device, at=at)
    for at, device in enumerate("abc", 1):
        story.activated(device, at=at)
    return story


def seats_beyond_the_limit_that_only_clients_saw() -> Story:
    """The trail tells of ends that nobody asked for, and is at peace with itself."""
    story = Story(seats=1)
    story.gives("a", at=1)
    story.activated("a", at=1)
    story.frees("a", at=1.5)
    story.gives("b", at=2)
    story.activated("b", at=2)
    return story


def a_seat_beyond_a_lowered_limit() -> Story:
    story = Story()
    story.gives("a", at=1)
    story.activated("a", at=1)
    story.resizes(1, at=2)
    story.gives("b", at=3)
    story.activated("b", at=3)
    return story


def a_count_that_is_wrong() -> Story:
    story = a_plain_life()
    story.license.used = 1
    return story


def an_allowance_that_is_wrong() -> Story:
    story = Story()
    story.used = 1
    story.gives("a", at=1)
    story.activated("a", at=1)
    return story


def a_seat_under_a_suspended_license() -> Story:
    story = Story()
    story.writes("license.suspended", at=1)
    story.gives("a", at=2)
    story.activated("a", at=2)
    return story


def a_yes_without_a_seat() -> Story:
    story = Story(kind=Kind.FLOATING, lease_s=600)
    story.gives("a", at=1)
    story.activated("a", at=1)
    story.frees("a", at=2)
    story.left("a", at=2)
    story.heard("a", at=5)
    return story


def a_device_without_its_row() -> Story:
    story = Story()
    story.gives("a", at=1)
    story.activated("a", at=1)
    story.license.rows = []
    story.license.used = 0
    return story


def a_row_without_its_event() -> Story:
    story = a_plain_life()
    story.license.rows = [Row("a", "active", 1)]
    return story


def an_activation_that_was_lost() -> Story:
    story = Story()
    story.activated("a", at=1)
    return story


def an_older_generation() -> Story:
    story = Story()
    story.gives("a", at=1)
    story.activated("a", 2, at=1)
    return story


def a_release_that_was_lost() -> Story:
    story = Story()
    story.gives("a", at=1)
    story.activated("a", at=1)
    story.left("a", at=3)
    return story


def a_release_that_nobody_asked_for() -> Story:
    story = Story()
    story.gives("a", at=1)
    story.activated("a", at=1)
    story.frees("a", at=3)
    return story


def a_no_to_a_seat_that_is_held() -> Story:
    story = Story()
    story.gives("a", at=1)
    story.activated("a", at=1)
    story.refused("heartbeat", "a", "LEASE_LOST", at=1.3, generation=1)
    return story


def a_no_while_there_is_room() -> Story:
    story = Story()
    story.gives("a", at=1)
    story.activated("a", at=1)
    story.refused("activate", "b", "DEVICE_LIMIT_EXCEEDED", at=3)
    return story


def a_seat_that_was_freed_before() -> Story:
    story = Story(seats=1)
    story.gives("a", at=1)
    story.activated("a", at=1)
    story.frees("a", at=3, visible_after=0.5)
    story.left("a", at=3)
    story.refused("activate", "b", "DEVICE_LIMIT_EXCEEDED", at=3.7)
    return story


def a_suspension_that_was_over() -> Story:
    story = a_suspension()
    story.refused("heartbeat", "a", "LICENSE_SUSPENDED", at=7, generation=1)
    return story


def a_good_key_that_was_refused() -> Story:
    story = Story()
    story.refused("activate", "a", "LICENSE_KEY_INVALID", at=1)
    return story


def a_second_seat_for_one_request() -> Story:
    story = Story()
    story.gives("a", at=1)
    story.activated("a", at=1, asked={"op": "op"})
    story.frees("a", at=2)
    story.left("a", at=2)
    story.gives("a", 2, at=3)
    story.activated("a", 2, at=3, asked={"op": "op", "attempt": 1})
    return story


def a_seat_that_was_new_twice() -> Story:
    story = Story()
    story.gives("a", at=1)
    story.activated("a", at=1)
    story.activated("a", at=1.05)
    return story


def a_seat_that_nobody_asked_for() -> Story:
    story = Story()
    story.gives("a", at=1)
    story.activated("a", at=1)
    story.frees("a", at=2)
    story.left("a", at=2)
    story.gives("a", 2, at=3)
    return story


def a_first_request_called_a_repetition() -> Story:
    story = Story()
    story.refused("activate", "a", "REPLAYED", at=1)
    return story


def two_seats_of_one_device() -> Story:
    story = Story()
    story.gives("a", at=1)
    story.activated("a", at=1)
    story.gives("a", 2, at=2)
    story.activated("a", 2, at=2)
    return story


def a_version_that_is_missing() -> Story:
    story = a_plain_life()
    del story.license.events[0]
    return story


def a_change_without_its_outbox_row() -> Story:
    story = a_plain_life()
    del story.license.outbox[2]
    return story


def a_fact_that_was_never_told() -> Story:
    story = a_plain_life()
    story.license.delivered = {1: ns(0), 3: ns(3)}
    return story


def an_effect_that_happened_twice() -> Story:
    story = a_plain_life()
    story.license.effects = Counter([1, 2, 3, 3])
    return story


def an_effect_that_never_happened() -> Story:
    story = a_plain_life()
    story.license.effects = Counter([1, 2])
    return story


def a_foreign_device_that_was_freed() -> Story:
    story = Story()
    story.call("deactivate", "theirs", 1, asked={"foreign": True})
    return story


def a_refusal_that_tells_too_much() -> Story:
    story = Story()
    story.call("reset", "theirs", 1, "refused", asked={"foreign": True}, code="DEVICE_NOT_FOUND", told="theirs")
    return story


def a_list_with_foreign_devices() -> Story:
    story = Story()
    story.call("devices", "", 1, strange=("theirs",))
    return story


def an_answer_about_another_device() -> Story:
    story = Story()
    story.gives("a", at=1)
    story.activated("a", at=1, told="b")
    return story


def an_end_before_the_one_quoted() -> Story:
    story = Story(kind=Kind.FLOATING, lease_s=10)
    story.gives("a", at=1)
    story.activated("a", at=1)
    story.heard("a", at=4)
    story.frees("a", at=12, reason="lease_expired")
    return story


def an_end_within_the_lease_of_a_contact() -> Story:
    """A validate quotes no end."""
    story = Story(lease_s=10)
    story.gives("a", at=1)
    story.activated("a", at=1)
    story.call("validate", "a", 5, code="VALID")
    story.frees("a", at=13, reason="idle")
    return story


def an_end_by_a_clock_ahead() -> Story:
    story = Story(kind=Kind.FLOATING, lease_s=10)
    story.gives("a", at=1)
    story.activated("a", at=1)
    story.frees("a", at=5000, reason="lease_expired")
    return story


def a_seat_by_a_clock_ahead() -> Story:
    story = Story()
    story.gives("a", at=3600)
    story.activated("a", at=1)
    return story


def a_yes_for_a_seat_that_never_was() -> Story:
    story = Story()
    story.heard("a", at=1)
    return story


def a_seat_that_was_held_before() -> Story:
    story = Story()
    story.gives("a", at=1)
    story.activated("a", at=1)
    story.activated("a", at=3)
    return story


def a_seat_told_to_be_beyond_the_limit() -> Story:
    story = Story()
    story.gives("a", at=1)
    story.activated("a", at=1, used=3, limit=2)
    return story


def a_device_that_is_said_to_be_unknown() -> Story:
    story = Story()
    story.gives("a", at=1)
    story.activated("a", at=1)
    story.refused("deactivate", "a", "DEVICE_NOT_FOUND", at=3)
    return story


def a_clock_that_goes_back() -> Story:
    story = Story()
    story.gives("a", at=5)
    story.activated("a", at=5)
    story.frees("a", at=3)
    story.left("a", at=3)
    return story


def a_generation_that_was_left_out() -> Story:
    story = Story()
    story.gives("a", 2, at=1)
    story.activated("a", 2, at=1)
    return story


def a_license_ahead_of_its_trail() -> Story:
    story = a_plain_life()
    story.license.version += 1
    return story


def a_status_that_is_wrong() -> Story:
    story = a_plain_life()
    story.license.status = "suspended"
    return story


def more_seats_than_the_license_allows() -> Story:
    story = Story()
    story.gives("a", at=1)
    story.activated("a", at=1)
    story.license.allowed = 0
    return story


def a_row_that_nothing_recorded() -> Story:
    story = Story()
    story.license.rows = [Row("a", "active", 1)]
    return story


BAD = [
    (seats_beyond_the_limit_in_the_trail, "I1: a seat is given beyond the limit: 3 of 2"),
    (seats_beyond_the_limit_that_only_clients_saw, "I1: 2 devices held a seat at one instant, and 1 were allowed"),
    (a_seat_beyond_a_lowered_limit, "I1: a seat is given beyond the limit: 2 of 1"),
    (an_allowance_that_is_wrong, "I1: the trail counts 2 of 2 seats, and it is 1"),
    (a_status_that_is_wrong, "I1: the license says 0 of 2, suspended; its trail 0 of 2, active"),
    (more_seats_than_the_license_allows, "I1: 1 seats are used of 0"),
    (a_seat_under_a_suspended_license, "I1: a seat is given under a suspended license"),
    (a_yes_without_a_seat, "I1: heartbeat was told yes without a seat"),
    (a_seat_told_to_be_beyond_the_limit, "I1: an activation was told to be seat 3 of 2"),
    (a_count_that_is_wrong, "I2: 1 seats are counted, and 0 devices are active"),
    (a_row_without_its_event, "I2: device a is active after its end"),
    (a_row_that_nothing_recorded, "I2: device a is active, and nothing recorded its seat"),
    (a_device_without_its_row, "I3: device a has lost its seat"),
    (an_activation_that_was_lost, "I3: an acknowledged activation of generation 1 is not in the trail"),
    (an_older_generation, "I3: an acknowledged activation of generation 2 is not in the trail"),
    (a_yes_for_a_seat_that_never_was, "I3: heartbeat was told yes for a seat that never was"),
    (a_release_that_was_lost, "I3: an acknowledged deactivate is not in the trail"),
    (a_release_that_nobody_asked_for, "I3: a seat ended as 'user', and nobody asked for that"),
    (a_no_to_a_seat_that_is_held, "I3: heartbeat was told LEASE_LOST while the device held its seat"),
    (a_no_while_there_is_room, "I3: activate was refused a seat while one was free"),
    (a_seat_that_was_freed_before, "I3: activate was refused a seat while one was free"),
    (a_suspension_that_was_over, "I3: heartbeat was refused for a suspension that there was not"),
    (a_good_key_that_was_refused, "I3: activate was told LICENSE_KEY_INVALID with a good key"),
    (a_device_that_is_said_to_be_unknown, "I3: deactivate was told that there is no such device"),
    (a_second_seat_for_one_request, "I4: one request was given two seats"),
    (a_second_seat_for_one_request, "I4: no request is left that could have taken generation 2"),
    (a_seat_that_was_new_twice, "I4: generation 1 was told to be new twice"),
    (a_seat_that_was_held_before, "I4: a seat that was held before was told to be new"),
    (a_seat_that_nobody_asked_for, "I4: no request is left that could have taken generation 2"),
    (a_first_request_called_a_repetition, "I4: a request that was sent for the first time was called a repetition"),
    (a_generation_that_was_left_out, "I4: a seat of generation 2 after one of 0"),
    (two_seats_of_one_device, "I5: a device that has a seat takes another"),
    (a_version_that_is_missing, "I6: the trail goes from version 0 to 2"),
    (a_license_ahead_of_its_trail, "I6: the trail ends at version 3, the license is at 4"),
    (a_change_without_its_outbox_row, "I6: there is not one outbox row: version 2"),
    (a_fact_that_was_never_told, "I6: a fact was lost: version 2"),
    (an_effect_that_happened_twice, "I6: a fact's effect did not happen once: version 3"),
    (an_effect_that_never_happened, "I6: a fact's effect did not happen once: version 3"),
    (a_foreign_device_that_was_freed, "I8: deactivate of another account's device was granted"),
    (a_refusal_that_tells_too_much, "I8: the refusal of a foreign reset tells of another account's device"),
    (a_list_with_foreign_devices, "I8: a list of devices holds others than the license's own"),
    (an_answer_about_another_device, "I8: the answer names device b"),
    (an_end_before_the_one_quoted, "I9: a seat ended for silence 2.000 s before the end last quoted"),
    (an_end_within_the_lease_of_a_contact, "I9: a seat ended for silence 8.100 s after an acknowledged contact"),
    (an_end_by_a_clock_ahead, "I9: a seat ended for silence by a clock that is ahead of the ledger's"),
    (a_seat_by_a_clock_ahead, "I9: the trail has the acknowledged activation at another time"),
    (a_clock_that_goes_back, "I9: the ledger's time goes back from one version to the next"),
]


@pytest.mark.parametrize(("tell", "words"), BAD)
def test_a_violation_is_found(tell: Callable[[], Story], words: str) -> None:
    judged = tell().judged()
    told = [f"{violation.invariant}: {violation.what}" for violation in judged]
    assert [one for one in told if one.startswith(words)], told
    assert all(violation.license == LICENSE for violation in judged)


def test_a_license_that_is_gone_is_found() -> None:
    (violation,) = found([], {}, {LICENSE: 2}, CLOCKS, 0)
    assert (violation.invariant, violation.license) == ("I3", LICENSE)


def test_a_violation_shows_its_records() -> None:
    (violation,) = a_no_to_a_seat_that_is_held().judged()
    assert [one.get("verb") or one["event"] for one in violation.evidence] == ["heartbeat", "device.activated"]


def test_more_seats_than_allowed_are_found_without_the_trail() -> None:
    judged = seats_beyond_the_limit_that_only_clients_saw().judged()
    assert "2 devices held a seat at one instant, and 1 were allowed" in [violation.what for violation in judged]


# --- Clocks, files, report --------------------------------------------------------------------------------------


def test_a_ledger_whose_clock_was_set_makes_times_uncertain_by_the_step() -> None:
    exact = [Record(kind="clock", at=ns(at), wall_ns=ns(WALL_S + at)) for at in range(5)]
    asked = Record(kind="ledger-clock", began_ns=ns(1), at=ns(1.5), wall_ns=ns(WALL_S + 1.3))
    stepped = Record(kind="ledger-clock", began_ns=ns(2), at=ns(2.5), wall_ns=ns(WALL_S + 3602.5))
    assert clocks_of([*exact, asked]) == Clocks(ns(WALL_S), 1_000_000)
    assert clocks_of([*exact, asked, stepped]).slack_ns == ns(3599.5)


def test_a_history_is_read_as_far_as_it_is_written_and_from_there_on(tmp_path: Path) -> None:
    writer, reader = Writer(tmp_path, "client-0"), Reader(tmp_path, "client")
    Writer(tmp_path, "other").write("ok")
    writer.write("invoke", call="1", verb="activate")
    assert [record.kind for record in reader()] == ["clock", "invoke"]
    with (tmp_path / "client-0.jsonl").open("ab") as file:
        file.write(b'{"kind":"ok","at"')
    assert list(reader()) == []
    with (tmp_path / "client-0.jsonl").open("ab") as file:
        file.write(b':7,"call":"1"}\n')
    assert list(reader()) == [Record(kind="ok", at=7, call="1")]


@dataclass(frozen=True)
class Place:
    """What the report needs of a world."""

    folder: Path
    amqp_urls: tuple[str, ...] = ()


def test_a_report_counts_each_fault_between_its_beginning_and_the_next(tmp_path: Path) -> None:
    client, nemesis = Writer(tmp_path / "history", "client-0"), Writer(tmp_path / "history", "nemesis")
    for moment in (0.5, 1.5, 4.0, 4.5, 9.0):
        client.put(Record(kind="ok", at=ns(moment), verb="activate", status=201))
    client.put(Record(kind="unknown", at=ns(2.5), verb="activate", attempt=1, status=503))
    client.put(Record(kind="unknown", at=ns(6.0), verb="heartbeat", attempt=1, status=500))
    killed: dict[str, Any] = {"fault": "postgres killed", "group": "postgres", "kill": True, "cycle": 1}
    rolled: dict[str, Any] = {"fault": "rolling restart", "group": "rolling", "cycle": 1}
    nemesis.put(Record(kind="fault", at=ns(3), began_ns=ns(1), healed_ns=ns(3), **killed))
    nemesis.put(Record(kind="fault", at=ns(7), began_ns=ns(5), healed_ns=ns(7), **rolled))
    client.put(Record(kind="pause", at=ns(10)))

    report = Report(seed=7)
    place: Any = Place(tmp_path)
    report.add_judgement([Violation("I1", LICENSE, "more", at=ns(2)), Violation("I7", LICENSE, "differs")], world=place)

    figures = report.figures()
    assert [line.fault for line in figures["faults"]] == ["postgres killed", "rolling restart"]
    first, second = figures["faults"]
    assert (first.cycles, first.kills, first.acknowledged, first.unknown, first.oversold) == (1, 1, 3, 1, 1)
    assert (first.unavailable_s, first.recovery_max_s) == (2.5, 1.0)
    assert (second.acknowledged, second.unknown, second.other, second.others) == (1, 1, 1, {"I7": 1})
    assert (second.unavailable_s, second.recovery_max_s) == (4.0, 2.0)
    assert figures["kills"] == {"service": 0, "postgres": 1, "redis": 0, "broker": 0}
    assert figures["rolling"] == {"failed_after_one_retry": 1}
    assert figures["answered_500"] == 1
    assert figures["passed"] is False
    assert figures["not_looked_at"] == ["I6 as to facts: without a broker none is delivered"]
    assert figures["totals"] == Line(
        fault="total",
        cycles=2,
        kills=1,
        acknowledged=4,
        unknown=2,
        failed_after_retry=2,
        oversold=1,
        other=1,
        others={"I7": 1},
        unavailable_s=4.0,
        recovery_max_s=2.0,
        recovery_median_s=1.5,
    )
    assert "postgres killed" in report.table()
    assert report.markdown().splitlines()[2].startswith("| postgres killed | 1 | 3 | 1 | 1 | 0 |")

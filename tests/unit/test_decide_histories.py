"""Rules that hold after any history of commands, on a license kept the way the ledger keeps it."""

from collections import Counter
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from shared.licensing import leases
from shared.licensing.decide import decide
from shared.licensing.model import (
    Activate,
    ActivationToken,
    Announce,
    Approval,
    Approve,
    Block,
    Command,
    Decision,
    Device,
    DeviceCommand,
    DeviceState,
    EventKind,
    Expire,
    Extend,
    Granted,
    Reason,
    Reinstate,
    Release,
    Reset,
    Resize,
    Revoke,
    Suspend,
    Terms,
    Unblock,
)
from tests.builders import NOW, ask, floating, make_license, make_terms, make_token

FINGERPRINTS = ["a", "b", "c", "d"]
GENERATIONS = st.sampled_from([None, None, 1, 2, 3])
KINDS: list[type[Command]] = [Extend, Release, Reset, Expire, Announce, Block, Unblock, Approve, Resize]
KINDS += [Suspend, Reinstate, Revoke, Activate, Activate, Activate]
TOKEN = make_token(max_uses=3, expires_at=NOW + timedelta(days=3650))


@st.composite
def commands(draw: st.DrawFn) -> Command:
    kind = draw(st.sampled_from(KINDS))
    fingerprint = draw(st.sampled_from(FINGERPRINTS))
    members: dict[str, Any] = {}
    if kind is Activate:
        members["nonce"] = draw(st.sampled_from([None, b"1", b"2"]))
        members["token_id"] = draw(st.sampled_from([None, None, TOKEN.id]))
    elif kind is Resize:
        members["seats"] = draw(st.integers(0, 4))
    elif kind in (Extend, Release, Reset, Expire, Announce):
        members["generation"] = draw(GENERATIONS)
    return ask(kind, fingerprint, **members)


PAUSES = st.sampled_from([0, 0, 1, 700, 40_000, 86_400, 80 * 86_400, 92 * 86_400]).map(lambda s: timedelta(seconds=s))
HISTORIES = st.lists(st.tuples(PAUSES, commands()), max_size=40)
TERMS = st.sampled_from(
    [make_terms(), make_terms(approval=Approval.ALLOW_LIST), make_terms(lease_s=86_400), floating()]
)


class World:
    """One license, its devices and a token, as the ledger reads and writes them."""

    def __init__(self, terms: Terms) -> None:
        self.license = make_license(seats=2, terms=terms)
        self.devices: dict[UUID, Device] = {}
        self.token: ActivationToken = TOKEN

    def decide(self, command: Command, now: datetime) -> Decision:
        return decide(self.license, self._read(command), self._token_of(command), command, now)

    def write(self, decision: Decision) -> None:
        self.license = decision.license
        self.devices |= {device.id: device for device in decision.devices}
        if decision.token_used is not None:
            self.token = replace(self.token, uses=self.token.uses + 1)

    def count(self, state: DeviceState) -> int:
        return sum(device.state is state for device in self.devices.values())

    def _read(self, command: Command) -> dict[UUID, Device]:
        """The device that is named, and those whose leases end first, as many as are in the way of a new seat."""
        named = command.device_id if isinstance(command, DeviceCommand) else None
        found = [device for device in self.devices.values() if device.id == named]
        if isinstance(command, Activate):
            active = [device for device in self.devices.values() if device.state is DeviceState.ACTIVE]
            in_the_way = max(0, self.license.seats_used + 1 - self.license.seats_limit)
            found += sorted(active, key=lambda device: device.lease_expires_at or NOW)[:in_the_way]
        return {device.id: device for device in found}

    def _token_of(self, command: Command) -> ActivationToken | None:
        return self.token if isinstance(command, Activate) and command.token_id is not None else None


def play(history: list[tuple[timedelta, Command]], terms: Terms) -> list[tuple[World, Decision, datetime]]:
    """The world as it was before each decision, the decision, and when it was made; every rule checked on the way."""
    world, now, told = World(terms), NOW, []
    for pause, command in history:
        now += pause
        decision = world.decide(command, now)
        before = World(terms)
        before.license, before.devices, before.token = world.license, dict(world.devices), world.token
        world.write(decision)
        told.append((before, decision, now))
        check_counts(world)
        check_versions(before, decision)
        check_replay(world, command, decision, now)
    return told


def check_counts(world: World) -> None:
    license = world.license
    assert license.seats_used == world.count(DeviceState.ACTIVE)
    assert license.devices_pending == world.count(DeviceState.PENDING)
    assert license.seats_allowed == max(license.seats_limit, license.seats_used)
    assert 0 <= world.token.uses <= world.token.max_uses


def check_versions(before: World, decision: Decision) -> None:
    first = before.license.version + 1
    assert [event.version for event in decision.events] == list(range(first, first + len(decision.events)))
    assert decision.license.version == before.license.version + len(decision.events)
    if decision.events:
        last = decision.events[-1]
        assert (last.seats_used, last.seats_allowed) == (decision.license.seats_used, decision.license.seats_allowed)


def check_replay(world: World, command: Command, decision: Decision, now: datetime) -> None:
    """The same command at the same moment has the same answer and moves nothing."""
    again = world.decide(command, now)
    assert (again.license, again.events, again.token_used) == (world.license, (), None)
    assert all(device == world.devices[device.id] for device in again.devices)
    if isinstance(decision.answer, Granted):
        assert again.answer == replace(decision.answer, changed=False)
    else:
        assert again.answer == decision.answer


@settings(max_examples=150, deadline=None)
@given(HISTORIES, TERMS)
def test_counts_allowance_and_versions_hold_and_a_repeated_command_changes_nothing(
    history: list[tuple[timedelta, Command]], terms: Terms
) -> None:
    play(history, terms)


@settings(max_examples=100, deadline=None)
@given(HISTORIES, TERMS)
def test_seats_are_taken_below_the_limit_alone(history: list[tuple[timedelta, Command]], terms: Terms) -> None:
    for _, decision, _ in play(history, terms):
        taken = [event for event in decision.events if event.kind is EventKind.DEVICE_ACTIVATED]
        assert all(event.seats_used <= decision.license.seats_limit for event in taken)
        assert len(taken) <= 1


@settings(max_examples=100, deadline=None)
@given(HISTORIES, TERMS)
def test_silence_frees_no_seat_before_its_lease_and_slack_are_over(
    history: list[tuple[timedelta, Command]], terms: Terms
) -> None:
    for before, decision, now in play(history, terms):
        for event in decision.events:
            if event.reason in (Reason.IDLE, Reason.LEASE_EXPIRED):
                assert event.device is not None
                held = before.devices[event.device.id]
                assert held.lease_expires_at is not None
                assert now >= held.lease_expires_at + timedelta(seconds=leases.slack_s(terms.lease_s))


@settings(max_examples=100, deadline=None)
@given(HISTORIES, TERMS)
def test_each_new_seat_raises_the_devices_generation_by_one(
    history: list[tuple[timedelta, Command]], terms: Terms
) -> None:
    seats: Counter[UUID] = Counter()
    for _, decision, _ in play(history, terms):
        for event in decision.events:
            if event.kind is EventKind.DEVICE_ACTIVATED:
                assert event.device is not None
                seats[event.device.id] += 1
                assert event.device.generation == seats[event.device.id]

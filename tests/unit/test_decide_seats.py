"""Seats that are held: contact keeps them; release, reset and silence end them, each once and for one generation."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from shared.licensing.codes import Code
from shared.licensing.decide import decide
from shared.licensing.model import (
    Announce,
    Command,
    Decision,
    Device,
    DeviceState,
    EventKind,
    Expire,
    Extend,
    Granted,
    License,
    LicenseStatus,
    Reason,
    Refused,
    Release,
    Reset,
)
from tests.builders import NOW, ask, floating, make_device, make_license, make_terms

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
UNSEATED = [DeviceState.PENDING, DeviceState.RELEASED, DeviceState.BLOCKED]


def decided(command: Command, device: Device | None, license: License | None = None, now: datetime = NOW) -> Decision:
    devices = [device] if device else []
    return decide(license or make_license(devices), {one.id: one for one in devices}, None, command, now)


def unchanged(device: Device | None, license: License | None = None) -> Decision:
    license = license or make_license([device] if device else [])
    return Decision(answer=Granted(changed=False, device=device), license=license)


def silent(since: timedelta, lease: timedelta = 90 * DAY, **changes: Any) -> Device:
    return make_device(last_contact_at=NOW - since, lease_expires_at=NOW - since + lease, **changes)


# --- Contact --------------------------------------------------------------------------------------------------


def test_contact_within_twelve_hours_promises_nothing_new() -> None:
    device = silent(12 * HOUR - SECOND)
    assert decided(ask(Extend), device) == unchanged(device)


def test_contact_after_twelve_hours_moves_the_lease_without_an_event() -> None:
    device = silent(12 * HOUR, announced_lease_end=NOW)
    extended = replace(device, last_contact_at=NOW, lease_expires_at=NOW + 90 * DAY, announced_lease_end=None)
    assert decided(ask(Extend), device) == Decision(
        answer=Granted(changed=False, device=extended), license=make_license([device]), devices=(extended,)
    )


@pytest.mark.parametrize("lease", [timedelta(minutes=10), 36 * HOUR - SECOND])
def test_every_contact_moves_a_lease_under_36_hours(lease: timedelta) -> None:
    device = silent(SECOND, lease)
    license = make_license([device], terms=floating(int(lease.total_seconds())))
    assert decided(ask(Extend), device, license).devices[0].lease_expires_at == NOW + lease


@pytest.mark.parametrize("generation", [None, 1])
def test_contact_keeps_a_seat_whose_lease_is_long_over(generation: int | None) -> None:
    device = silent(200 * DAY)
    decision = decided(ask(Extend, generation=generation), device)
    assert decision.devices[0].lease_expires_at == NOW + 90 * DAY


def test_contact_while_suspended_counts_though_it_is_refused() -> None:
    device = silent(DAY)
    license = make_license([device], status=LicenseStatus.SUSPENDED)
    extended = replace(device, last_contact_at=NOW, lease_expires_at=NOW + 90 * DAY)
    assert decided(ask(Extend), device, license) == Decision(
        answer=Refused(code=Code.LICENSE_SUSPENDED, device=extended), license=license, devices=(extended,)
    )


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"status": LicenseStatus.REVOKED}, Code.LICENSE_REVOKED), ({"expires_at": NOW}, Code.LICENSE_EXPIRED)],
)
def test_contact_under_a_license_that_ended_moves_nothing(changes: dict[str, Any], code: Code) -> None:
    device = silent(DAY)
    license = make_license([device], **changes)
    assert decided(ask(Extend), device, license) == Decision(answer=Refused(code=code, device=device), license=license)


@pytest.mark.parametrize("state", UNSEATED)
def test_a_device_without_a_seat_is_told_why_it_lost_it(state: DeviceState) -> None:
    device = make_device(state=state)
    answer = Refused(code=Code.LEASE_LOST, reason=device.ended_reason, device=device)
    assert decided(ask(Extend), device) == Decision(answer=answer, license=make_license([device]))


def test_an_older_generation_is_told_that_it_was_superseded() -> None:
    device = silent(DAY, generation=2)
    answer = Refused(code=Code.LEASE_LOST, reason=Reason.SUPERSEDED, device=device)
    assert decided(ask(Extend, generation=1), device) == Decision(answer=answer, license=make_license([device]))


def test_a_generation_that_never_was_is_no_credential() -> None:
    device = silent(DAY)
    assert decided(ask(Extend, generation=2), device) == Decision(
        answer=Refused(code=Code.TOKEN_INVALID), license=make_license([device])
    )


def test_an_unknown_device_holds_no_lease() -> None:
    assert decided(ask(Extend), None).answer == Refused(code=Code.DEVICE_NOT_FOUND)


# --- Release and reset ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("generation", [None, 1])
@pytest.mark.parametrize(("kind", "reason"), [(Release, Reason.USER), (Reset, Reason.RESET)])
def test_a_seat_is_given_back(kind: type[Release | Reset], reason: Reason, generation: int | None) -> None:
    device = make_device()
    decision = decided(ask(kind, generation=generation), device)
    freed = decision.devices[0]
    assert (freed.state, freed.ended_at, freed.ended_reason) == (DeviceState.RELEASED, NOW, reason)
    assert freed.reset_at == (NOW if kind is Reset else None)
    assert decision.answer == Granted(changed=True, device=freed)
    assert decision.license == make_license(version=8)
    assert [(event.kind, event.reason) for event in decision.events] == [(EventKind.DEVICE_RELEASED, reason)]


def test_a_release_says_for_which_reason() -> None:
    decision = decided(ask(Release, reason=Reason.FORCED), make_device())
    assert (decision.events[0].reason, decision.devices[0].ended_reason) == (Reason.FORCED, Reason.FORCED)


@pytest.mark.parametrize("kind", [Release, Reset])
@pytest.mark.parametrize("status", list(LicenseStatus))
def test_a_seat_is_given_back_whatever_the_license_stands_like(
    kind: type[Release | Reset], status: LicenseStatus
) -> None:
    device = make_device()
    license = make_license([device], status=status, expires_at=NOW - DAY)
    assert decided(ask(kind), device, license).license.seats_used == 0


def test_a_release_below_a_lowered_limit_lowers_the_allowance() -> None:
    devices = [make_device(f"device-{number}") for number in range(3)]
    license = make_license(devices, seats=1)
    assert (license.seats_used, license.seats_allowed) == (3, 3)
    for number, allowed in enumerate([2, 1, 1]):
        decision = decided(ask(Release, f"device-{number}"), devices[number], license)
        license = decision.license
        assert (license.seats_allowed, decision.events[0].seats_allowed) == (allowed, allowed)


@pytest.mark.parametrize("state", [DeviceState.RELEASED, DeviceState.BLOCKED])
def test_a_repeated_release_changes_nothing(state: DeviceState) -> None:
    device = make_device(state=state)
    assert decided(ask(Release), device) == unchanged(device)
    assert decided(ask(Release, generation=1), device) == unchanged(device)


def test_a_release_withdraws_a_request_for_approval() -> None:
    decision = decided(ask(Release), make_device(state=DeviceState.PENDING))
    assert (decision.license.devices_pending, decision.license.seats_used) == (0, 0)
    assert decision.devices[0].state is DeviceState.RELEASED


@pytest.mark.parametrize("kind", [Release, Expire, Announce])
def test_a_command_to_an_older_generation_leaves_the_later_one_alone(kind: type[Release | Expire | Announce]) -> None:
    device = silent(200 * DAY, generation=2)
    assert decided(ask(kind, generation=1), device) == unchanged(device)


def test_a_reset_of_an_older_generation_leaves_the_later_ones_seat_alone() -> None:
    device = make_device(generation=2)
    decision = decided(ask(Reset, generation=1), device)
    assert decision.devices == (replace(device, reset_at=NOW),)
    assert decision.license.seats_used == 1
    again = decided(ask(Reset, generation=1), decision.devices[0], decision.license)
    assert again == unchanged(decision.devices[0], decision.license)


@pytest.mark.parametrize("kind", [Release, Reset])
def test_a_generation_that_never_was_is_not_found(kind: type[Release | Reset]) -> None:
    device = make_device()
    expected = Decision(answer=Refused(code=Code.DEVICE_NOT_FOUND), license=make_license([device]))
    assert decided(ask(kind, generation=2), device) == expected


@pytest.mark.parametrize("kind", [Release, Reset])
def test_a_device_that_never_was_is_not_found(kind: type[Release | Reset]) -> None:
    assert decided(ask(kind), None).answer == Refused(code=Code.DEVICE_NOT_FOUND)


def test_a_repeated_reset_changes_nothing() -> None:
    first = decided(ask(Reset), make_device())
    again = decided(ask(Reset), first.devices[0], first.license, NOW + DAY)
    assert again == unchanged(first.devices[0], first.license)


def test_a_device_without_a_seat_can_be_reset_once() -> None:
    device = make_device(state=DeviceState.RELEASED)
    decision = decided(ask(Reset), device)
    assert decision.devices == (replace(device, reset_at=NOW),)
    assert [event.kind for event in decision.events] == [EventKind.DEVICE_RESET]
    again = decided(ask(Reset), decision.devices[0], decision.license, NOW + DAY)
    assert again == unchanged(decision.devices[0], decision.license)


def test_a_reset_is_noted_anew_after_the_device_was_active_again() -> None:
    device = make_device(state=DeviceState.RELEASED, generation=2, activated_at=NOW - DAY, reset_at=NOW - 9 * DAY)
    decision = decided(ask(Reset), device)
    assert decision.answer == Granted(changed=True, device=replace(device, reset_at=NOW))
    assert [event.kind for event in decision.events] == [EventKind.DEVICE_RESET]


def test_the_repeated_reset_of_an_earlier_generation_is_not_noted_anew() -> None:
    device = make_device(generation=2, activated_at=NOW - DAY, reset_at=NOW - 9 * DAY)
    assert decided(ask(Reset, generation=1), device) == unchanged(device)


# --- Silence --------------------------------------------------------------------------------------------------


def test_a_lease_past_its_end_and_slack_is_freed() -> None:
    device = silent(91 * DAY)
    decision = decided(ask(Expire, generation=1), device)
    assert (decision.devices[0].state, decision.devices[0].ended_reason) == (DeviceState.RELEASED, Reason.IDLE)
    assert decision.license.seats_used == 0


def test_a_floating_lease_is_freed_at_its_end_with_a_reason_of_its_own() -> None:
    device = silent(timedelta(minutes=10), timedelta(minutes=10))
    decision = decided(ask(Expire), device, make_license([device], terms=floating(600)))
    assert [event.reason for event in decision.events] == [Reason.LEASE_EXPIRED]


@pytest.mark.parametrize("status", [LicenseStatus.ACTIVE, LicenseStatus.REVOKED])
def test_silence_ends_a_seat_of_a_revoked_license_too(status: LicenseStatus) -> None:
    device = silent(91 * DAY)
    assert decided(ask(Expire), device, make_license([device], status=status)).license.seats_used == 0


def test_expiry_is_decided_again_about_a_device_heard_meanwhile() -> None:
    device = silent(91 * DAY - SECOND)
    assert decided(ask(Expire, generation=1), device) == unchanged(device)


def test_a_suspended_license_keeps_its_silent_devices() -> None:
    device = silent(400 * DAY)
    license = make_license([device], status=LicenseStatus.SUSPENDED)
    assert decided(ask(Expire, generation=1), device, license) == unchanged(device, license)
    assert decided(ask(Announce, generation=1), device, license) == unchanged(device, license)


@pytest.mark.parametrize("generation", [1, 3])
@pytest.mark.parametrize("kind", [Expire, Announce])
def test_silence_of_another_generation_changes_nothing(kind: type[Expire | Announce], generation: int) -> None:
    decision = decided(ask(kind, generation=generation), silent(400 * DAY, generation=2))
    assert isinstance(decision.answer, Granted)
    assert (decision.devices, decision.events) == ((), ())


@pytest.mark.parametrize("state", UNSEATED)
@pytest.mark.parametrize("kind", [Expire, Announce])
def test_silence_of_a_device_without_a_seat_changes_nothing(kind: type[Expire | Announce], state: DeviceState) -> None:
    device = make_device(state=state, lease_expires_at=NOW - 400 * DAY)
    assert decided(ask(kind), device) == unchanged(device)


@pytest.mark.parametrize("kind", [Expire, Announce])
def test_silence_of_an_unknown_device_changes_nothing(kind: type[Expire | Announce]) -> None:
    assert decided(ask(kind), None) == unchanged(None)


def test_a_lease_about_to_end_is_announced_once() -> None:
    device = silent(83 * DAY)
    decision = decided(ask(Announce, generation=1), device)
    announced = replace(device, announced_lease_end=device.lease_expires_at)
    assert decision.answer == Granted(changed=True, device=announced)
    assert decision.license == make_license([device], version=8)
    assert [event.kind for event in decision.events] == [EventKind.LEASE_EXPIRING]
    again = decided(ask(Announce, generation=1), announced, decision.license, NOW + DAY)
    assert again == unchanged(announced, decision.license)


def test_a_lease_that_ends_later_is_not_announced() -> None:
    device = silent(83 * DAY - SECOND)
    assert decided(ask(Announce), device) == unchanged(device)


def test_an_announced_device_that_was_heard_is_announced_again_before_its_next_end() -> None:
    announced = decided(ask(Announce), silent(83 * DAY)).devices[0]
    heard = decided(ask(Extend), announced).devices[0]
    later = decided(ask(Announce), heard, now=NOW + 83 * DAY)
    assert [event.kind for event in later.events] == [EventKind.LEASE_EXPIRING]


def test_leases_under_a_day_are_not_announced() -> None:
    device = silent(timedelta(minutes=9), timedelta(minutes=10))
    license = make_license([device], terms=make_terms(lease_s=600))
    assert decided(ask(Announce), device, license) == unchanged(device, license)

"""What a vendor orders: allowing and blocking devices, a license's status and its number of seats."""

import pytest
from msgspec.structs import replace

from shared.licensing.codes import Code
from shared.licensing.decide import decide
from shared.licensing.model import (
    Activate,
    Approve,
    Block,
    Command,
    Decision,
    Device,
    DeviceState,
    EventKind,
    Granted,
    License,
    LicenseStatus,
    Reason,
    Refused,
    Reinstate,
    Resize,
    Revoke,
    Suspend,
    Unblock,
)
from shared.licensing.vendor_rules import MAX_SEATS
from tests.builders import NOW, ask, make_device, make_license

ACTIVE, SUSPENDED, REVOKED = LicenseStatus


def decided(command: Command, license: License, *devices: Device) -> Decision:
    return decide(license, {device.id: device for device in devices}, None, command, NOW)


def kinds(decision: Decision) -> list[EventKind]:
    return [event.kind for event in decision.events]


# --- The allow-list -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [DeviceState.ACTIVE, DeviceState.PENDING, DeviceState.RELEASED])
def test_a_blocked_device_holds_and_waits_for_nothing(state: DeviceState) -> None:
    device = make_device(state=state, approved=True)
    decision = decided(ask(Block), make_license([device]), device)
    blocked = decision.devices[0]
    assert (blocked.state, blocked.approved, blocked.ended_at) == (DeviceState.BLOCKED, False, NOW)
    assert decision.license == make_license(version=8)
    assert [(event.kind, event.reason) for event in decision.events] == [(EventKind.DEVICE_BLOCKED, Reason.BLOCKED)]


def test_a_repeated_block_changes_nothing() -> None:
    device = make_device(state=DeviceState.BLOCKED)
    assert decided(ask(Block), make_license(), device) == Decision(
        answer=Granted(changed=False, device=device), license=make_license()
    )


def test_an_unblocked_device_may_activate_again() -> None:
    device = make_device(state=DeviceState.BLOCKED)
    unblocked = decided(ask(Unblock), make_license(), device)
    assert kinds(unblocked) == [EventKind.DEVICE_UNBLOCKED]
    seated = decided(ask(Activate), unblocked.license, *unblocked.devices)
    assert (seated.devices[0].state, seated.devices[0].generation) == (DeviceState.ACTIVE, 2)


@pytest.mark.parametrize("state", [DeviceState.ACTIVE, DeviceState.PENDING, DeviceState.RELEASED])
def test_unblocking_what_is_not_blocked_changes_nothing(state: DeviceState) -> None:
    device = make_device(state=state)
    license = make_license([device])
    assert decided(ask(Unblock), license, device) == Decision(
        answer=Granted(changed=False, device=device), license=license
    )


@pytest.mark.parametrize("kind", [Block, Unblock])
def test_an_unknown_device_cannot_be_blocked_or_unblocked(kind: type[Block | Unblock]) -> None:
    assert decided(ask(kind), make_license()).answer == Refused(code=Code.DEVICE_NOT_FOUND)


@pytest.mark.parametrize("state", [DeviceState.ACTIVE, DeviceState.PENDING, DeviceState.RELEASED])
def test_approval_is_noted_once_and_moves_no_seat(state: DeviceState) -> None:
    device = make_device(state=state)
    license = make_license([device])
    decision = decided(ask(Approve), license, device)
    approved = replace(device, approved=True)
    assert decision.devices == (approved,)
    assert decision.license == make_license([approved], version=8)
    assert kinds(decision) == [EventKind.DEVICE_APPROVED]
    again = decided(ask(Approve), decision.license, *decision.devices)
    assert again == Decision(answer=Granted(changed=False, device=decision.devices[0]), license=decision.license)


def test_a_blocked_device_is_unblocked_before_it_is_approved() -> None:
    device = make_device(state=DeviceState.BLOCKED)
    assert decided(ask(Approve), make_license(), device).answer == Refused(code=Code.DEVICE_BLOCKED, device=device)


# --- Status ---------------------------------------------------------------------------------------------------

MOVES = [
    (ACTIVE, Suspend, SUSPENDED, EventKind.LICENSE_SUSPENDED),
    (ACTIVE, Revoke, REVOKED, EventKind.LICENSE_REVOKED),
    (SUSPENDED, Reinstate, ACTIVE, EventKind.LICENSE_REINSTATED),
    (SUSPENDED, Revoke, REVOKED, EventKind.LICENSE_REVOKED),
]


@pytest.mark.parametrize(("before", "kind", "after", "event"), MOVES)
def test_a_license_changes_its_status_and_keeps_its_seats(
    before: LicenseStatus, kind: type[Suspend | Reinstate | Revoke], after: LicenseStatus, event: EventKind
) -> None:
    license = make_license([make_device()], status=before)
    decision = decided(ask(kind), license)
    assert (decision.answer, kinds(decision)) == (Granted(changed=True), [event])
    assert decision.license == replace(license, status=after, version=8)


@pytest.mark.parametrize(("status", "kind"), [(ACTIVE, Reinstate), (SUSPENDED, Suspend), (REVOKED, Revoke)])
def test_a_status_that_is_so_already_changes_nothing(
    status: LicenseStatus, kind: type[Suspend | Reinstate | Revoke]
) -> None:
    license = make_license(status=status)
    assert decided(ask(kind), license) == Decision(answer=Granted(changed=False), license=license)


@pytest.mark.parametrize("kind", [Suspend, Reinstate])
def test_a_revoked_license_stays_revoked(kind: type[Suspend | Reinstate]) -> None:
    license = make_license(status=REVOKED)
    assert decided(ask(kind), license) == Decision(answer=Refused(code=Code.LICENSE_REVOKED), license=license)


# --- Seats ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seats", "allowed"), [(5, 5), (3, 3), (1, 2), (0, 2)])
def test_a_resize_allows_the_limit_or_what_is_in_use(seats: int, allowed: int) -> None:
    decision = decided(ask(Resize, seats=seats), make_license([make_device("a"), make_device("b")], seats=4))
    assert (decision.license.seats_limit, decision.license.seats_allowed) == (seats, allowed)
    assert decision.license.seats_used == 2
    assert [(event.kind, event.seats_allowed) for event in decision.events] == [(EventKind.LICENSE_RESIZED, allowed)]


def test_nobody_gets_a_seat_below_a_lowered_limit() -> None:
    resized = decided(ask(Resize, seats=1), make_license([make_device("a"), make_device("b")]))
    assert decided(ask(Activate), resized.license).answer == Refused(code=Code.DEVICE_LIMIT_EXCEEDED)


def test_a_resize_to_the_same_number_changes_nothing() -> None:
    assert decided(ask(Resize, seats=3), make_license()) == Decision(
        answer=Granted(changed=False), license=make_license()
    )


@pytest.mark.parametrize("seats", [-1, MAX_SEATS + 1])
def test_a_number_of_seats_out_of_range_is_refused(seats: int) -> None:
    assert decided(ask(Resize, seats=seats), make_license()) == Decision(
        answer=Refused(code=Code.REQUEST_INVALID), license=make_license()
    )

"""Activation: who gets a seat, who keeps the one it has, and who is refused for which reason."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from shared.licensing.codes import Code
from shared.licensing.decide import decide
from shared.licensing.leases import DAY_S
from shared.licensing.model import (
    Activate,
    ActivationToken,
    Approval,
    Approve,
    Decision,
    Device,
    DeviceState,
    EventKind,
    Granted,
    License,
    LicenseStatus,
    Reason,
    Refused,
)
from shared.licensing.seat_rules import NONCES_KEPT, PENDING_LIMIT
from tests.builders import NOW, ask, floating, make_device, make_license, make_terms, make_token

DAY = timedelta(days=1)
ALLOW_LIST = make_terms(approval=Approval.ALLOW_LIST)


def activate(
    license: License, devices: Iterable[Device] = (), *, token: ActivationToken | None = None, **members: Any
) -> Decision:
    command = ask(Activate, token_id=token.id if token else None, **members)
    return decide(license, {device.id: device for device in devices}, token, command, NOW)


def refused(code: Code, device: Device | None = None) -> Refused:
    return Refused(code=code, device=device)


def crowd(count: int, **changes: Any) -> list[Device]:
    return [make_device(f"other-{number}", **changes) for number in range(count)]


# --- A seat ---------------------------------------------------------------------------------------------------


def test_a_new_device_takes_a_seat() -> None:
    decision = activate(make_license(), name="Ann's laptop", nonce=b"first")
    expected = make_device(
        name="Ann's laptop",
        activated_at=NOW,
        last_contact_at=NOW,
        lease_expires_at=NOW + 90 * DAY,
        nonces=(b"first",),
    )
    assert decision.answer == Granted(changed=True, device=expected)
    assert decision.devices == (expected,)
    assert decision.license == make_license([expected], version=8)


def test_a_new_seat_is_told_as_one_event_with_the_counts_after_it() -> None:
    decision = activate(make_license(crowd(1)))
    assert [(event.kind, event.version) for event in decision.events] == [(EventKind.DEVICE_ACTIVATED, 8)]
    assert (decision.events[0].seats_used, decision.events[0].seats_allowed) == (2, 3)
    assert decision.events[0].device == decision.devices[0]


def test_the_last_seat_is_granted_and_the_next_device_refused() -> None:
    assert isinstance(activate(make_license(crowd(2))).answer, Granted)
    full = make_license(crowd(3))
    decision = activate(full, crowd(3))
    assert decision == Decision(answer=refused(Code.DEVICE_LIMIT_EXCEEDED), license=full)


def test_a_released_device_comes_back_under_the_next_generation() -> None:
    before = make_device(state=DeviceState.RELEASED, generation=4, nonces=(b"old",), name="Ann's laptop")
    after = activate(make_license(), [before], nonce=b"new").devices[0]
    assert (after.generation, after.state, after.nonces) == (5, DeviceState.ACTIVE, (b"new", b"old"))
    assert (after.ended_at, after.ended_reason) == (None, None)
    assert after.name == "Ann's laptop"


# --- The same again -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nonce", [None, b"first", b"another"])
def test_an_active_device_gets_its_seat_again_whatever_the_nonce(nonce: bytes | None) -> None:
    device = make_device(nonces=(b"first",))
    license = make_license([device])
    decision = activate(license, [device], nonce=nonce)
    assert decision == Decision(answer=Granted(changed=False, device=device), license=license)


@pytest.mark.parametrize("seats", [0, 1])
def test_a_repeated_activation_is_granted_before_the_limit_is_looked_at(seats: int) -> None:
    device = make_device()
    license = make_license([device], seats=seats)
    assert activate(license, [device]).answer == Granted(changed=False, device=device)


def test_a_repeated_activation_is_a_contact_and_moves_an_aged_lease_without_an_event() -> None:
    device = make_device(last_contact_at=NOW - DAY, lease_expires_at=NOW + 89 * DAY)
    decision = activate(make_license([device]), [device])
    extended = replace(device, last_contact_at=NOW, lease_expires_at=NOW + 90 * DAY)
    assert (decision.devices, decision.events) == ((extended,), ())


def test_an_active_device_past_its_lease_keeps_its_seat_when_it_asks_before_anybody_else() -> None:
    device = make_device(lease_expires_at=NOW - 30 * DAY)
    decision = activate(make_license([device], seats=1), [device])
    assert decision.answer == Granted(changed=False, device=decision.devices[0])
    assert decision.devices[0].generation == device.generation


@pytest.mark.parametrize("state", [DeviceState.RELEASED, DeviceState.PENDING])
def test_the_nonce_of_an_ended_generation_makes_no_other(state: DeviceState) -> None:
    device = make_device(state=state, generation=1, nonces=(b"first",))
    license = make_license([device])
    decision = activate(license, [device], nonce=b"first")
    assert decision == Decision(answer=refused(Code.REPLAYED, device), license=license)


def test_the_nonce_of_an_earlier_generation_makes_no_other_either() -> None:
    device = make_device(state=DeviceState.RELEASED, generation=3, nonces=(b"third", b"second", b"first"))
    license = make_license([device])
    decision = activate(license, [device], nonce=b"first")
    assert decision == Decision(answer=refused(Code.REPLAYED, device), license=license)


def test_the_last_nonces_are_kept_and_an_activation_without_one_forgets_none() -> None:
    kept = tuple(b"%d" % number for number in range(NONCES_KEPT))
    device = make_device(state=DeviceState.RELEASED, nonces=kept)
    assert activate(make_license(), [device], nonce=b"new").devices[0].nonces == (b"new", *kept[:-1])
    assert activate(make_license(), [device]).devices[0].nonces == kept


def test_an_ended_generation_without_a_nonce_refuses_none() -> None:
    assert isinstance(activate(make_license(), [make_device(state=DeviceState.RELEASED)]).answer, Granted)


# --- A full license and its silent devices --------------------------------------------------------------------


def test_a_full_license_frees_its_ended_leases_first() -> None:
    silent = make_device("silent", lease_expires_at=NOW - DAY)
    decision = activate(make_license([silent], seats=1), [silent])
    assert [(event.kind, event.reason, event.seats_used) for event in decision.events] == [
        (EventKind.DEVICE_RELEASED, Reason.IDLE, 0),
        (EventKind.DEVICE_ACTIVATED, None, 1),
    ]
    assert isinstance(decision.answer, Granted)
    assert decision.license.seats_used == 1


def test_a_lease_of_days_is_left_alone_for_a_day_past_its_end() -> None:
    silent = make_device("silent", lease_expires_at=NOW - DAY + timedelta(seconds=1))
    decision = activate(make_license([silent], seats=1), [silent])
    assert decision.answer == refused(Code.DEVICE_LIMIT_EXCEEDED)
    assert decision.events == ()


def test_a_floating_lease_is_over_at_its_end() -> None:
    silent = make_device("silent", lease_expires_at=NOW)
    decision = activate(make_license([silent], seats=1, terms=floating()), [silent])
    assert [event.reason for event in decision.events] == [Reason.LEASE_EXPIRED, None]


def test_a_license_with_room_leaves_ended_leases_to_the_reaper() -> None:
    silent = make_device("silent", lease_expires_at=NOW - 10 * DAY)
    decision = activate(make_license([silent]), [silent])
    assert [event.kind for event in decision.events] == [EventKind.DEVICE_ACTIVATED]


def test_ended_leases_of_an_oversized_license_are_freed_though_the_newcomer_is_refused() -> None:
    silent, others = make_device("silent", lease_expires_at=NOW - 2 * DAY), crowd(2)
    decision = activate(make_license([silent, *others], seats=1), [silent, *others])
    assert decision.answer == refused(Code.DEVICE_LIMIT_EXCEEDED)
    assert (decision.license.seats_used, decision.license.seats_allowed) == (2, 2)


# --- The license's own faults ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"status": LicenseStatus.SUSPENDED}, Code.LICENSE_SUSPENDED),
        ({"status": LicenseStatus.REVOKED}, Code.LICENSE_REVOKED),
        ({"expires_at": NOW}, Code.LICENSE_EXPIRED),
        ({"status": LicenseStatus.SUSPENDED, "expires_at": NOW}, Code.LICENSE_SUSPENDED),
    ],
)
@pytest.mark.parametrize("state", [None, DeviceState.PENDING, DeviceState.RELEASED, DeviceState.BLOCKED])
def test_a_license_that_does_not_serve_gives_no_seat(
    changes: dict[str, Any], code: Code, state: DeviceState | None
) -> None:
    devices = [make_device(state=state)] if state else []
    license = make_license(devices, **changes)
    assert activate(license, devices) == Decision(answer=refused(code), license=license)


def test_a_license_serves_until_the_moment_of_its_expiry() -> None:
    assert isinstance(activate(make_license(expires_at=NOW + timedelta(microseconds=1))).answer, Granted)


def test_a_blocked_device_gets_no_seat() -> None:
    device = make_device(state=DeviceState.BLOCKED)
    license = make_license()
    assert activate(license, [device]) == Decision(answer=refused(Code.DEVICE_BLOCKED, device), license=license)


# --- Activation tokens ----------------------------------------------------------------------------------------


def test_a_token_is_used_by_a_new_seat() -> None:
    token = make_token(uses=4)
    assert activate(make_license(), token=token).token_used == token.id


def test_a_token_is_not_used_by_a_repeated_activation() -> None:
    device, token = make_device(), make_token()
    decision = activate(make_license([device]), [device], token=token)
    assert (decision.answer, decision.token_used) == (Granted(changed=False, device=device), None)


def test_a_used_up_token_gives_an_active_device_its_seat_again_but_no_new_one() -> None:
    device, token = make_device(), make_token(uses=5)
    assert activate(make_license([device]), [device], token=token).answer == Granted(changed=False, device=device)
    assert activate(make_license(), token=token).answer == refused(Code.TOKEN_EXHAUSTED)


@pytest.mark.parametrize(
    ("token", "code"),
    [
        (make_token(revoked_at=NOW - DAY), Code.TOKEN_REVOKED),
        (make_token(expires_at=NOW), Code.TOKEN_EXPIRED),
        (make_token(revoked_at=NOW - DAY, expires_at=NOW), Code.TOKEN_REVOKED),
    ],
)
@pytest.mark.parametrize("active", [False, True])
def test_a_withdrawn_or_expired_token_authenticates_nobody(token: ActivationToken, code: Code, active: bool) -> None:
    devices = [make_device()] if active else []
    license = make_license(devices)
    assert activate(license, devices, token=token) == Decision(answer=refused(code), license=license)


def test_a_token_that_the_ledger_does_not_know_is_invalid() -> None:
    command = ask(Activate, token_id=make_token().id)
    assert decide(make_license(), {}, None, command, NOW).answer == refused(Code.TOKEN_INVALID)


# --- The allow-list -------------------------------------------------------------------------------------------


def test_a_device_that_is_not_allowed_yet_waits_and_takes_no_seat() -> None:
    decision = activate(make_license(terms=ALLOW_LIST), name="Ann's laptop", nonce=b"first", token=make_token())
    waiting = make_device(state=DeviceState.PENDING, name="Ann's laptop")
    assert decision.answer == Granted(changed=True, device=waiting)
    assert decision.license == make_license([waiting], terms=ALLOW_LIST, version=8)
    assert [event.kind for event in decision.events] == [EventKind.DEVICE_PENDING]
    assert decision.token_used is None


def test_a_waiting_device_that_asks_again_goes_on_waiting() -> None:
    waiting = make_device(state=DeviceState.PENDING)
    license = make_license([waiting], terms=ALLOW_LIST)
    assert activate(license, [waiting], nonce=b"first") == Decision(
        answer=Granted(changed=False, device=waiting), license=license
    )


def test_a_device_that_asks_again_without_a_name_keeps_the_one_it_has() -> None:
    device = make_device(state=DeviceState.RELEASED, name="Ann's laptop")
    assert activate(make_license(terms=ALLOW_LIST), [device]).devices[0].name == "Ann's laptop"
    assert activate(make_license(terms=ALLOW_LIST), [device], name="New").devices[0].name == "New"


def test_only_so_many_devices_may_wait() -> None:
    license = make_license(terms=ALLOW_LIST, devices_pending=PENDING_LIMIT - 1)
    last = activate(license)
    assert last.license.devices_pending == PENDING_LIMIT
    decision = decide(last.license, {}, None, ask(Activate, "one too many"), NOW)
    assert decision == Decision(answer=refused(Code.DEVICE_NOT_ALLOWED), license=last.license)


def test_an_approved_device_takes_a_seat_with_the_nonce_it_waited_with() -> None:
    waiting = activate(make_license(terms=ALLOW_LIST), nonce=b"first")
    approved = decide(waiting.license, {d.id: d for d in waiting.devices}, None, ask(Approve), NOW)
    assert [event.kind for event in approved.events] == [EventKind.DEVICE_APPROVED]
    seated = activate(approved.license, approved.devices, nonce=b"first")
    assert seated.devices[0].state is DeviceState.ACTIVE
    assert (seated.license.seats_used, seated.license.devices_pending) == (1, 0)


def test_a_fingerprint_may_be_approved_before_it_asks() -> None:
    approved = decide(make_license(terms=ALLOW_LIST), {}, None, ask(Approve), NOW)
    assert (approved.license.seats_used, approved.license.devices_pending) == (0, 0)
    seated = activate(approved.license, approved.devices)
    assert (seated.devices[0].state, seated.devices[0].generation) == (DeviceState.ACTIVE, 1)


def test_an_approved_device_needs_no_second_approval_after_its_release() -> None:
    device = make_device(state=DeviceState.RELEASED, approved=True)
    assert activate(make_license(terms=ALLOW_LIST), [device]).devices[0].state is DeviceState.ACTIVE


def test_an_approved_device_still_needs_a_free_seat() -> None:
    device = make_device(state=DeviceState.PENDING, approved=True)
    license = make_license([device, *crowd(3)], terms=ALLOW_LIST)
    assert activate(license, [device]) == Decision(answer=refused(Code.DEVICE_LIMIT_EXCEEDED), license=license)


def test_the_lease_of_a_floating_seat_is_short() -> None:
    assert activate(make_license(terms=floating(600))).devices[0].lease_expires_at == NOW + timedelta(seconds=600)
    assert floating(600).lease_s < DAY_S

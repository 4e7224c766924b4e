"""What policies rule: overage, the end of a license, versions, entitlements, limits in time, offline files, clones."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from shared.licensing.codes import Code
from shared.licensing.decide import decide
from shared.licensing.leases import DAY_S
from shared.licensing.model import (
    Activate,
    Announce,
    Approval,
    Approve,
    Block,
    Command,
    Decision,
    Device,
    DeviceState,
    EventKind,
    Expire,
    Extend,
    Granted,
    HoldOffline,
    License,
    LicenseStatus,
    OnClone,
    OnExpiry,
    Overage,
    Reason,
    Refused,
    Release,
    Reset,
    ReturnOffline,
    Revoke,
    Suspend,
    Window,
)
from shared.licensing.offline_rules import allows, file_end
from tests.builders import NOW, ask, code_of, device_of, floating, make_device, make_license, make_terms

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
YEAR = timedelta(days=365)
OTHERS = [make_device("other-0"), make_device("other-1"), make_device("other-2")]


def decided(
    command: Command,
    devices: Iterable[Device] = (),
    *,
    now: datetime = NOW,
    not_before: datetime | None = None,
    license: License | None = None,
    **changes: Any,
) -> Decision:
    devices = list(devices)
    license = license or make_license(devices, **changes)
    return decide(license, {device.id: device for device in devices}, None, command, now, not_before)


def kinds(decision: Decision) -> list[EventKind]:
    return [event.kind for event in decision.events]


# --- Overage --------------------------------------------------------------------------------------------------


def test_overage_gives_a_seat_beyond_the_limit_and_says_so_in_the_event() -> None:
    decision = decided(ask(Activate), OTHERS, terms=make_terms(overage=Overage.UNLIMITED))
    assert isinstance(decision.answer, Granted)
    assert (decision.license.seats_limit, decision.license.seats_used, decision.license.seats_allowed) == (3, 4, 4)
    (event,) = decision.events
    assert (event.seats_limit, event.seats_used, event.seats_allowed) == (3, 4, 4)


def test_overage_first_frees_what_has_ended() -> None:
    ended = make_device("ended", lease_expires_at=NOW - 2 * DAY)
    decision = decided(ask(Activate), [*OTHERS[:2], ended], terms=make_terms(overage=Overage.UNLIMITED))
    assert kinds(decision) == [EventKind.DEVICE_RELEASED, EventKind.DEVICE_ACTIVATED]
    assert (decision.license.seats_used, decision.license.seats_allowed) == (3, 3)


def test_a_release_lowers_the_allowance_of_overage_towards_the_limit() -> None:
    devices = [*OTHERS, make_device(), make_device("fifth")]
    decision = decided(ask(Release), devices, terms=make_terms(overage=Overage.UNLIMITED))
    assert (decision.license.seats_used, decision.license.seats_allowed) == (4, 4)


# --- The end of a license -------------------------------------------------------------------------------------


def test_the_first_activation_begins_a_license_that_lasts_for_a_time() -> None:
    terms = make_terms(valid_s=30 * DAY_S)
    first = decided(ask(Activate), terms=terms)
    assert first.license.expires_at == NOW + 30 * DAY
    second = decided(ask(Activate, "second"), [device_of(first)], license=first.license, now=NOW + DAY)
    assert second.license.expires_at == NOW + 30 * DAY


def test_a_date_that_the_license_was_granted_with_stays() -> None:
    decision = decided(ask(Activate), terms=make_terms(valid_s=DAY_S), expires_at=NOW + 9 * DAY)
    assert decision.license.expires_at == NOW + 9 * DAY


@pytest.mark.parametrize(
    ("on_expiry", "new", "kept"),
    [
        (OnExpiry.REFUSE_ALL, Code.LICENSE_EXPIRED, Code.LICENSE_EXPIRED),
        (OnExpiry.REFUSE_NEW, Code.LICENSE_EXPIRED, None),
        (OnExpiry.WARN, None, None),
    ],
)
def test_what_the_end_of_a_license_means(on_expiry: OnExpiry, new: Code | None, kept: Code | None) -> None:
    terms = make_terms(on_expiry=on_expiry)
    ended: dict[str, Any] = {"terms": terms, "expires_at": NOW}
    activation, contact = decided(ask(Activate), **ended), decided(ask(Extend), [make_device()], **ended)
    assert (code_of(activation), code_of(contact)) == (new, kept)
    for decision in (activation, contact):
        if isinstance(decision.answer, Granted):
            assert decision.answer.warning is Code.LICENSE_EXPIRED


def test_nothing_is_warned_of_before_the_end() -> None:
    terms = make_terms(on_expiry=OnExpiry.WARN)
    answer = decided(ask(Extend), [make_device()], terms=terms, expires_at=NOW + DAY).answer
    assert answer == Granted(changed=False, device=make_device())


# --- Versions and entitlements --------------------------------------------------------------------------------

RANGE = make_terms(min_version="2.3", max_version="3")


@pytest.mark.parametrize("version", ["2.3", "v2.3.0-beta.1", "2.10", "3.99.9", "3"])
def test_a_version_in_the_range_is_served(version: str) -> None:
    assert isinstance(decided(ask(Activate, version=version), terms=RANGE).answer, Granted)
    assert isinstance(decided(ask(Extend, version=version), [make_device()], terms=RANGE).answer, Granted)


@pytest.mark.parametrize("version", ["2.2.9", "4", "4.0.0-rc1", "latest", "", None])
def test_a_version_outside_the_range_is_refused_and_keeps_no_lease_alive(version: str | None) -> None:
    device = make_device(lease_expires_at=NOW + DAY)
    assert code_of(decided(ask(Activate, version=version), terms=RANGE)) is Code.VERSION_NOT_SUPPORTED
    contact = decided(ask(Extend, version=version), [device], terms=RANGE)
    assert (code_of(contact), contact.devices) == (Code.VERSION_NOT_SUPPORTED, ())


def test_an_application_is_refused_what_it_cannot_do_without() -> None:
    terms = make_terms(entitlements={"export": None, "seats-3d": 5})
    assert code_of(decided(ask(Activate, entitlements=("export", "seats-3d")), terms=terms)) is None
    assert code_of(decided(ask(Activate, entitlements=("export", "import")), terms=terms)) is Code.ENTITLEMENT_MISSING
    asked = ask(Extend, entitlements=("import",))
    assert code_of(decided(asked, [make_device()], terms=terms)) is Code.ENTITLEMENT_MISSING


# --- Limits in time -------------------------------------------------------------------------------------------


def test_activations_are_limited_per_hour() -> None:
    terms = make_terms(activations_per_hour=2)
    began = Window(began_at=NOW - HOUR + timedelta(seconds=1), count=2)
    refused = decided(ask(Activate), terms=terms, activations=began).answer
    assert refused == Refused(code=Code.TOO_MANY_REQUESTS, until=NOW + timedelta(seconds=1))
    ended = decided(ask(Activate), terms=terms, activations=Window(began_at=NOW - HOUR, count=2))
    assert ended.license.activations == Window(began_at=NOW, count=1)
    counted = decided(ask(Activate), terms=terms, activations=replace(began, count=1))
    assert counted.license.activations == began


def test_a_repeated_activation_is_not_counted() -> None:
    terms = make_terms(activations_per_hour=1)
    spent = Window(began_at=NOW, count=1)
    decision = decided(ask(Activate), [make_device()], terms=terms, activations=spent)
    assert isinstance(decision.answer, Granted)
    assert decision.license.activations == spent


@pytest.mark.parametrize("kind", [Release, Reset])
def test_devices_and_holders_release_so_often_a_year_and_vendors_as_they_like(kind: type[Release | Reset]) -> None:
    terms = make_terms(releases_per_year=1)
    spent = Window(began_at=NOW - YEAR + DAY, count=1)
    devices = [make_device()]
    refused = decided(ask(kind), devices, terms=terms, releases=spent).answer
    assert refused == Refused(code=Code.RELEASE_LIMIT_EXCEEDED, device=devices[0], until=NOW + DAY)
    by_vendor = decided(replace(ask(kind), actor="admin"), devices, terms=terms, releases=spent)
    assert (code_of(by_vendor), by_vendor.license.releases) == (None, spent)
    in_the_next = decided(ask(kind), devices, terms=terms, releases=replace(spent, began_at=NOW - YEAR))
    assert in_the_next.license.releases == Window(began_at=NOW, count=1)


def test_a_repeated_release_is_neither_counted_nor_refused() -> None:
    spent = Window(began_at=NOW, count=1)
    released = make_device(state=DeviceState.RELEASED)
    decision = decided(ask(Release), [released], terms=make_terms(releases_per_year=1), releases=spent)
    assert decision.answer == Granted(changed=False, device=released)


def test_silence_is_no_release_of_the_year() -> None:
    spent = Window(began_at=NOW, count=1)
    silent = make_device(lease_expires_at=NOW - 2 * DAY)
    decision = decided(ask(Expire), [silent], terms=make_terms(releases_per_year=1), releases=spent)
    assert (kinds(decision), decision.license.releases) == ([EventKind.DEVICE_RELEASED], spent)


# --- Approval -------------------------------------------------------------------------------------------------


def test_an_approved_device_waits_no_longer_and_leaves_room_for_the_next() -> None:
    terms = make_terms(approval=Approval.ALLOW_LIST)
    waiting = make_device(state=DeviceState.PENDING)
    approved = decided(ask(Approve), [waiting], terms=terms)
    assert approved.license.devices_pending == 0
    seated = decided(ask(Activate), [device_of(approved)], license=approved.license)
    assert (seated.license.devices_pending, seated.license.seats_used) == (0, 1)
    ended = decided(ask(Release), [device_of(approved)], license=approved.license)
    assert (ended.license.devices_pending, ended.license.seats_used) == (0, 0)


# --- Offline files --------------------------------------------------------------------------------------------

OFFLINE = make_terms(offline_max_days=30)


def test_an_offline_file_holds_the_seat_to_its_end_though_the_lease_is_shorter() -> None:
    terms = make_terms(lease_s=DAY_S, offline_max_days=30)
    decision = decided(ask(HoldOffline, until=NOW + 30 * DAY), [make_device()], terms=terms)
    held = device_of(decision)
    assert (held.offline_until, held.lease_expires_at) == (NOW + 30 * DAY, NOW + 30 * DAY)
    assert kinds(decision) == [EventKind.DEVICE_HELD_OFFLINE]
    heard = decided(ask(Extend), [held], terms=terms, now=NOW + 15 * DAY)
    assert device_of(heard).lease_expires_at == NOW + 30 * DAY


@pytest.mark.parametrize(("days", "until"), [(0, DAY), (30, 30 * DAY + HOUR), (30, timedelta(0))])
def test_an_offline_file_lasts_no_longer_than_the_policy_allows(days: int, until: timedelta) -> None:
    terms = make_terms(offline_max_days=days)
    decision = decided(ask(HoldOffline, until=NOW + until), [make_device()], terms=terms)
    assert (code_of(decision), decision.devices) == (Code.OFFLINE_NOT_ALLOWED, ())


@pytest.mark.parametrize(
    "command",
    [ask(Release), ask(Reset), ask(Block), replace(ask(Release, reason=Reason.ADMIN), actor="admin")],
    ids=["release", "reset", "block", "by the vendor"],
)
def test_a_living_offline_file_keeps_its_seat_from_being_freed(command: Command) -> None:
    held = make_device(offline_until=NOW + DAY)
    decision = decided(command, [held], terms=OFFLINE)
    assert decision.answer == Refused(code=Code.OFFLINE_HELD, device=held, until=NOW + DAY)
    assert decision.events == ()
    assert code_of(decided(command, [held], terms=OFFLINE, now=NOW + DAY)) is None


def test_silence_frees_no_seat_whose_offline_file_lives() -> None:
    held = make_device(offline_until=NOW + DAY, lease_expires_at=NOW - 2 * DAY)
    assert decided(ask(Expire), [held], terms=OFFLINE).events == ()
    assert code_of(decided(ask(Activate, "new"), [*OTHERS[:2], held], terms=OFFLINE)) is Code.DEVICE_LIMIT_EXCEEDED


@pytest.mark.parametrize(
    "command", [ask(ReturnOffline, generation=1), ask(Release, reason=Reason.FORCED)], ids=["return", "force"]
)
def test_its_return_or_a_vendors_force_frees_it(command: Command) -> None:
    decision = decided(command, [make_device(offline_until=NOW + DAY)], terms=OFFLINE)
    assert (kinds(decision), device_of(decision).offline_until) == ([EventKind.DEVICE_RELEASED], None)


def test_a_receipt_for_an_earlier_generation_frees_nothing() -> None:
    held = make_device(generation=2, offline_until=NOW + DAY)
    assert decided(ask(ReturnOffline, generation=1), [held], terms=OFFLINE).answer == Granted(
        changed=False, device=held
    )


def test_a_return_is_one_of_the_releases_that_a_policy_allows_in_a_year() -> None:
    terms = make_terms(offline_max_days=30, releases_per_year=1)
    held = make_device(offline_until=NOW + DAY)
    decision = decided(ask(ReturnOffline, generation=1), [held], terms=terms)
    assert decision.license.releases == Window(began_at=NOW, count=1)
    spent = decided(ask(ReturnOffline, generation=1), [held], terms=terms, releases=decision.license.releases)
    assert spent.answer == Refused(code=Code.RELEASE_LIMIT_EXCEEDED, device=held, until=NOW + 365 * DAY)


def test_a_receipt_frees_the_seat_of_its_generation_where_no_file_is_left_of_it() -> None:
    assert kinds(decided(ask(ReturnOffline, generation=1), [make_device()], terms=OFFLINE)) == [
        EventKind.DEVICE_RELEASED
    ]


@pytest.mark.parametrize("limit", [1, 3])
def test_a_device_that_gives_a_file_back_and_goes_on_begins_anew_in_the_same_seat(limit: int) -> None:
    held = make_device(offline_until=NOW + DAY, counter=7)
    terms = make_terms(offline_max_days=30, releases_per_year=0)
    decision = decided(ask(ReturnOffline, generation=1, keeps_seat=True), [*OTHERS[:2], held], terms=terms, seats=limit)
    device, license = device_of(decision), decision.license
    assert kinds(decision) == [EventKind.DEVICE_RENEWED]
    assert (device.state, device.generation, device.offline_until, device.counter) == (
        DeviceState.ACTIVE,
        2,
        None,
        0,
    )
    assert (license.seats_used, license.seats_allowed) == (3, 3)
    again = decided(ask(ReturnOffline, generation=1, keeps_seat=True), [*OTHERS[:2], device], terms=terms)
    assert again.events == ()


@pytest.mark.parametrize(
    ("days", "license_ends", "certificate_ends", "expected"),
    [
        (None, None, 3650, 30),
        (7, None, 3650, 7),
        (7, 5, 3650, 5),
        (7, 9, 3650, 7),
        (7, 5, 3, 3),
    ],
)
def test_a_file_ends_with_what_was_asked_the_policy_the_license_or_the_certificate(
    days: int | None, license_ends: int | None, certificate_ends: int, expected: int
) -> None:
    issued = NOW.replace(microsecond=0)
    ends = issued + license_ends * DAY + timedelta(microseconds=7) if license_ends else None
    license = make_license(terms=OFFLINE, expires_at=ends)
    certificate_end = issued + certificate_ends * DAY
    assert file_end(license, issued=issued, days=days, certificate_end=certificate_end) == issued + expected * DAY


@pytest.mark.parametrize("on_expiry", [OnExpiry.WARN, OnExpiry.REFUSE_NEW])
def test_a_license_that_serves_on_ends_no_file(on_expiry: OnExpiry) -> None:
    license = make_license(terms=make_terms(offline_max_days=30, on_expiry=on_expiry), expires_at=NOW + DAY)
    assert file_end(license, issued=NOW, days=9, certificate_end=NOW + 99 * DAY) == NOW + 9 * DAY


@pytest.mark.parametrize(
    ("most", "days", "allowed"), [(30, None, True), (30, 30, True), (30, 31, False), (0, None, False)]
)
def test_a_policy_says_how_long_a_file_may_last(most: int, days: int | None, allowed: bool) -> None:
    assert allows(make_license(terms=make_terms(offline_max_days=most)), days) is allowed


@pytest.mark.parametrize("state", [DeviceState.RELEASED, DeviceState.BLOCKED])
def test_only_an_active_device_goes_offline(state: DeviceState) -> None:
    decision = decided(ask(HoldOffline, until=NOW + DAY), [make_device(state=state)], terms=OFFLINE)
    assert code_of(decision) is Code.LEASE_LOST


# --- Floating devices that come back --------------------------------------------------------------------------

LAPSED = make_device(state=DeviceState.RELEASED, ended_reason=Reason.LEASE_EXPIRED)


def came_back(devices: Iterable[Device] = (), *, lapsed: Device = LAPSED, **members: Any) -> Decision:
    terms = members.pop("terms", floating())
    command = ask(Extend, resumes=True, **{"generation": 1, **members})
    return decided(command, [*devices, lapsed], terms=terms)


def test_a_floating_device_that_comes_back_late_has_a_free_seat_again_under_its_generation() -> None:
    decision = came_back(OTHERS[:2])
    assert kinds(decision) == [EventKind.DEVICE_RESUMED]
    device = device_of(decision)
    assert (device.state, device.generation, device.ended_reason) == (DeviceState.ACTIVE, 1, None)
    assert device.lease_expires_at == NOW + timedelta(seconds=600)
    assert decision.license.seats_used == 3


def test_it_has_lost_its_seat_when_none_is_free() -> None:
    decision = came_back(OTHERS)
    assert decision.answer == Refused(code=Code.LEASE_LOST, reason=Reason.LEASE_EXPIRED, device=LAPSED)
    assert decision.events == ()


def test_coming_back_first_frees_what_has_ended() -> None:
    decision = came_back([*OTHERS[:2], make_device("ended", lease_expires_at=NOW)])
    assert kinds(decision) == [EventKind.DEVICE_RELEASED, EventKind.DEVICE_RESUMED]


@pytest.mark.parametrize(
    ("lapsed", "members"),
    [
        (LAPSED, {"resumes": False}),
        (replace(LAPSED, ended_reason=Reason.USER), {}),
        (replace(LAPSED, ended_reason=Reason.ADMIN), {}),
        (replace(LAPSED, ended_reason=Reason.IDLE), {}),
        (replace(LAPSED, state=DeviceState.BLOCKED), {}),
        (replace(LAPSED, generation=2), {}),
    ],
)
def test_no_other_end_is_undone_by_a_contact(lapsed: Device, members: dict[str, Any]) -> None:
    command = ask(Extend, **{"resumes": True, "generation": 1, **members})
    decision = decided(command, [lapsed], terms=floating())
    assert (code_of(decision), decision.events) == (Code.LEASE_LOST, ())


@pytest.mark.parametrize(
    ("status", "code"),
    [(LicenseStatus.SUSPENDED, Code.LICENSE_SUSPENDED), (LicenseStatus.REVOKED, Code.LICENSE_REVOKED)],
)
def test_no_device_comes_back_to_a_license_that_gives_no_seats(status: LicenseStatus, code: Code) -> None:
    command = ask(Extend, resumes=True, generation=1)
    assert code_of(decided(command, [LAPSED], terms=floating(), status=status)) is code


# --- Clones ---------------------------------------------------------------------------------------------------

COUNTED = make_device(counter=100)


@pytest.mark.parametrize(("counter", "seen"), [(100, 0), (101, 0), (150, 150), (1, 0), (1, 500)])
def test_a_counter_that_goes_on_repeats_or_begins_anew_shows_no_clone(counter: int, seen: int) -> None:
    decision = decided(ask(Extend, counter=counter, counter_seen=seen), [COUNTED])
    assert (decision.events, code_of(decision)) == ((), None)


@pytest.mark.parametrize(("counter", "seen"), [(99, 0), (2, 0), (120, 121)])
def test_a_counter_that_goes_back_is_noted_and_goes_on_where_the_policy_only_marks(counter: int, seen: int) -> None:
    decision = decided(ask(Extend, counter=counter, counter_seen=seen), [COUNTED])
    assert (kinds(decision), code_of(decision)) == ([EventKind.CLONE_SUSPECTED], None)
    assert device_of(decision).clone_suspected_at == NOW


def test_a_clone_is_noted_once_a_day() -> None:
    command = ask(Extend, counter=5)
    assert decided(command, [replace(COUNTED, clone_suspected_at=NOW - DAY + HOUR)]).events == ()
    assert kinds(decided(command, [replace(COUNTED, clone_suspected_at=NOW - DAY)])) == [EventKind.CLONE_SUSPECTED]


def test_a_clone_is_refused_where_the_policy_says_so_and_keeps_no_lease_alive() -> None:
    device = replace(COUNTED, lease_expires_at=NOW + DAY, clone_suspected_at=NOW)
    decision = decided(ask(Extend, counter=5), [device], terms=make_terms(on_clone=OnClone.REFUSE))
    assert (code_of(decision), decision.devices) == (Code.CLONE_SUSPECTED, ())


def test_a_commit_keeps_the_highest_count_and_a_new_start() -> None:
    due = replace(COUNTED, lease_expires_at=NOW + DAY)
    assert device_of(decided(ask(Extend, counter=130), [due])).counter == 130
    assert device_of(decided(ask(Extend), [due])).counter == 100
    assert device_of(decided(ask(Extend, counter=1), [due])).counter == 1


def test_a_new_activation_counts_from_nothing() -> None:
    released = make_device(state=DeviceState.RELEASED, counter=100, clone_suspected_at=NOW)
    device = device_of(decided(ask(Activate), [released]))
    assert (device.counter, device.clone_suspected_at) == (0, None)


# --- When the reaper rests ------------------------------------------------------------------------------------


def test_before_the_given_moment_no_long_lease_ends_by_silence() -> None:
    silent = make_device(lease_expires_at=NOW - 2 * DAY)
    rest: dict[str, Any] = {"not_before": NOW + timedelta(seconds=1)}
    assert decided(ask(Expire), [silent], **rest).events == ()
    assert code_of(decided(ask(Activate, "new"), [*OTHERS[:2], silent], **rest)) is Code.DEVICE_LIMIT_EXCEEDED
    assert kinds(decided(ask(Expire), [silent], not_before=NOW)) == [EventKind.DEVICE_RELEASED]


def test_short_leases_end_all_the_same() -> None:
    silent = make_device(lease_expires_at=NOW)
    decision = decided(ask(Expire), [silent], terms=floating(), not_before=NOW + DAY)
    assert kinds(decision) == [EventKind.DEVICE_RELEASED]


def test_what_else_ends_a_seat_does_not_wait_for_the_reaper() -> None:
    assert kinds(decided(ask(Release), [make_device()], not_before=NOW + DAY)) == [EventKind.DEVICE_RELEASED]


@pytest.mark.parametrize("command", [ask(Suspend), ask(Revoke), ask(Announce)])
def test_counts_of_time_stay_with_commands_that_have_nothing_to_do_with_them(command: Command) -> None:
    windows: dict[str, Any] = {"activations": Window(began_at=NOW, count=3), "releases": Window(began_at=NOW, count=4)}
    decision = decided(command, [make_device()], **windows)
    assert (decision.license.activations, decision.license.releases) == tuple(windows.values())

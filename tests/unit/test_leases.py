"""Lengths of time: leases, their slack and floor, announcements, and what a signed lease may state."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from shared.licensing import leases
from shared.licensing.leases import DAY_S, FLOOR_AGE_S, FLOOR_MIN_LEASE_S
from shared.licensing.model import DeviceState, LicenseStatus
from tests.builders import NOW, make_device, make_license, make_terms

SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
HOUR_S = 3600


@pytest.mark.parametrize(("lease_s", "slack_s"), [(600, 0), (DAY_S - 1, 0), (DAY_S, DAY_S), (90 * DAY_S, DAY_S)])
def test_leases_of_a_day_or_more_have_a_day_of_slack(lease_s: int, slack_s: int) -> None:
    assert leases.slack_s(lease_s) == slack_s


@pytest.mark.parametrize(
    ("lease_s", "lead_s"),
    [(DAY_S - 1, None), (DAY_S, 8640), (30 * DAY_S, 3 * DAY_S), (70 * DAY_S, 7 * DAY_S), (90 * DAY_S, 7 * DAY_S)],
)
def test_the_end_is_announced_a_week_or_a_tenth_of_the_lease_ahead(lease_s: int, lead_s: int | None) -> None:
    assert leases.announce_lead_s(lease_s) == lead_s


@pytest.mark.parametrize(
    ("lease_s", "age_s", "needed"),
    [
        (600, 0, True),
        (FLOOR_MIN_LEASE_S - 1, 0, True),
        (FLOOR_MIN_LEASE_S, 0, False),
        (FLOOR_MIN_LEASE_S, FLOOR_AGE_S - 1, False),
        (FLOOR_MIN_LEASE_S, FLOOR_AGE_S, True),
        (90 * DAY_S, FLOOR_AGE_S - 1, False),
        (90 * DAY_S, FLOOR_AGE_S, True),
        (90 * DAY_S, 200 * DAY_S, True),
    ],
)
def test_short_leases_and_old_floors_are_committed_at_each_contact(lease_s: int, age_s: int, needed: bool) -> None:
    end = NOW + timedelta(seconds=lease_s - age_s)
    assert leases.needs_commit(lease_s, end, NOW) is needed


@pytest.mark.parametrize(("lease_s", "slack"), [(600, timedelta()), (90 * DAY_S, DAY)])
def test_a_lease_is_over_at_its_end_and_slack_and_not_a_second_before(lease_s: int, slack: timedelta) -> None:
    device = make_device(lease_expires_at=NOW)
    license = make_license([device], terms=make_terms(lease_s=lease_s))
    assert not leases.is_over(license, device, NOW + slack - SECOND)
    assert leases.is_over(license, device, NOW + slack)


def test_only_an_active_device_has_a_lease_that_can_be_over_or_expiring() -> None:
    for state in DeviceState:
        device = make_device(state=state, lease_expires_at=NOW - 400 * DAY)
        assert leases.is_over(make_license(), device, NOW) is (state is DeviceState.ACTIVE)
        assert leases.is_expiring(make_license(), device, NOW) is (state is DeviceState.ACTIVE)


def test_a_suspended_license_lets_no_lease_be_over_or_expiring() -> None:
    device, license = make_device(lease_expires_at=NOW - 400 * DAY), make_license(status=LicenseStatus.SUSPENDED)
    assert not leases.is_over(license, device, NOW)
    assert not leases.is_expiring(license, device, NOW)


def test_a_lease_expires_soon_from_a_week_before_its_end_until_it_is_announced() -> None:
    device = make_device(lease_expires_at=NOW + 7 * DAY)
    assert not leases.is_expiring(make_license(), device, NOW - SECOND)
    assert leases.is_expiring(make_license(), device, NOW)
    assert not leases.is_expiring(make_license(), replace(device, announced_lease_end=NOW + 7 * DAY), NOW)
    assert leases.is_expiring(make_license(), replace(device, announced_lease_end=NOW - DAY), NOW)


@pytest.mark.parametrize(
    ("lease_days", "grace_days", "license_days", "until_days"),
    [(90, 7, None, 7), (3, 7, None, 3), (90, 7, 2, 2), (90, 7, 400, 7), (-1, 7, None, -1)],
)
def test_a_signed_lease_ends_with_the_lease_the_grace_or_the_license(
    lease_days: int, grace_days: int, license_days: int | None, until_days: int
) -> None:
    issued_s = int(NOW.timestamp())
    until_s = leases.valid_until_s(
        lease_expires_s=issued_s + lease_days * DAY_S,
        issued_s=issued_s,
        offline_grace_s=grace_days * DAY_S,
        license_expires_s=None if license_days is None else issued_s + license_days * DAY_S,
    )
    assert until_s == issued_s + until_days * DAY_S


@pytest.mark.parametrize(("before_s", "expired"), [(1, False), (0, True), (-1, True)])
def test_a_license_has_expired_from_its_very_moment_on(before_s: int, expired: bool) -> None:
    assert leases.is_expired(make_license(expires_at=NOW + before_s * SECOND), NOW) is expired


def test_a_license_without_an_end_never_expires() -> None:
    assert not leases.is_expired(make_license(), NOW + 40_000 * DAY)


@settings(deadline=None)
@given(
    st.sampled_from([600, DAY_S - 1, DAY_S, FLOOR_MIN_LEASE_S - 1, FLOOR_MIN_LEASE_S, 90 * DAY_S]),
    st.lists(st.integers(0, 20 * HOUR_S), max_size=20),
)
def test_no_seat_is_over_within_a_lease_of_any_contact_whether_or_not_it_was_committed(
    lease_s: int, pauses_s: list[int]
) -> None:
    """I9: contacts that were answered without a commit are covered by the slack."""
    terms = make_terms(lease_s=lease_s)
    now, end = NOW, leases.lease_end(terms, NOW)
    for pause_s in pauses_s:
        now += timedelta(seconds=pause_s)
        if leases.needs_commit(lease_s, end, now):
            end = leases.lease_end(terms, now)
        device = make_device(lease_expires_at=end)
        license = make_license([device], terms=terms)
        assert not leases.is_over(license, device, now + timedelta(seconds=lease_s) - SECOND)

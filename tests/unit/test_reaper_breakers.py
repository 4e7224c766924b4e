"""When the reaper's breakers trip: judgements of figures alone."""

from datetime import UTC, datetime, timedelta

import pytest

from services.reaper.breakers import clock_stepped, contacts_fell, is_quiet, too_many
from shared.ledger.halts import Cause, Standing

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("moved_s", "passed_s", "trips"),
    [
        (0, 0, False),
        (60, 0, False),
        (61, 0, True),
        (-60, 0, False),
        (-61, 0, True),
        (3600, 3600, False),
        (3660, 3600, False),
        (3661, 3600, True),
        (3539, 3600, True),
        (-86400, 5, True),
    ],
)
def test_a_clock_that_moves_a_minute_more_or_less_than_time_passed_was_set(
    moved_s: float, passed_s: float, trips: bool
) -> None:
    trip = clock_stepped(moved_s=moved_s, at_least_s=passed_s, at_most_s=passed_s)

    assert (trip is not None) is trips
    assert trip is None or trip.cause is Cause.CLOCK_STEPPED


def test_a_reading_that_took_long_may_be_as_old_as_its_question() -> None:
    """A process that was stopped for five minutes between asking and hearing the answer."""
    assert clock_stepped(moved_s=10, at_least_s=10, at_most_s=310) is None
    assert clock_stepped(moved_s=310, at_least_s=10, at_most_s=310) is None
    assert clock_stepped(moved_s=371, at_least_s=10, at_most_s=310) is not None
    assert clock_stepped(moved_s=-51, at_least_s=10, at_most_s=310) is not None


def test_the_figures_of_a_step_are_told() -> None:
    forward = clock_stepped(moved_s=7200, at_least_s=60, at_most_s=60)
    back = clock_stepped(moved_s=-7200, at_least_s=60, at_most_s=60)

    assert forward is not None
    assert forward.detail == "the database's clock stepped forward by 7140 s"
    assert back is not None
    assert back.detail == "the database's clock stepped back by 7260 s"


@pytest.mark.parametrize(
    ("contacts", "week_before", "trips"),
    [
        (0, 0, False),
        (0, 999, False),
        (0, 1000, True),
        (499, 1000, True),
        (500, 1000, False),
        (5000, 1000, False),
        (499999, 1000000, True),
        (500000, 1000000, False),
    ],
)
def test_contacts_under_half_of_a_normal_hour_are_too_few(contacts: int, week_before: int, trips: bool) -> None:
    trip = contacts_fell(contacts=contacts, week_before=week_before)

    assert (trip is not None) is trips
    if trip is not None:
        assert trip.cause is Cause.CONTACTS_FELL
        assert f"{contacts} contacts" in trip.detail
        assert f"{week_before} in" in trip.detail


@pytest.mark.parametrize(
    ("due", "active", "trips"),
    [
        (100, 100, False),
        (101, 101, True),
        (101, 505, False),
        (101, 504, True),
        (200, 1000, False),
        (201, 1000, True),
        (5000, 1000000, False),
        (101, 0, True),
    ],
)
def test_more_than_a_hundred_and_a_fifth_of_an_accounts_devices_are_too_many(
    due: int, active: int, trips: bool
) -> None:
    trip = too_many(due=due, active=active)

    assert (trip is not None) is trips
    assert trip is None or (trip.cause is Cause.TOO_MANY and f"{due} of {active} active devices" in trip.detail)


@pytest.mark.parametrize(
    ("ago", "quiet"),
    [
        (timedelta(0), True),
        (timedelta(hours=23.9), True),
        (timedelta(hours=24), False),
        (timedelta(hours=-1), True),
        (timedelta(hours=-24), False),
    ],
)
def test_a_breaker_that_was_reset_is_quiet_for_a_day(ago: timedelta, quiet: bool) -> None:
    standing = Standing(resumed_at=NOW - ago, resumed_cause=Cause.CLOCK_STEPPED)

    assert is_quiet(Cause.CLOCK_STEPPED, standing, NOW) is quiet
    assert not is_quiet(Cause.CONTACTS_FELL, standing, NOW)
    assert not is_quiet(Cause.CLOCK_STEPPED, Standing(), NOW)

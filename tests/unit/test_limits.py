"""The arithmetic of rates, by a clock that stands still: bursts, waits, debts and bounded memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.seats.limits import LONGEST_DEBT, LocalMeter, Rate
from shared.web.limits import Side, ThrottledError


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_burst_fits_at_once_and_then_one_in_each_interval(clock: Clock) -> None:
    meter = LocalMeter(Rate.of(2.0, 5), clock=clock)

    assert [meter.take(b"a") for _ in range(6)] == [0, 0, 0, 0, 0, pytest.approx(0.5)]
    clock.now += 0.5
    assert [meter.take(b"a"), meter.take(b"a")] == [0, pytest.approx(0.5)]
    assert meter.take(b"b") == 0


def test_what_is_refused_costs_nothing(clock: Clock) -> None:
    meter = LocalMeter(Rate.of(1.0, 1), clock=clock)
    meter.take(b"a")
    for _ in range(100):
        assert meter.take(b"a") == pytest.approx(1.0)

    clock.now += 1
    assert meter.take(b"a") == 0


def test_what_is_owed_counts_whether_or_not_it_fits_but_not_for_ever(clock: Clock) -> None:
    meter = LocalMeter(Rate.of(1.0, 10), clock=clock)
    for _ in range(15):
        meter.owe(b"a")
    assert meter.wait_s(b"a") == pytest.approx(6.0)
    for _ in range(1000):
        meter.owe(b"a")
    assert meter.wait_s(b"a") == pytest.approx((LONGEST_DEBT - 1) * 10 + 1)


def test_what_others_counted_is_waited_for_and_never_shortens_a_wait(clock: Clock) -> None:
    meter = LocalMeter(Rate.of(1.0, 10), clock=clock)
    meter.learn(b"a", 3.0)
    assert meter.wait_s(b"a") == pytest.approx(3.0)
    meter.learn(b"a", 1.0)
    assert meter.wait_s(b"a") == pytest.approx(3.0)
    clock.now += 3
    assert meter.take(b"a") == 0


def test_memory_is_bounded_and_those_used_last_stay(clock: Clock) -> None:
    meter = LocalMeter(Rate.of(1.0, 1), kept=3, clock=clock)
    for key in (b"a", b"b", b"c", b"a", b"d", b"e"):
        meter.owe(key)

    assert len(meter) == 3
    assert [meter.wait_s(key) > 0 for key in (b"a", b"b", b"c", b"d", b"e")] == [True, False, False, True, True]


@given(
    per_s=st.floats(0.5, 5000),
    burst=st.integers(1, 100),
    steps=st.lists(st.floats(0, 2), min_size=1, max_size=200),
)
def test_no_window_sees_more_than_a_burst_and_the_rate(per_s: float, burst: int, steps: list[float]) -> None:
    clock = Clock()
    meter = LocalMeter(Rate.of(per_s, burst), clock=clock)
    taken: list[float] = []
    for step in steps:
        clock.now += step
        taken += [clock.now for _ in range(3) if not meter.take(b"a")]

    for first in range(len(taken)):
        for last in range(first, len(taken)):
            allowed = burst + (taken[last] - taken[first]) * 1e6 / Rate.of(per_s, burst).interval_us
            assert last - first + 1 <= allowed + 1e-3


def test_the_time_to_wait_is_told_in_whole_seconds_and_is_never_nothing() -> None:
    assert [ThrottledError(Side.LICENSE, wait_s).retry_after_s for wait_s in (0.001, 1.0, 1.2)] == [1, 1, 2]

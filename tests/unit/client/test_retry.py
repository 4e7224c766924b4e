"""When the client tries again: bounded, spread, and paid from a budget."""

from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seatkeeper.errors import Refused, TransportError, Unreachable
from seatkeeper.retry import BASE_S, CAP_S, Budget, pause_s, repeated
from tests.unit.client.played import PlayedClock

RESET = TransportError("reset", kind="reset")
BUSY = Refused("OVERLOADED", status=503, retryable=True, retry_after_s=7.0)
FULL = Refused("DEVICE_LIMIT_EXCEEDED", status=403)
SKEWED = Refused("TIMESTAMP_SKEWED", status=401, retryable=True)


def answering(*outcomes: Exception | str) -> tuple[Callable[[float], Awaitable[str]], list[float]]:
    """A call that has these outcomes one after another; the list is how many seconds it was told were left."""
    left: list[float] = []
    coming = iter(outcomes)

    async def once(left_s: float) -> str:
        left.append(left_s)
        outcome = next(coming)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return once, left


@given(failures=st.integers(1, 2000), random=st.floats(0, 1, exclude_max=True))
def test_a_pause_has_full_jitter_under_a_cap(failures: int, random: float) -> None:
    assert 0 <= pause_s(failures, random) <= min(CAP_S, BASE_S * 2 ** min(failures - 1, 10))
    assert pause_s(failures, 0.0) == 0


def test_the_longest_pause_doubles_up_to_the_cap() -> None:
    assert [pause_s(n, 1.0) for n in (1, 2, 3, 6, 7, 1000)] == [0.5, 1, 2, 16, 20, 20]


async def test_a_call_is_repeated_until_it_is_answered() -> None:
    once, left = answering(RESET, BUSY, RESET, "yes")
    answer = await repeated(once, clock=PlayedClock(), random=lambda: 0.5, budget=Budget(), deadline_s=60)
    assert answer == "yes"
    assert left == [60, 59.75, 59.75 - 7 - 0.5, 59.75 - 7 - 0.5 - 1]


@pytest.mark.parametrize("refusal", [FULL, SKEWED])
async def test_a_refusal_that_the_same_request_cannot_change_is_never_repeated(refusal: Refused) -> None:
    once, left = answering(refusal, "yes")
    with pytest.raises(Refused) as raised:
        await repeated(once, clock=PlayedClock(), random=lambda: 0.5, budget=Budget(), deadline_s=60)
    assert raised.value is refusal
    assert len(left) == 1


async def test_a_certificate_that_does_not_hold_is_not_tried_again() -> None:
    once, left = answering(TransportError("expired", kind="tls"), "yes")
    with pytest.raises(Unreachable, match="expired"):
        await repeated(once, clock=PlayedClock(), random=lambda: 0.5, budget=Budget(), deadline_s=60)
    assert len(left) == 1


async def test_it_gives_up_at_the_deadline_at_the_last_try_and_never_waits_for_what_comes_after() -> None:
    clock = PlayedClock()
    once, left = answering(*[RESET] * 3)
    with pytest.raises(Unreachable) as raised:
        await repeated(once, clock=clock, random=lambda: 0.5, budget=Budget(), deadline_s=60, attempts=3)
    assert raised.value.attempts == len(left) == 3
    assert raised.value.__cause__ is RESET

    before_s = clock.monotonic_s()
    once, left = answering(BUSY, "yes")
    with pytest.raises(Unreachable):
        await repeated(once, clock=clock, random=lambda: 0.5, budget=Budget(), deadline_s=5)
    assert clock.monotonic_s() == before_s


async def test_the_time_that_is_left_is_used_for_a_try() -> None:
    once, left = answering(*[RESET] * 5, "yes")
    await repeated(once, clock=PlayedClock(), random=lambda: 1.0, budget=Budget(), deadline_s=10)
    assert left == [10, 9.5, 8.5, 6.5, 3.25, 1.625]


async def test_an_outage_costs_a_client_its_reserve_and_then_one_retry_in_ten_calls() -> None:
    clock, budget, tries = PlayedClock(), Budget(every_s=float("inf")), 0

    async def once(_left_s: float) -> str:
        nonlocal tries
        tries += 1
        raise RESET

    for _ in range(1000):
        with pytest.raises(Unreachable):
            await repeated(once, clock=clock, random=lambda: 0.5, budget=budget, deadline_s=60)
    assert 1000 + 10 + 99 <= tries <= 1000 + 10 + 100


def test_half_a_minute_earns_one_retry_and_no_more_than_the_reserve_is_kept() -> None:
    budget = Budget()
    assert [budget.take(0) for _ in range(11)] == [True] * 10 + [False]
    assert [budget.take(29), budget.take(31), budget.take(32)] == [False, True, False]
    assert [budget.take(1e6) for _ in range(11)] == [True] * 10 + [False]

"""When the next heartbeat is due."""

from itertools import pairwise

from seatkeeper.errors import Refused, Unreachable
from seatkeeper.retry import Budget
from seatkeeper.schedule import Schedule
from tests.unit.client.played import PlayedClock

AWAY = Unreachable("away", attempts=1)


def schedule(clock: PlayedClock, budget: Budget | None = None, random: float = 0.5) -> Schedule:
    return Schedule(clock, budget or Budget(), lambda: random)


async def due_in(plan: Schedule, clock: PlayedClock) -> float:
    start_s = clock.monotonic_s()
    while not plan.take_due():
        await plan.rest(30)
    return clock.monotonic_s() - start_s


async def test_it_is_due_at_the_servers_interval_once() -> None:
    clock = PlayedClock()
    plan = schedule(clock)
    assert not plan.take_due()
    plan.answered(600)
    assert await due_in(plan, clock) == 600
    assert not plan.take_due()
    plan.answered()
    assert await due_in(plan, clock) == 600
    plan.asked_to_wait(30)
    assert await due_in(plan, clock) == 33


async def test_after_failures_it_is_due_sooner_each_time_later_and_never_past_the_interval() -> None:
    clock = PlayedClock()
    plan = schedule(clock, Budget(reserve=100, per_call=0), random=0.99)
    plan.answered(600)
    pauses = []
    for _ in range(10):
        plan.failed(AWAY)
        pauses.append(await due_in(plan, clock))
    assert pauses[0] < 15
    assert all(before <= after + 1e-6 for before, after in pairwise(pauses))
    assert 590 < pauses[-1] <= 600


async def test_without_a_budget_half_a_minute_goes_by() -> None:
    clock = PlayedClock()
    plan = schedule(clock, Budget(reserve=2), random=0.0)
    plan.answered(600)
    pauses = []
    for _ in range(5):
        plan.failed(AWAY)
        pauses.append(await due_in(plan, clock))
    assert pauses[:3] == [0, 0, 30]


async def test_what_the_server_asks_for_is_waited() -> None:
    clock = PlayedClock()
    plan = schedule(clock)
    plan.answered(600)
    error = Unreachable("busy", attempts=1)
    error.__cause__ = Refused("OVERLOADED", status=503, retryable=True, retry_after_s=2000)
    plan.failed(error)
    assert 2000 <= await due_in(plan, clock) <= 2015


async def test_no_word_of_others_keeps_it_silent_for_long() -> None:
    clock = PlayedClock()
    plan = schedule(clock)
    plan.answered(600)
    told = Unreachable("busy", attempts=1)
    told.__cause__ = Refused("HTTP_503", status=503, retryable=True, retry_after_s=float("inf"))
    plan.failed(told)
    assert await due_in(plan, clock) <= 3600 + 600
    plan.asked_to_wait(1e9)
    assert await due_in(plan, clock) <= 2 * 3600

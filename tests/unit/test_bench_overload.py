"""What the phases of an overload show: goodput, the admitted's wait, memory, and when all was well again."""

import pytest

from tests.bench.crowd import Answer, p99_s
from tests.bench.load import LoadError
from tests.bench.overload import NAME, QUIET_S, normal_after_s, results
from tests.bench.results import Result

SECONDS = 20.0
PEAK = 100.0


def answers(*, seconds: float, rate: int = 50, waited_s: float = 0.1, status: int = 201) -> list[Answer]:
    return [Answer(number / rate, waited_s, status) for number in range(round(seconds * rate))]


QUIET = answers(seconds=QUIET_S)
MEMORY = [(float(at_s), 100.0) for at_s in range(round(QUIET_S + SECONDS))]


def found(crowded: list[Answer], *, memory: list[tuple[float, float]] = MEMORY) -> dict[str, Result]:
    rows = results(PEAK, SECONDS, QUIET, crowded, answers(seconds=5), memory=memory)
    return {one.name.removeprefix(f"{NAME}: "): one for one in rows}


def test_goodput_counts_what_was_granted_before_the_overload_ended() -> None:
    in_time = answers(seconds=SECONDS, rate=90, waited_s=0)
    late = [Answer(SECONDS - 0.5, 0.6, 201)] * 500

    goodput = found([*in_time, *late, *answers(seconds=SECONDS, rate=900, status=503)])["goodput"]

    assert goodput.value == 90
    assert goodput.ratio == 0.9
    assert goodput.met
    assert not goodput.aim_met


def test_the_wait_is_that_of_the_admitted_alone() -> None:
    crowded = answers(seconds=SECONDS, waited_s=1.2) + answers(seconds=SECONDS, status=503, waited_s=0.01)

    rows = found(crowded)

    assert rows["p99 of the admitted"].value == pytest.approx(1200)
    assert not rows["p99 of the admitted"].met
    assert rows["p99 of the refused"].value == pytest.approx(10)


def test_what_is_neither_granted_nor_refused_is_shown() -> None:
    crowded = answers(seconds=SECONDS) + answers(seconds=SECONDS, rate=7, status=0)

    assert found(crowded)["otherwise or never answered"].value == 7


def test_memory_is_compared_with_what_it_was_after_ten_seconds_of_it() -> None:
    memory = [(at_s, 50.0 if at_s < QUIET_S + 10 else 100.0) for at_s, _ in MEMORY]
    memory[-1] = (QUIET_S + SECONDS - 1, 120.0)

    memory_row = found(answers(seconds=SECONDS), memory=memory)["memory"]

    assert memory_row.ratio == pytest.approx(1.2)
    assert not memory_row.met


def test_half_of_the_peak_that_is_not_granted_makes_the_peak_worthless() -> None:
    with pytest.raises(LoadError):
        results(PEAK, SECONDS, [*QUIET, Answer(1, 0.1, 503)], [], [], memory=MEMORY)


def test_all_is_normal_at_once_where_no_second_is_worse_than_before() -> None:
    assert normal_after_s(QUIET, answers(seconds=5, waited_s=0.14)) == 0


@pytest.mark.parametrize("bad", [Answer(3.5, 0.1, 503), Answer(3.5, 0.1, 0), Answer(3.5, 0.2, 201)])
def test_it_is_normal_after_the_last_second_with_a_refusal_or_a_longer_wait(bad: Answer) -> None:
    assert normal_after_s(QUIET, [*answers(seconds=6), bad, bad]) == 4


def test_a_p99_leaves_one_in_a_hundred_out() -> None:
    waits = [0.1] * 99 + [9.0]

    assert p99_s([Answer(0, wait, 200) for wait in waits]) == 0.1
    assert p99_s([Answer(0, wait, 200) for wait in [*waits, 9.0]]) == 9.0
    assert p99_s([]) == 0

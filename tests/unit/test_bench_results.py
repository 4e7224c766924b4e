"""What a row of a benchmark says: medians, ratios of the same round, and whether gate and aim are met."""

import pytest

from tests.bench.__main__ import exit_code
from tests.bench.results import Target, compared, measured

MORE = Target(gate=0.7, aim=0.8)
LESS = Target(gate=1.15, aim=1.05, most=True)


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    row = compared("a path", [(10, 10), (30, 20), (40, 20)], unit="requests/s", against="bare", target=MORE)
    assert (row.value, row.base, row.ratio, row.min, row.max) == (30, 20, 1.5, 1.0, 2.0)


def test_the_least_and_greatest_of_a_figure_without_yardstick_are_its_own() -> None:
    row = measured("memory", [48.0, 50.0, 49.0], unit="bytes")
    assert (row.value, row.base, row.ratio, row.min, row.max) == (49.0, None, None, 48.0, 50.0)
    assert (row.target, row.met, row.aim_met) == (None, None, None)


@pytest.mark.parametrize(
    ("target", "figure", "met", "aim_met"),
    [
        (MORE, 0.69, False, False),
        (MORE, 0.70, True, False),
        (MORE, 0.80, True, True),
        (LESS, 1.16, False, False),
        (LESS, 1.15, True, False),
        (LESS, 1.05, True, True),
    ],
)
def test_a_gate_is_met_on_its_own_side(target: Target, figure: float, met: bool, aim_met: bool) -> None:
    by_value = measured("a figure", [figure], unit="x", target=target)
    by_ratio = compared("a ratio", [(figure, 1.0)], unit="x", against="one", target=target)
    assert (by_value.met, by_value.aim_met) == (by_ratio.met, by_ratio.aim_met) == (met, aim_met)


def test_the_ratio_is_judged_and_not_the_value() -> None:
    row = compared("a path", [(7000.0, 10_000.0)], unit="requests/s", against="bare", target=MORE)
    assert row.met
    assert not row.aim_met


def test_a_missed_gate_ends_the_command_otherwise_only_where_that_is_asked_for() -> None:
    met, missed = (measured("a figure", [figure], unit="x", target=MORE) for figure in (0.7, 0.6))
    plain = measured("another", [1.0], unit="x")
    assert exit_code([met, plain], failed=False, gates=True) == 0
    assert exit_code([met, missed], failed=False, gates=False) == 0
    assert exit_code([met, missed], failed=False, gates=True) == 2
    assert exit_code([met, missed], failed=True, gates=True) == 1

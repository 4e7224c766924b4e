"""The plan of fault runs: all once in a short run, by weight in a soak, and the same again from the same seed."""

import subprocess
import sys
from collections import Counter
from itertools import islice

import pytest

from tests.faults.nemeses import FAULTS
from tests.faults.plan import Cycle, PlanError, chosen, short, soak
from tests.faults.points import POINTS
from tests.faults.world import Options

ALL = Options(brokers=3)
CLUSTER = Options(redis="cluster", postgres="standby")


def names(cycles: list[Cycle]) -> list[str]:
    return [cycle.fault.name for cycle in cycles]


def test_a_short_run_has_every_fault_once_and_is_judged_at_its_end() -> None:
    faults = chosen([], ALL, soak=False)

    cycles = list(short(faults, 1))

    assert sorted(names(cycles)) == sorted(one.name for one in faults)
    assert [cycle.judged for cycle in cycles] == [False] * (len(faults) - 1) + [True]
    assert [cycle.number for cycle in cycles] == list(range(1, len(faults) + 1))


def test_the_same_seed_gives_the_same_plan_and_another_seed_another() -> None:
    faults = chosen([], ALL, soak=True)

    one, again, other = (list(islice(soak(faults, seed), 200)) for seed in (1, 1, 2))

    assert names(one) == names(again) != names(other)
    assert [cycle.chance.random() for cycle in one] == [cycle.chance.random() for cycle in again]


def test_a_fault_alone_meets_the_chances_that_it_met_among_others() -> None:
    name = "postgres killed"
    among = [cycle for cycle in islice(soak(chosen([], ALL, soak=True), 7), 300) if cycle.fault.name == name]
    alone = list(short(chosen([name], ALL, soak=False), 7, cycles=len(among)))

    assert len(among) > 5
    assert [cycle.chance.random() for cycle in alone] == [cycle.chance.random() for cycle in among]


def test_a_round_of_a_soak_has_each_fault_by_its_weight_and_ends_judged() -> None:
    faults = chosen([], ALL, soak=True)
    length = sum(one.weight for one in faults)

    first = list(islice(soak(faults, 3), length))  # the round in which the rare ones are too

    assert {one.name: names(first).count(one.name) for one in faults} == {one.name: one.weight for one in faults}
    assert [cycle.judged for cycle in first] == [False] * (length - 1) + [True]


def test_a_long_fault_comes_in_few_rounds_only() -> None:
    rare = FAULTS["broker frozen"]
    faults = [rare, FAULTS["redis killed"]]

    cycles = list(islice(soak(faults, 3), rare.every * FAULTS["redis killed"].weight + 1))

    assert names(cycles).count(rare.name) == 1


def test_kills_are_frequent_enough_in_a_soak() -> None:
    """Half an hour has some 290 cycles in the usual world and 40 in each of the others."""
    kills: Counter[str] = Counter()
    for options, cycles in ((ALL, 290), (Options(redis="sentinel"), 40), (CLUSTER, 40)):
        plan = islice(soak(chosen([], options, soak=True), 1), cycles)
        kills.update(cycle.fault.group for cycle in plan if cycle.fault.kill)

    assert kills["postgres"] >= 40
    assert kills["redis"] >= 20
    assert kills["broker"] >= 20
    assert kills.total() >= 200


def test_faults_that_a_world_cannot_have_are_left_out_or_refused() -> None:
    without = Options(brokers=0, clocks=False)

    found = {one.name for one in chosen([], without, soak=True)}

    assert "broker stopped" not in found
    assert "host clock stepped 91 days" not in found
    assert "postgres killed" in found
    with pytest.raises(PlanError, match="needs brokers 1"):
        chosen(["broker stopped"], without, soak=False)
    with pytest.raises(PlanError, match="no fault 'nonsense'"):
        chosen(["nonsense"], ALL, soak=False)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (Options(redis="sentinel"), "redis fails over under sentinel"),
        (CLUSTER, "redis fails over in a cluster"),
        (CLUSTER, "postgres fails over"),
    ],
)
def test_worlds_of_several_servers_have_their_own_faults(options: Options, fault: str) -> None:
    found = {one.name for one in chosen([], options, soak=True)}

    assert fault in found
    assert "redis emptied" not in found


def test_every_point_has_its_fault() -> None:
    assert {f"killed {point}" for point in POINTS} <= FAULTS.keys()


def test_the_places_at_which_services_die_are_there() -> None:
    program = "import pathlib; from tests.faults.points import Wanted, wrap_all; wrap_all(Wanted(pathlib.Path('none')))"

    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_place_that_is_gone_is_told() -> None:
    program = (
        "import pathlib; from shared.ledger import transaction; del transaction._lock;"
        "from tests.faults.points import Wanted, wrap_all; wrap_all(Wanted(pathlib.Path('none')))"
    )

    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert ended.returncode != 0
    assert "_lock" in ended.stderr

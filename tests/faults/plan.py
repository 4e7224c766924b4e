"""Which fault when, from a seed alone.

- A short run has every fault once, in an order that the seed says.
- A soak goes in rounds, each with every fault as often as its weight says, in an order of its own.
- The chance that a cycle has comes from the seed, the fault's name and how often it came before: a run of that fault
  alone repeats it.
"""

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import count

import msgspec

from tests.faults.nemeses import FAULTS, Fault, fits
from tests.faults.world import Options


class PlanError(Exception):
    """What was asked for cannot be had. The text is one line."""


class Cycle(msgspec.Struct, frozen=True, kw_only=True):
    """`number` counts all of a run. `judged` says that the history is judged after it."""

    number: int
    fault: Fault
    chance: random.Random
    judged: bool


def chosen(names: Sequence[str], options: Options, *, soak: bool) -> list[Fault]:
    """The faults by name, or all that such a world has. Raises `PlanError`."""
    if unknown := [name for name in names if name not in FAULTS]:
        raise PlanError(f"there is no fault {unknown[0]!r}; there are: {', '.join(FAULTS)}")
    if not names:
        usual = [one for one in FAULTS.values() if not one.on_demand and (soak or not one.soak_only)]
        return [one for one in usual if fits(one, options)]
    if lacking := [name for name in names if not fits(FAULTS[name], options)]:
        raise PlanError(f"this world cannot have {lacking[0]!r}: {_need(FAULTS[lacking[0]])}")
    return [FAULTS[name] for name in names]


def short(faults: Sequence[Fault], seed: int, *, cycles: int | None = None, judge_every: int = 1000) -> Iterator[Cycle]:
    """Each once, or `cycles` of them, each as often as the others."""
    order = list(faults)
    random.Random(seed).shuffle(order)
    last = cycles or len(order)
    came: Counter[str] = Counter()
    for number in range(1, last + 1):
        fault = order[(number - 1) % len(order)]
        yield _cycle(fault, came, seed, judged=number == last or number % judge_every == 0)


def soak(faults: Sequence[Fault], seed: int) -> Iterator[Cycle]:
    """Rounds without end, each judged."""
    came: Counter[str] = Counter()
    chance = random.Random(seed)
    for number in count():
        round = [one for one in faults for _ in range(one.weight) if number % one.every == 0]
        chance.shuffle(round)
        for fault in round[:-1]:
            yield _cycle(fault, came, seed, judged=False)
        yield _cycle(round[-1], came, seed, judged=True)


def _cycle(fault: Fault, came: Counter[str], seed: int, *, judged: bool) -> Cycle:
    chance = random.Random(f"{seed}/{fault.name}/{came[fault.name]}")
    came[fault.name] += 1
    return Cycle(number=came.total(), fault=fault, chance=chance, judged=judged)


def _need(fault: Fault) -> str:
    needs: Mapping[str, object] = {
        "brokers": fault.brokers or None,
        "libfaketime": "installed" if fault.clocks or fault.postgres_clock else None,
        "redis": fault.redis,
        "postgres": fault.postgres,
    }
    return "it needs " + ", ".join(f"{name} {what}" for name, what in needs.items() if what not in (None, "any"))

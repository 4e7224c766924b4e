"""`python -m tests.faults`: breaks the whole system in every way once, or for `--minutes`, and judges what happened.

It ends with 0 when no invariant was broken, 1 at the first that was (the last line repeats the run, and the history
is kept), 2 when the world could not start.
"""

import argparse
import asyncio
import random
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from msgspec.structs import replace

from shared.runtime import logging
from shared.runtime.sections import Log
from tests.faults.checker import Violation
from tests.faults.clocks import find_library
from tests.faults.instances import ROOT
from tests.faults.nemeses import Fault
from tests.faults.plan import Cycle, PlanError, chosen, short, soak
from tests.faults.report import Report
from tests.faults.run import NotStartedError, Pace, live
from tests.faults.world import Options, WorldError, running_world

BUILD = ROOT / "build"
RATE = 200.0
JUDGE_EVERY = 40
SHOWN = 5
EXIT_BROKEN, EXIT_NOT_STARTED = 1, 2


def main(argv: Sequence[str]) -> int:
    arguments = _arguments(argv)
    seed = arguments.seed if arguments.seed is not None else random.randrange(1_000_000)
    logging.configure(Log(level="error"))
    folder = BUILD / f"faults-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    report = Report(seed=seed, command=_repeat(seed, arguments, []), mode="soak" if arguments.minutes else "short")
    print(f"seed {seed}; the history is in {folder}", flush=True)
    try:
        violations, after = _run(arguments, seed, folder, report)
    except (PlanError, WorldError, NotStartedError) as error:
        print(f"tests.faults: {error}", file=sys.stderr)
        return EXIT_NOT_STARTED
    report.write(BUILD / "faults.json")
    if arguments.markdown:
        arguments.markdown.write_text(report.markdown())
    print(report.table())
    if not violations:
        for place in folder.rglob("servers"):
            shutil.rmtree(place, ignore_errors=True)
        return 0
    _tell(violations)
    print(f"to repeat: {_repeat(seed, arguments, after)}")
    return EXIT_BROKEN


def _run(arguments: argparse.Namespace, seed: int, folder: Path, report: Report) -> tuple[list[Violation], list[Cycle]]:
    began = time.monotonic()
    long = arguments.minutes is not None
    for name, options, share in _worlds(arguments, seed):
        faults = chosen(arguments.only, options, soak=long)
        options = replace(
            options,
            clocks=any(fault.clocks for fault in faults),
            postgres_clock=any(fault.postgres_clock for fault in faults),
        )
        plan = _plan(arguments, faults, seed)
        with running_world(folder / name, options) as world:
            print(f"the world {name!r} is up after {time.monotonic() - began:.1f} s", flush=True)
            until_s = time.monotonic() + arguments.minutes * 60 * share if long else None
            pace = Pace(rate=arguments.rate, long=long, until_s=until_s)
            violations, after = asyncio.run(live(world, plan, report, pace, seed, _say))
            if violations:
                return violations, after
    return [], []


def _worlds(arguments: argparse.Namespace, seed: int) -> Iterator[tuple[str, Options, float]]:
    """Each world with its share of the time."""
    clocks = find_library() is not None
    if not clocks:
        print("no clock is stepped: libfaketime is missing (run 'apt-get install faketime' as root)", flush=True)
    usual = Options(
        seed=seed, clocks=clocks, brokers=arguments.brokers, redis=arguments.redis, postgres=arguments.postgres
    )
    if arguments.minutes is None or arguments.only or (usual.redis, usual.postgres) != ("single", "single"):
        yield "world", usual, 1.0
        return
    yield "single", usual, 0.7
    yield "sentinel", replace(usual, redis="sentinel"), 0.15
    yield "cluster", replace(usual, redis="cluster", postgres="standby"), 0.15


def _plan(arguments: argparse.Namespace, faults: Sequence[Fault], seed: int) -> Iterator[Cycle]:
    if arguments.minutes is not None:
        return soak(faults, seed)
    return short(faults, seed, cycles=arguments.cycles, judge_every=JUDGE_EVERY if arguments.cycles else 10_000)


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.faults", description=__doc__)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--short", action="store_true", help="every fault once (the default)")
    length.add_argument("--minutes", type=float, help="rounds of faults for so long")
    parser.add_argument("--seed", type=int, help="repeat the plan of a run")
    parser.add_argument("--only", type=_names, default=[], metavar="FAULT[,FAULT]", help="these faults alone")
    parser.add_argument("--cycles", type=int, help="so many cycles in all")
    parser.add_argument("--brokers", type=int, choices=(0, 1, 3), default=3, help="nodes of RabbitMQ")
    parser.add_argument("--redis", choices=("single", "sentinel", "cluster"), default="single")
    parser.add_argument("--postgres", choices=("single", "standby"), default="single")
    parser.add_argument("--rate", type=float, default=RATE, help=f"lives a second ({RATE:.0f})")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there, too")
    return parser.parse_args(argv)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _repeat(seed: int, arguments: argparse.Namespace, after: Sequence[Cycle]) -> str:
    """The command that does it again: with the faults alone that came before, where they were few."""
    words = [f"python -m tests.faults --seed {seed}"]
    names = sorted({cycle.fault.name for cycle in after})
    if arguments.only or 0 < len(names) <= SHOWN:
        words.append(f'--only "{",".join(names or arguments.only)}"')
    options = ("minutes", "cycles", "brokers", "redis", "postgres", "rate")
    for option, usual in zip(options, (None, None, 3, "single", "single", RATE), strict=True):
        if (value := getattr(arguments, option)) != usual:
            words.append(f"--{option} {value:g}" if isinstance(value, float) else f"--{option} {value}")
    return " ".join(words)


def _tell(violations: Sequence[Violation]) -> None:
    for one in violations[:SHOWN]:
        print(f"{one.invariant}: {one.what}" + (f" (license {one.license})" if one.license else ""))
        for record in one.evidence[:SHOWN]:
            print(f"    {record}")
    if len(violations) > SHOWN:
        print(f"and {len(violations) - SHOWN} more")


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main(sys.argv[1:]))
    sys.exit(130)

"""`python -m tests.mutants [NAME…]`: systems that cheat, and whether the checker catches each.

Every `*.patch` here makes one mutant of a copy of this checkout, and names the fault that is played against it and the
invariant that has to catch it. The copy without a patch, under all those faults, has to pass. What is found is printed
as a table and kept in `build/mutants.json`; the exit code is 1 unless every mutant was caught by its invariant and the
control passed.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from services.standalone.embedded import die_with_parent

ROOT = Path(__file__).resolve().parents[2]
PATCHES = Path(__file__).parent
MUTANT_S = 90.0
CONTROL = "the control, without a patch"
SEED = "1"


class Mutant(msgspec.Struct, frozen=True):
    """A patch and the lines above it: what it does, which fault is played, how often, and what must catch it."""

    name: str
    title: str
    fault: str
    invariant: str
    brokers: int
    cycles: int
    patch: Path


class Verdict(msgspec.Struct, frozen=True):
    """`caught_by` are the invariants of the violations that were found, those found first before."""

    name: str
    fault: str
    must: str
    caught_by: list[str]
    seconds: float
    holds: bool
    said: str


def read_mutant(patch: Path) -> Mutant:
    """Raises ValueError or KeyError where the lines above the patch are not whole."""
    title, _, rest = patch.read_text().partition("\n\n")
    named = dict(line.split(": ", 1) for line in rest.partition("\n\n")[0].splitlines())
    return Mutant(
        name=patch.stem,
        title=title,
        fault=named["Fault"],
        invariant=named["Invariant"],
        brokers=int(named["Brokers"]),
        cycles=int(named["Cycles"]),
        patch=patch,
    )


def mutants() -> list[Mutant]:
    return [read_mutant(patch) for patch in sorted(PATCHES.glob("*.patch"))]


def main(names: Sequence[str]) -> int:
    chosen = [mutant for mutant in mutants() if not names or mutant.name in names]
    if unknown := set(names) - {mutant.name for mutant in chosen}:
        print(f"there is no mutant {', '.join(sorted(unknown))}; there are {', '.join(m.name for m in mutants())}")
        return 2
    verdicts = [_shown(_judge(mutant)) for mutant in chosen]
    verdicts.append(_shown(_control(chosen)))
    report = ROOT / "build" / "mutants.json"
    report.parent.mkdir(exist_ok=True)
    report.write_bytes(msgspec.json.format(msgspec.json.encode(verdicts)) + b"\n")
    caught = sum(verdict.holds for verdict in verdicts[:-1])
    print(f"{caught} of {len(chosen)} mutants caught by their invariant; the control {_word(verdicts[-1])}")
    return 0 if all(verdict.holds for verdict in verdicts) else 1


def _judge(mutant: Mutant) -> Verdict:
    began = time.monotonic()
    with _copy() as copy:
        apply(mutant, copy)
        code, found, said = _play(copy, [mutant.fault], mutant.cycles, mutant.brokers, MUTANT_S)
    return Verdict(
        name=mutant.name,
        fault=mutant.fault,
        must=mutant.invariant,
        caught_by=found,
        seconds=time.monotonic() - began,
        holds=code == 1 and mutant.invariant in found,
        said=said,
    )


def _control(chosen: Sequence[Mutant]) -> Verdict:
    began = time.monotonic()
    faults = list(dict.fromkeys(mutant.fault for mutant in chosen))
    with _copy() as copy:
        code, found, said = _play(copy, faults, 1, max(mutant.brokers for mutant in chosen), MUTANT_S * len(faults))
    return Verdict(
        name=CONTROL,
        fault="all of them",
        must="",
        caught_by=found,
        seconds=time.monotonic() - began,
        holds=code == 0 and not found,
        said=said,
    )


@contextmanager
def _copy() -> Iterator[Path]:
    """This checkout, with what is not committed yet and without what is not of it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    with tempfile.TemporaryDirectory(prefix="seatkeeper-mutant-", ignore_cleanup_errors=True) as folder:
        for name in filter(None, listed.split("\0")):
            if (source := ROOT / name).is_file():
                target = Path(folder) / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)
        yield Path(folder)


def apply(mutant: Mutant, copy: Path) -> None:
    """Raises CalledProcessError when the code has moved away from the patch."""
    subprocess.run(["git", "apply", "--whitespace=nowarn", str(mutant.patch)], cwd=copy, check=True)


def _play(
    copy: Path, faults: Sequence[str], cycles: int, brokers: int, within_s: float
) -> tuple[int | None, list[str], str]:
    """Exit code (None: it took too long), the invariants that were found broken, and the last that was said."""
    command = [sys.executable, "-m", "tests.faults", "--seed", SEED, "--only", ",".join(faults)]
    command += ["--cycles", str(cycles), "--brokers", str(brokers)]
    parent = os.getpid()
    with (copy / "said.txt").open("w+") as said:
        process = subprocess.Popen(
            command,
            cwd=copy,
            stdout=said,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: die_with_parent(signal.SIGTERM, parent),
        )
        code: int | None
        try:
            code = process.wait(within_s)
        except subprocess.TimeoutExpired:
            code = None
            process.terminate()
            process.wait(30)
        said.seek(0)
        last = said.read()[-4000:]
    report = copy / "build" / "faults.json"
    found: dict[str, Any] = json.loads(report.read_text()) if report.exists() else {}
    return code, list(dict.fromkeys(one["invariant"] for one in found.get("violations", []))), last


def _shown(verdict: Verdict) -> Verdict:
    caught = ", ".join(verdict.caught_by) or "nothing"
    print(
        f"{verdict.name:<30} {verdict.fault:<28} must be {verdict.must or 'clean':<6} found {caught:<16}"
        f" {verdict.seconds:4.0f} s  {_word(verdict)}",
        flush=True,
    )
    if not verdict.holds:
        print(verdict.said, flush=True)
    return verdict


def _word(verdict: Verdict) -> str:
    if verdict.name == CONTROL:
        return "passed" if verdict.holds else "FAILED"
    return "caught" if verdict.holds else "NOT CAUGHT"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

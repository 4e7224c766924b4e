"""The table: of each fault how often it was inflicted, what clients met meanwhile, and what was found broken.

It is made from the history alone, and from what the judge found. A cycle lasts from a fault's beginning until the next
one's, or until the load is told to rest; `unavailable` is the longest time without an acknowledged activation from the
beginning until the first one after healing, `recovery` the time from healing to that one.
"""

import os
import platform
import re
import subprocess
import time
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from services.standalone.embedded import EmbeddedServerError, wheel_postgres_binaries, wheel_valkey_binary
from services.standalone.rabbitmq import find_rabbitmq
from tests.faults.history import OUTCOMES, Reader, Record
from tests.faults.load import Load, World
from tests.faults.trail import Violation

COLUMNS = {"I1": "oversold", "I3": "lost", "I4": "duplicated", "I5": "duplicated", "I9": "wrongly freed"}
CALM = "calm"
UNWITNESSED = "I6 as to facts: without a broker none is delivered"
WRITERS = ("client", "vendors", "load", "nemesis")
KILLED = ("service", "postgres", "redis", "broker")

_HEADINGS = (
    "fault",
    "cycles",
    "acknowledged",
    "unknown",
    "oversold",
    "lost",
    "duplicated",
    "wrongly freed",
    "other",
    "unavailable",
    "recovery",
)


class Cycle(msgspec.Struct, frozen=True, kw_only=True):
    """One fault's infliction; times in nanoseconds (CLOCK_MONOTONIC) and seconds."""

    fault: str
    group: str
    kill: bool
    began_ns: int
    healed_ns: int
    until_ns: int
    acknowledged: int
    unknown: int
    failed_after_retry: int
    unavailable_s: float
    recovery_s: float


class Row(msgspec.Struct, kw_only=True):
    """All cycles of one fault. `others` counts what has no column of its own, as I2, I7 and I8, by name."""

    fault: str
    group: str = ""
    cycles: int = 0
    kills: int = 0
    acknowledged: int = 0
    unknown: int = 0
    failed_after_retry: int = 0
    oversold: int = 0
    lost: int = 0
    duplicated: int = 0
    wrongly_freed: int = 0
    other: int = 0
    others: dict[str, int] = msgspec.field(default_factory=dict)
    unavailable_s: float = 0.0
    recovery_max_s: float = 0.0
    recovery_median_s: float = 0.0


class Report:
    """Reads the histories of one world after the other, as they grow. `options` are told with the figures: the seed,
    and what was run."""

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._began_ns = time.monotonic_ns()
        self._readers: dict[Path, Reader] = {}
        self._acknowledged = array("q")
        self._unknown = array("q")
        self._failed_after_retry = array("q")
        self._breaks: list[int] = []
        self._faults: list[Record] = []
        self._begun: list[Record] = []
        self._calls: Counter[str] = Counter()
        self._failures = 0
        self._unwitnessed = False
        self._violations: list[tuple[str, Violation]] = []

    def add_judgement(self, violations: Sequence[Violation], *, world: World, load: Load | None = None) -> None:
        """Each is charged to the fault that was on when it showed, or else to the last one."""
        folder = world.folder / "history" if load is None else load.folder
        self._readers.setdefault(folder, Reader(folder, *WRITERS))
        self._unwitnessed |= not world.amqp_urls
        self._read()
        self._violations += [(self._fault_at(violation.at), violation) for violation in violations]

    def table(self) -> str:
        lines = [_HEADINGS, *self._cells()]
        widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADINGS))]
        text = [_aligned(line, widths) for line in lines]
        return "\n".join([text[0], "-" * len(text[0]), *text[1:-1], "-" * len(text[0]), text[-1], *self.summary()])

    def markdown(self) -> str:
        lines = ["| " + " | ".join(line) + " |" for line in (_HEADINGS, *self._cells())]
        rule = "| --- |" + " ---: |" * (len(_HEADINGS) - 1)
        return "\n".join([lines[0], rule, *lines[1:], "", *(f"- {line}" for line in self.summary())]) + "\n"

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self.figures()), indent=2) + b"\n")

    def figures(self) -> dict[str, Any]:
        """All that the table says, and what was run on what."""
        self._read()
        rows = self._rows()
        return {
            **self._options,
            "passed": not self._violations,
            "seconds": round((time.monotonic_ns() - self._began_ns) / 1e9, 1),
            "machine": {"cores": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()},
            "servers": versions(),
            "faults": rows,
            "totals": _total(rows),
            "calls": sum(self._calls.values()),
            "outcomes": dict(self._calls),
            "unknown_share": self._unknown_share,
            "answered_500": self._failures,
            "kills": self._kill_cycles(),
            "rolling": {"failed_after_one_retry": self._failed_while_rolling()},
            "not_looked_at": [UNWITNESSED] if self._unwitnessed else [],
            "violations": [{"fault": fault, **msgspec.to_builtins(one)} for fault, one in self._violations],
        }

    def summary(self) -> list[str]:
        """The lines below the table."""
        self._read()
        kills = self._kill_cycles()
        return [
            f"{sum(self._calls.values())} calls, {len(self._acknowledged)} activations acknowledged, "
            f"{self._unknown_share:.2%} of the calls with unknown outcome, {self._failures} answered 500",
            f"{sum(kills.values())} kill cycles: " + ", ".join(f"{group} {kills[group]}" for group in KILLED),
            f"requests that failed after one retry during rolling restarts: {self._failed_while_rolling()}",
            *([f"not looked at: {UNWITNESSED}"] if self._unwitnessed else []),
        ]

    # --- Reading ------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        for record in chain.from_iterable(reader() for reader in self._readers.values()):
            if record.kind in OUTCOMES:
                self._take(record)
            elif record.kind == "fault":
                self._faults.append(record)
            elif record.kind == "fault-began":
                self._begun.append(record)
            elif record.kind in ("pause", "resume"):
                self._breaks.append(record.at)

    def _take(self, record: Record) -> None:
        self._calls[record.kind] += 1
        if record.kind == "ok" and record.verb == "activate" and record.status in (200, 201):
            self._acknowledged.append(record.at)
        elif record.kind == "unknown":
            self._unknown.append(record.at)
            self._failures += record.status == 500
            if record.attempt == 1:
                self._failed_after_retry.append(record.at)

    def _fault_at(self, moment: int) -> str:
        known = sorted([*self._begun, *self._faults], key=lambda record: record.began_ns or record.at)
        before = [record for record in known if (record.began_ns or record.at) <= (moment or record.at)]
        return (before or known)[-1].fault if known else CALM

    # --- Counting -----------------------------------------------------------------------------------------------

    def _rows(self) -> list[Row]:
        cycles: dict[str, list[Cycle]] = defaultdict(list)
        for cycle in self._cycles():
            cycles[cycle.fault].append(cycle)
        rows = {fault: _row(fault, several) for fault, several in cycles.items()}
        for fault, violation in self._violations:
            _charge(rows.setdefault(fault, Row(fault=fault)), violation)
        return list(rows.values())

    def _cycles(self) -> Iterator[Cycle]:
        for times in (self._acknowledged, self._unknown, self._failed_after_retry):
            times[:] = array("q", sorted(times))
        self._breaks.sort()
        starts = sorted(record.began_ns for record in self._faults)
        end = max([*self._breaks, *self._acknowledged[-1:], *(record.healed_ns for record in self._faults)], default=0)
        for record in sorted(self._faults, key=lambda record: record.began_ns):
            following = [
                *starts[bisect_right(starts, record.began_ns) :][:1],
                *self._break_after(record.healed_ns),
                end,
            ]
            yield self._cycle(record, max(record.healed_ns, min(following)))

    def _break_after(self, moment: int) -> list[int]:
        return self._breaks[bisect_left(self._breaks, moment) :][:1]

    def _cycle(self, record: Record, until: int) -> Cycle:
        acknowledged = self._acknowledged
        first = bisect_left(acknowledged, record.began_ns)
        again = bisect_left(acknowledged, record.healed_ns)
        last = bisect_right(acknowledged, until)
        recovered = acknowledged[again] if again < last else until
        moments = [record.began_ns, *acknowledged[first:again], recovered]
        return Cycle(
            fault=record.fault,
            group=record.group,
            kill=record.kill,
            began_ns=record.began_ns,
            healed_ns=record.healed_ns,
            until_ns=until,
            acknowledged=last - first,
            unknown=_between(self._unknown, record.began_ns, until),
            failed_after_retry=_between(self._failed_after_retry, record.began_ns, until),
            unavailable_s=max(later - earlier for earlier, later in pairwise(moments)) / 1e9,
            recovery_s=(recovered - record.healed_ns) / 1e9,
        )

    def _kill_cycles(self) -> dict[str, int]:
        kills = Counter(record.group for record in self._faults if record.kill)
        return {group: kills[group] for group in (*KILLED, *sorted(kills.keys() - {*KILLED}))}

    def _failed_while_rolling(self) -> int:
        return sum(cycle.failed_after_retry for cycle in self._cycles() if cycle.group == "rolling")

    @property
    def _unknown_share(self) -> float:
        return self._calls["unknown"] / max(1, sum(self._calls.values()))

    # --- Showing ------------------------------------------------------------------------------------------------

    def _cells(self) -> list[tuple[str, ...]]:
        self._read()
        rows = self._rows()
        return [_cells(row) for row in [*rows, _total(rows)]]


def _row(fault: str, cycles: Sequence[Cycle]) -> Row:
    return Row(
        fault=fault,
        group=cycles[0].group,
        cycles=len(cycles),
        kills=sum(cycle.kill for cycle in cycles),
        acknowledged=sum(cycle.acknowledged for cycle in cycles),
        unknown=sum(cycle.unknown for cycle in cycles),
        failed_after_retry=sum(cycle.failed_after_retry for cycle in cycles),
        unavailable_s=round(max(cycle.unavailable_s for cycle in cycles), 3),
        recovery_max_s=round(max(cycle.recovery_s for cycle in cycles), 3),
        recovery_median_s=round(median(cycle.recovery_s for cycle in cycles), 3),
    )


def _charge(row: Row, violation: Violation) -> None:
    column = COLUMNS.get(violation.invariant)
    if violation.invariant == "I6":
        column = "lost" if "lost" in violation.what or "wait" in violation.what else "duplicated"
    if column is None:
        row.other += 1
        row.others[violation.invariant] = row.others.get(violation.invariant, 0) + 1
    else:
        name = column.replace(" ", "_")
        setattr(row, name, getattr(row, name) + 1)


def _total(rows: Sequence[Row]) -> Row:
    total = Row(fault="total")
    for row in rows:
        for name in ("cycles", "kills", "acknowledged", "unknown", "failed_after_retry"):
            setattr(total, name, getattr(total, name) + getattr(row, name))
        for name in ("oversold", "lost", "duplicated", "wrongly_freed", "other"):
            setattr(total, name, getattr(total, name) + getattr(row, name))
        for name, count in row.others.items():
            total.others[name] = total.others.get(name, 0) + count
    total.unavailable_s = max((row.unavailable_s for row in rows), default=0.0)
    total.recovery_max_s = max((row.recovery_max_s for row in rows), default=0.0)
    total.recovery_median_s = median([row.recovery_median_s for row in rows] or [0.0])
    return total


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.fault,
        str(row.cycles),
        str(row.acknowledged),
        str(row.unknown),
        str(row.oversold),
        str(row.lost),
        str(row.duplicated),
        str(row.wrongly_freed),
        " ".join(f"{name} {count}" for name, count in sorted(row.others.items())) or "0",
        f"{row.unavailable_s:.2f} s",
        f"{row.recovery_median_s:.2f} s (max {row.recovery_max_s:.2f})",
    )


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)])


def _between(times: "array[int]", first: int, last: int) -> int:
    return bisect_right(times, last) - bisect_left(times, first)


def versions() -> dict[str, str]:
    """Of the servers that worlds are made of."""
    found = {}
    try:
        found["postgres"] = _version_said_by(wheel_postgres_binaries() / "postgres")
        found["valkey"] = _version_said_by(wheel_valkey_binary())
    except EmbeddedServerError:
        pass
    programs = find_rabbitmq()
    if programs and (told := re.search(r"rabbitmq_server-([\d.]+)", str(programs[0].resolve()))):
        found["rabbitmq"] = told[1]
    return found


def _version_said_by(program: Path) -> str:
    said = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=False).stdout
    version = re.search(r"\d+\.[\d.]+", said)
    return version[0] if version else said.strip()

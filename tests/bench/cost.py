"""What a piece of work costs in processor time, summed over the processes that did it, to the microsecond."""

import os
from collections.abc import Iterable
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """A process and its children, as they are now."""
    children = [Path(f"/proc/{pid}/task/{task.name}/children") for task in Path(f"/proc/{pid}/task").iterdir()]
    return [pid, *(int(child) for path in children for child in path.read_text().split())]


def cpu_s(pids: Iterable[int]) -> float:
    """The processor time that these have taken, that of their children which have ended included."""
    return sum(_taken_s(pid) + _ended_children_s(pid) for pid in pids)


def _taken_s(pid: int) -> float:
    try:
        threads = [task / "schedstat" for task in Path(f"/proc/{pid}/task").iterdir()]
        return sum(int(path.read_text().split()[0]) for path in threads) / 1e9
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


def _ended_children_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[13]) + int(fields[14])) / _TICKS

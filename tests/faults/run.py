"""One world's run: load flows, faults come one after another, and what happened is judged.

Between two cycles an activation has to be acknowledged again, soon; that it is not is a violation like any other. A
run ends with the first judgement that finds one.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from tests.faults.checker import Violation, judge
from tests.faults.history import Writer
from tests.faults.load import Load, running_load
from tests.faults.nemeses import Arena, FaultFailedError
from tests.faults.plan import Cycle
from tests.faults.report import Report
from tests.faults.world import World

CALM_S = 2.0
RECOVERY_S = 30.0
AT_ONCE_S = 0.15


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How much load, from how many processes, and for how long (`until_s` on the monotonic clock)."""

    rate: float
    processes: int = 2
    workers: int = 16
    long: bool = False
    until_s: float | None = None


class NotStartedError(Exception):
    """No load flows in a world where nothing is broken yet."""


class Run:
    """`done` are the cycles since the last judgement. `tell` is given a line about each."""

    def __init__(self, world: World, load: Load, report: Report, pace: Pace, tell: Callable[[str], None]) -> None:
        self._world = world
        self._load = load
        self._report = report
        self._pace = pace
        self._tell = tell
        self._writer = Writer(world.folder / "history", "nemesis")
        self._failed: list[Violation] = []
        self.done: list[Cycle] = []

    async def __call__(self, plan: Iterator[Cycle]) -> list[Violation]:
        """Until the plan or the time is over, or something is found."""
        await self._begin_round()
        for cycle in plan:
            over = self._pace.until_s is not None and time.monotonic() >= self._pace.until_s
            if not over:
                self.done.append(cycle)
                await self._undergo(cycle)
            if over or cycle.judged or self._failed:
                violations = self._failed + await judge(self._world, self._load)
                self._report.add_judgement(violations, world=self._world, load=self._load)
                self._tell(f"judged after {len(self.done)} cycles: {len(violations)} violations")
                if violations or over:
                    return violations
                self.done = []
                await self._load.renew()
                await self._begin_round()
        return []

    async def _begin_round(self) -> None:
        await self._load.resume()
        if not await self._load.acknowledged_again(RECOVERY_S):
            raise NotStartedError(f"no activation was acknowledged within {RECOVERY_S:.0f} s in calm")
        await asyncio.sleep(CALM_S)

    async def _undergo(self, cycle: Cycle) -> None:
        fault = cycle.fault
        began_ns = time.monotonic_ns()
        members: dict[str, Any] = {"fault": fault.name, "group": fault.group, "kill": fault.kill, "cycle": cycle.number}
        self._writer.write("fault-began", **members, began_ns=began_ns)
        arena = Arena(world=self._world, chance=cycle.chance, long=self._pace.long)
        try:
            async with fault.inflict(arena):
                await asyncio.sleep(fault.long_hold_s if self._pace.long else fault.hold_s)
        except FaultFailedError as error:
            self._failed.append(Violation("fault", "", f"{fault.name}: {error}"))
        except (OSError, TimeoutError, RuntimeError) as error:
            self._failed.append(Violation("recovery", "", f"{fault.name} could not be healed: {error!r}"))
        healed_ns = time.monotonic_ns()
        self._writer.write("fault", **members, began_ns=began_ns, healed_ns=healed_ns)
        recovered = await self._load.acknowledged_again(RECOVERY_S)
        took_s, back_s = (healed_ns - began_ns) / 1e9, (time.monotonic_ns() - healed_ns) / 1e9
        self._tell(f"{cycle.number:4d}  {fault.name:44} {took_s:6.1f} s  recovered in {back_s:6.3f} s")
        if not recovered:
            what = f"no activation was acknowledged within {RECOVERY_S:.0f} s after {fault.name}"
            self._failed.append(Violation("recovery", "", what))
        await asyncio.sleep(AT_ONCE_S)


async def live(
    world: World, plan: Iterator[Cycle], report: Report, pace: Pace, seed: int, tell: Callable[[str], None]
) -> tuple[list[Violation], list[Cycle]]:
    """Run a plan in a world; what was found, and the cycles that it was found after."""
    async with running_load(world, processes=pace.processes, workers=pace.workers, rate=pace.rate, seed=seed) as load:
        run = Run(world, load, report, pace, tell)
        return await run(plan), run.done

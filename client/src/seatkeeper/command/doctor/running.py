"""Run checks side by side, each with a time limit.

A check that raises or hangs becomes a finding of its own and stops no other. What it raised is named by its type alone,
for its text may hold anything.
"""

import asyncio
from collections.abc import Mapping

from seatkeeper.command.doctor.finding import Check, Finding, fail, warn
from seatkeeper.command.doctor.subject import Subject


async def run_checks(checks: Mapping[str, Check], subject: Subject) -> list[Finding]:
    """One finding for each check, in their order."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_limited(name, check, subject)) for name, check in checks.items()]
    return [task.result() for task in tasks]


async def _limited(name: str, check: Check, subject: Subject) -> Finding:
    try:
        async with asyncio.timeout(subject.limit_s):
            return await check(subject)
    except TimeoutError:
        return fail(name, "timeout", seconds=subject.limit_s)
    except Exception as error:
        return warn(name, "crashed", error=type(error).__name__)

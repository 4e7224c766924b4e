"""A program that is killed in the middle of what it writes finds its seat again, and never takes a second one."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable

import pytest

from seatkeeper.state import Name
from tests.client.conftest import Application
from tests.invariants import check_invariants

pytest_plugins = ["tests.platform"]


@pytest.mark.calm
async def test_a_death_at_any_step_of_a_write_costs_no_seat(
    applications: Callable[..., Awaitable[Application]],
) -> None:
    application = await applications(seats=100)
    options = application.options(directory=str(application.folder))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.client.crashing",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env={"PYTHONPATH": "client/src"},
    )  # fmt: skip
    out, _ = await process.communicate(json.dumps(options).encode())
    assert process.returncode == 0
    died = int(out)
    assert died >= 20

    for number in range(1, died + 1):
        async with application.client(f"device {number}") as license:
            assert license.state.name is Name.ACTIVE
            assert (await license.heartbeat()).name is Name.ACTIVE
        assert not list((application.folder / f"device {number}").glob("*.corrupt-*"))
    assert await application.seats_used() == died
    await check_invariants(application.platform.database)

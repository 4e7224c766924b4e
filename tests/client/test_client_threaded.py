"""The client of programs without an event loop, against the real services."""

import asyncio
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import seatkeeper
from seatkeeper.state import Name
from shared.licensing.model import Rules
from tests.client.conftest import Application
from tests.client.ways import Way

pytest_plugins = ["tests.platform"]

Applications = Callable[..., Awaitable[Application]]
ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import json, sys
import seatkeeper

license = seatkeeper.SyncClient(**json.load(sys.stdin)).open()
assert license.state.usable, license.state
"""


def client(application: Application, **changes: Any) -> seatkeeper.SyncClient:
    return seatkeeper.SyncClient(**application.options(**changes))


async def test_a_program_without_a_loop_has_all_that_one_with_a_loop_has(applications: Applications) -> None:
    application = await applications(rules=Rules(entitlements={"export": 2}))

    def program() -> None:
        with client(application) as license:
            assert (license.state.name, license.generation) == (Name.ACTIVE, 1)
            assert license.lease is not None
            assert license.device_id == license.lease.device_id
            assert dict(license.entitlements) == {"export": 2}
            assert license.require("export") == seatkeeper.require("export") == 2
            assert license.heartbeat().usable
            assert license.offline.installed() is None
            assert license.release().reason == "RELEASED"
            assert license.activate().name is Name.ACTIVE
            assert license.generation == 2
        license.close()
        with pytest.raises(seatkeeper.EntitlementMissing):
            seatkeeper.require("export")

    before = threading.active_count()
    await asyncio.to_thread(program)
    assert "seatkeeper" not in {thread.name for thread in threading.enumerate()}
    assert threading.active_count() <= before + 1
    assert await application.seats_used() == 1


async def test_changes_are_told_in_the_clients_thread_which_must_not_wait_for_itself(
    applications: Applications,
) -> None:
    application = await applications()
    line = Way(application.url)
    told: queue.Queue[tuple[str, str, str]] = queue.Queue()

    def program() -> None:
        license = client(application, transport=line)

        def changed(_old: seatkeeper.State, new: seatkeeper.State) -> None:
            try:
                license.heartbeat()
            except RuntimeError as error:
                told.put((threading.current_thread().name, new.name, str(error)))

        license.on_change(changed)
        with license:
            line.cut = True
            with pytest.raises(seatkeeper.Unreachable):
                license.heartbeat()
            assert license.state.name is Name.LIMITED

    await asyncio.to_thread(program)
    for name in ("active", "limited"):
        thread, new, error = told.get_nowait()
        assert (thread, new) == ("seatkeeper", name)
        assert "must not wait" in error


async def test_a_refusal_leaves_nothing_running(applications: Applications) -> None:
    application = await applications(seats=1)
    async with application.client("another"):
        with pytest.raises(seatkeeper.Refused, match=r"seat|device|limit"):
            await asyncio.to_thread(client(application).open)
    assert "seatkeeper" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(RuntimeError, match="not open"):
        client(application).heartbeat()


async def test_a_program_that_ends_without_closing_gives_its_seat_back(applications: Applications) -> None:
    application = await applications()
    options = application.options(release_at_exit=True, directory=str(application.folder))
    options["url"] = options["url"].replace("127.0.0.1", "localhost")  # a name, which takes a thread to resolve
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", PROGRAM],
        input=json.dumps(options),
        text=True,
        capture_output=True,
        timeout=30,
        env={**os.environ, "PYTHONPATH": str(ROOT / "client" / "src")},
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    (device,) = await application.platform.rows(
        "SELECT state, generation, ended_reason FROM device WHERE license_id = $1", application.grant.id
    )
    assert (device["state"], device["generation"], device["ended_reason"]) == ("released", 1, "user")

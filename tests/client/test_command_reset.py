"""`seatkeeper reset`: each step, what is undone when one fails, and how it goes on. systemctl is a stand-in on PATH."""

import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from services.standalone.embedded import free_port
from tests.client.commands import Command, command_of
from tests.client.conftest import Application

pytest_plugins = ["tests.platform"]

UNIT = "photo-editor.service"
SYSTEMCTL = """#!/bin/sh
echo "$@" >> "{calls}"
case "$1" in {fails}) echo "Job for $3 failed" >&2; exit 1;; esac
case "$1" in {application}) "{python}" -m seatkeeper.command activate;; esac
"""
"""The application that it starts activates, or does nothing."""


@pytest.fixture
async def application(applications: Callable[..., Awaitable[Application]]) -> Application:
    return await applications(seats=1)


@pytest.fixture
async def seatkeeper(application: Application) -> Command:
    command = command_of(application)
    assert (await command("activate")).code == 0
    return command


def with_systemctl(
    command: Command, folder: Path, *, fails: str = "never", application: str = "never"
) -> tuple[Command, Path]:
    calls, stand_in = folder / "calls", folder / "bin" / "systemctl"
    stand_in.parent.mkdir(exist_ok=True)
    calls.write_text("")
    stand_in.write_text(SYSTEMCTL.format(calls=calls, fails=fails, application=application, python=sys.executable))
    stand_in.chmod(0o755)
    path = f"{stand_in.parent}{os.pathsep}{os.environ['PATH']}"
    return replace(command, variables=command.variables | {"PATH": path, "PYTHONPATH": "client/src"}), calls


def outcomes(document: dict[str, Any]) -> dict[str, str]:
    return {step["step"]: step["outcome"] for step in document["steps"]}


async def test_a_machine_comes_back_from_the_ground_up(application: Application, seatkeeper: Command) -> None:
    before = (await seatkeeper("status", "--json")).ok()
    asked = await seatkeeper("reset")
    assert (asked.code, "--yes" in asked.err) == (2, True)

    done = (await seatkeeper("reset", "--yes", "--json")).ok()
    assert list(outcomes(done).items()) == [
        (step, "done") for step in ("backup", "clear", "reset", "activate", "verify")
    ]
    after = (await seatkeeper("status", "--json")).ok()
    assert after.items() >= {"deviceId": before["deviceId"], "generation": before["generation"] + 1}.items()
    assert done["lastResetTime"]
    backup = Path(done["backup"])
    assert (backup / "config.toml").read_bytes() == seatkeeper.config.read_bytes()
    assert (backup / "state.bin").exists()
    assert await application.seats_used() == 1


async def test_it_may_be_done_again_at_once(seatkeeper: Command) -> None:
    with mock.patch("seatkeeper.command.reset.datetime", wraps=datetime) as clock:
        clock.now.return_value = datetime(2026, 1, 1, tzinfo=UTC)
        backups = {(await seatkeeper("reset", "--yes", "--json")).ok()["backup"] for _ in range(2)}
    assert len(backups) == 2


async def test_what_was_kept_nowhere_is_found_at_the_server(application: Application, seatkeeper: Command) -> None:
    for file in seatkeeper.folder.rglob("state.bin"):
        file.write_bytes(b"damaged")
    assert (await seatkeeper("reset", "--yes")).code == 0
    assert (await seatkeeper("status", "--json")).ok()["generation"] == 2


async def test_the_unit_is_stopped_and_started(seatkeeper: Command, tmp_path: Path) -> None:
    command, calls = with_systemctl(seatkeeper, tmp_path, application="start")
    done = (await command("reset", "--yes", "--unit", UNIT, "--json")).ok()
    assert calls.read_text().splitlines() == [f"stop -- {UNIT}", f"start -- {UNIT}"]
    assert list(outcomes(done)) == ["backup", "stop", "clear", "reset", "start", "verify"]
    assert set(outcomes(done).values()) == {"done"}
    assert (await command("status", "--json")).ok()["generation"] == 2


async def test_an_application_that_does_not_come_back_is_told(
    application: Application, seatkeeper: Command, tmp_path: Path
) -> None:
    seatkeeper.config.write_text(f'{seatkeeper.config.read_text()}unit = "{UNIT}"\n')
    command, _ = with_systemctl(seatkeeper, tmp_path)
    ran = await command("reset", "--yes", "--json", "--timeout", 1)
    assert outcomes(ran.ok(5)).items() >= {"start": "done", "verify": "failed"}.items()
    assert "DEVICE_NOT_ACTIVATED" in ran.json["detail"]
    assert "To go on: seatkeeper status" in ran.err
    assert await application.seats_used() == 0


async def test_a_unit_that_does_not_stop_changes_nothing(
    application: Application, seatkeeper: Command, tmp_path: Path
) -> None:
    command, calls = with_systemctl(seatkeeper, tmp_path, fails="stop")
    before = (await command("status", "--json")).ok()
    ran = await command("reset", "--yes", "--unit", UNIT, "--json")
    assert outcomes(ran.ok(1)) == {
        "backup": "undone", "stop": "failed", "clear": "not_done", "reset": "not_done", "start": "not_done",
        "verify": "not_done",
    }  # fmt: skip
    assert "Job for" in ran.json["detail"]
    assert "All is as it was before" in ran.err
    assert (await command("status", "--json")).ok()["generation"] == before["generation"]
    assert len(calls.read_text().splitlines()) == 1


async def test_a_server_that_is_away_leaves_everything_as_it_was(seatkeeper: Command, tmp_path: Path) -> None:
    command, calls = with_systemctl(seatkeeper, tmp_path)
    config = command.config.read_text()
    folder = (await command("status", "--json")).ok()["directory"]
    dead = f"http://127.0.0.1:{free_port()}"
    ran = await command("reset", "--yes", "--unit", UNIT, "--url", dead, "--directory", folder, "--timeout", 1)
    assert ran.code == 4
    assert [line.split()[0] for line in calls.read_text().splitlines()] == ["stop", "start"]
    assert "may be reset or not" in ran.err
    assert command.config.read_text() == config
    assert not [name for name in os.listdir(folder) if name.startswith("backup-")]
    assert (await command("status")).code == 0


async def test_a_unit_that_does_not_start_is_said_with_what_to_do(
    application: Application, seatkeeper: Command, tmp_path: Path
) -> None:
    command, _ = with_systemctl(seatkeeper, tmp_path, fails="start")
    ran = await command("reset", "--yes", "--unit", UNIT, "--language", "zh")
    assert ran.code == 1
    assert f"systemctl start {UNIT}; seatkeeper status" in ran.err
    assert "失败" in ran.out
    assert await application.seats_used() == 0


async def test_without_systemd_the_unit_is_left_to_the_user(seatkeeper: Command, tmp_path: Path) -> None:
    ran = await seatkeeper("reset", "--yes", "--unit", UNIT, PATH=str(tmp_path))
    assert ran.code == 1
    assert "leave --unit away" in ran.err

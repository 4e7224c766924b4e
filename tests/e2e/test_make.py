"""What a newcomer does: `make run` and `make demo`, as written in the README, from a copy of this checkout."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.standalone.embedded import free_port

ROOT = Path(__file__).resolve().parents[2]
START_S = 60.0


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The project's files with this environment, and no data yet."""
    copy = tmp_path / "checkout"
    left_out = shutil.ignore_patterns(".git", ".venv", ".run", "build", ".*_cache", "__pycache__", ".hypothesis")
    shutil.copytree(ROOT, copy, ignore=left_out)
    (copy / ".venv").symlink_to(ROOT / ".venv")
    return copy


class Running:
    """`make run` as a process group of its own, and what it printed."""

    def __init__(self, checkout: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._out = checkout / "out.txt"
        self._demo = checkout / ".run" / "demo.json"
        self.folder = checkout / ".run"
        self._before = self._demo.stat().st_mtime_ns if self._demo.exists() else 0
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("SEATKEEPER_", "MAKE"))}
        with self._out.open("wb") as out:
            self.process = subprocess.Popen(
                ["make", "run", f"PORT={port}"],
                cwd=checkout,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environ,
                start_new_session=True,
            )

    @property
    def printed(self) -> str:
        return self._out.read_text()

    def wait_until_ready(self) -> dict[str, str]:
        """Until it answers; returns what `demo.json` holds."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.printed
            with contextlib.suppress(OSError):
                urllib.request.urlopen(self.url + "/.well-known/jwks.json", timeout=1).close()
                demo: dict[str, str] = json.loads(self._demo.read_text())
                return demo
            time.sleep(0.05)
        raise AssertionError(self.printed)

    def server_pids(self) -> set[int]:
        """The servers at work on this folder's data, whoever started them."""
        found = set()
        for path in Path("/proc").glob("[0-9]*/cwd"):
            with contextlib.suppress(OSError):
                if path.readlink().is_relative_to(self.folder):
                    found.add(int(path.parent.name))
        return found

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def running(checkout: Path) -> Iterator[list[Running]]:
    started: list[Running] = []
    yield started
    for one in started:
        one.end()


def post(url: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(url, json.dumps(body).encode(), method="POST")
    with urllib.request.urlopen(request, timeout=10) as response:
        return response.status, json.loads(response.read())


def start(checkout: Path, running: list[Running], port: int | None = None) -> Running:
    running.append(Running(checkout, port or free_port()))
    return running[-1]


def test_make_run_serves_and_its_printed_curl_lines_work(checkout: Path, running: list[Running]) -> None:
    one = start(checkout, running)
    demo = one.wait_until_ready()
    assert demo["url"] == one.url
    secrets = {"licenseKey", "floatingLicenseKey", "activationToken", "managementToken"}
    assert secrets <= set(demo)
    assert (len(demo["rootKey"]), demo["product"]) == (43, "demo-app")
    assert demo["rootKey"] in one.printed
    assert "CHAOS" not in one.printed
    assert (one.folder / "demo.json").stat().st_mode & 0o077 == 0
    time.sleep(0.2)
    lines = re.findall(r"^\s+(curl .*)$", one.printed, re.MULTILINE)
    answers = [subprocess.run(line, shell=True, capture_output=True, check=True).stdout for line in lines]
    activated, validated, devices = map(json.loads, answers)
    assert activated["state"] == "active"
    assert validated["valid"] is True
    assert [device["deviceId"] for device in devices["devices"]] == [activated["deviceId"]]
    status, _ = post(
        one.url + "/v1/activate",
        {"token": demo["activationToken"], "fingerprint": "by-token", "timestamp": int(time.time())},
    )
    assert status == 201


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_cleanly_and_a_second_start_keeps_the_data(
    checkout: Path, running: list[Running], signum: signal.Signals
) -> None:
    one = start(checkout, running)
    demo = one.wait_until_ready()
    seat = {"licenseKey": demo["licenseKey"], "fingerprint": "kept", "timestamp": int(time.time())}
    assert post(one.url + "/v1/activate", seat)[0] == 201
    os.killpg(one.process.pid, signum)
    one.process.wait(20)
    wait_for(lambda: not one.server_pids())
    assert "Traceback" not in one.printed

    made_before = {name: value for name, value in demo.items() if name not in ("rootKey", "product")}
    (one.folder / "demo.json").write_text(json.dumps(made_before))
    two = start(checkout, running)
    assert two.wait_until_ready() == demo | {"url": two.url}
    assert post(two.url + "/v1/activate", seat)[0] == 200


def test_a_killed_parent_leaves_no_server_behind(checkout: Path, running: list[Running]) -> None:
    one = start(checkout, running)
    one.wait_until_ready()
    assert one.server_pids()
    os.kill(one.process.pid, signal.SIGKILL)
    wait_for(lambda: not one.server_pids())
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(one.url, timeout=1)


def test_a_taken_port_is_one_clear_line(checkout: Path, running: list[Running]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        one = start(checkout, running, port)
        assert one.process.wait(30) != 0
    said = [line for line in one.printed.splitlines() if not line.startswith("make")]
    assert len(said) == 1
    assert f"port {port}" in said[0]


def test_make_demo_plays_the_whole_story(checkout: Path) -> None:
    done = subprocess.run(["make", "demo"], cwd=checkout, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for told in (
        "DEVICE_LIMIT_EXCEEDED",
        "day +84",
        "fact lease.expiring phone",
        "day +92",
        "LEASE_LOST",
        "reason: idle",
    ):
        assert told in done.stdout
    assert not (checkout / ".run").exists()


def wait_for(condition: Any, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)

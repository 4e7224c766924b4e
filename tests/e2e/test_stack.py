"""`make stack` and `make demo STACK=1`: every service as processes of its own, from a copy of this checkout."""

import contextlib
import json
import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.standalone.embedded import free_port
from tests.e2e.test_make import checkout, wait_for

__all__ = ["checkout"]

START_S = 90.0
SERVICES = ("activation", "heartbeat", "reaper", "portal")


class Stack:
    """`make stack REPLICAS=2` as a process group of its own, and what it printed."""

    def __init__(self, checkout: Path) -> None:
        self._checkout = checkout
        self._out = checkout / "out.txt"
        self.port = free_port()
        self.demo_file = checkout / ".run" / "demo.json"
        with self._out.open("wb") as out:
            self.process = subprocess.Popen(
                ["make", "stack", "REPLICAS=2", f"PORT={self.port}"],
                cwd=checkout,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=plain_environment(),
                start_new_session=True,
            )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def printed(self) -> str:
        return self._out.read_text()

    def wait_until_ready(self) -> dict[str, str]:
        """Until it answers; returns what `demo.json` holds."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.printed
            with contextlib.suppress(OSError):
                urllib.request.urlopen(self.url + "/.well-known/jwks.json", timeout=2).close()
                demo: dict[str, str] = json.loads(self.demo_file.read_text())
                return demo
            time.sleep(0.1)
        raise AssertionError(self.printed)

    def processes(self) -> dict[int, str]:
        """Those that work in this checkout or name it, with their command lines."""
        return processes_of(self._checkout) | {
            pid: line for pid, line in processes().items() if pid in self._descendants()
        }

    def services(self) -> list[str]:
        lines = self.processes().values()
        return sorted(found[1] for line in lines if (found := re.search(r" -m services\.(\w+)$", line)))

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _descendants(self) -> set[int]:
        found, parents = {self.process.pid}, parents_of_all()
        while grown := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= grown
        return found


def processes() -> dict[int, str]:
    """Of the machine: every process that lives, and its command line."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if line := (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip():
                found[int(path.name)] = line
    return found


def processes_of(checkout: Path) -> dict[int, str]:
    found = {}
    for pid, line in processes().items():
        with contextlib.suppress(OSError):
            if str(checkout) in line or Path(f"/proc/{pid}/cwd").readlink().is_relative_to(checkout):
                found[pid] = line
    return found


def parents_of_all() -> dict[int, int]:
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            found[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    return found


def plain_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("SEATKEEPER_", "MAKE"))}


@pytest.fixture
def stack(checkout: Path) -> Iterator[Stack]:
    (checkout / ".run").mkdir(mode=0o700)
    started = Stack(checkout)
    yield started
    started.end()


def post(url: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(url, json.dumps(body).encode(), method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as refused:
        return refused.code, json.loads(refused.read())


def test_the_stack_serves_on_one_port_and_term_ends_all_of_it(stack: Stack) -> None:
    demo = stack.wait_until_ready()
    assert demo["url"] == stack.url
    assert stack.demo_file.stat().st_mode & 0o077 == 0
    assert stack.services() == sorted(SERVICES * 2)
    there = stack.processes()
    for program in ("beam", "epmd", "postgres", "valkey-server"):
        assert any(program in line.partition(" ")[0] for line in there.values()), (program, there)

    seat = {"licenseKey": demo["licenseKey"], "fingerprint": "laptop", "timestamp": int(time.time())}
    status, activated = post(stack.url + "/v1/activate", seat)
    assert status == 201
    for _ in range(4):  # each replica in turn
        assert post(stack.url + "/v1/activate", seat)[0] == 200
        assert post(stack.url + "/v1/heartbeat", {"deviceToken": activated["deviceToken"]})[0] == 200
    assert post(stack.url + "/v1/validate", {"key": demo["floatingLicenseKey"]})[0] == 200
    given_back = {"licenseKey": demo["licenseKey"], "deviceId": activated["deviceId"]}
    assert post(stack.url + "/api/deactivate", given_back) == (200, {"success": True})
    lost = [post(stack.url + "/v1/heartbeat", {"deviceToken": activated["deviceToken"]}) for _ in range(2)]
    assert [(status, answer["code"]) for status, answer in lost] == [(410, "LEASE_LOST")] * 2
    assert stack.url in stack.printed
    assert "curl" in stack.printed

    os.killpg(stack.process.pid, signal.SIGTERM)
    stack.process.wait(30)

    wait_for(lambda: not there.keys() & processes().keys() and not stack.processes())
    assert "Traceback" not in stack.printed
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(stack.url, timeout=1)


def test_the_demo_plays_the_story_over_the_stack_and_shows_the_facts(checkout: Path) -> None:
    done = subprocess.run(
        ["make", "demo", "STACK=1"],
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
        env=plain_environment(),
    )

    assert done.returncode == 0, done.stdout + done.stderr
    for told in (
        "as 4 processes over RabbitMQ",
        "fact device.activated laptop, seats 1 of 3",
        "fact device.activated phone, seats 3 of 3",
        "DEVICE_LIMIT_EXCEEDED",
        "fact device.released desktop (user), seats 2 of 3",
        "day +84",
        "fact lease.expiring phone",
        "day +92",
        "fact device.released phone (idle)",
        "LEASE_LOST",
        "reason: idle",
        "Everything was answered as it should be.",
    ):
        assert told in done.stdout, (told, done.stdout)
    assert "Traceback" not in done.stderr
    assert not (checkout / ".run").exists()
    wait_for(lambda: not processes_of(checkout))

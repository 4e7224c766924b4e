"""The services of a world: processes that can be killed, told to end, frozen, and told at which point to die."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.standalone.embedded import die_with_parent
from tests.faults.points import WANTED, Wanted
from tests.faults.way import HOST
from tests.platform import toml

ROOT = Path(__file__).resolve().parents[2]
START_S = 60.0
END_S = 30.0


class Instance:
    """One process of one service, as `activation-0`. Ports and settings outlive a restart."""

    def __init__(
        self, folder: Path, service: str, number: int, sections: Mapping[str, Any], surroundings: Mapping[str, str]
    ) -> None:
        self.service = service
        self.name = f"{service}-{number}"
        self.log = folder / f"{self.name}.log"
        self.port = int(sections["server"]["port"])
        self._health_port = int(sections["server"]["health_port"])
        self._settings = folder / f"{self.name}.toml"
        self._settings.write_text('environment = "development"\n' + toml(sections))
        self.wanted = Wanted(folder / f"{self.name}.wanted")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SEATKEEPER_")}
        self._environment = {**inherited, **surroundings, WANTED: str(folder / f"{self.name}.wanted")}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        parent = os.getpid()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.service", self.service, "--config", str(self._settings)],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(signal.SIGKILL, parent),
            )

    async def ready(self) -> None:
        """Wait until it says that it serves. Raises `TimeoutError`, or `RuntimeError` when it ended instead."""
        deadline = time.monotonic() + START_S
        while not await _says_ready(self._health_port):
            if not self.running:
                raise RuntimeError(f"{self.name} ended at its start; the end of its log:\n{self.last_words()}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} was not ready within {START_S:.0f} s:\n{self.last_words()}")
            await asyncio.sleep(0.05)

    async def dead(self, within_s: float) -> bool:
        """Whether it ends by itself in time."""
        deadline = time.monotonic() + within_s
        while self.running:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.01)
        return True

    async def stopped(self, within_s: float) -> bool:
        """Whether SIGSTOP reaches it in time."""
        deadline = time.monotonic() + within_s
        while _state_of(self.pid) != "T":
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.01)
        return True

    def signal(self, signum: int) -> None:
        assert self._process is not None
        self._process.send_signal(signum)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def end(self) -> None:
        """Tell it to end and wait for that, as a rollout does."""
        self.signal(signal.SIGTERM)
        if not await self.dead(END_S):
            raise TimeoutError(f"{self.name} did not end within {END_S:.0f} s of SIGTERM")

    def last_words(self) -> str:
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-8:])


def _state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def _says_ready(port: int) -> bool:
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                writer.write(b"GET /readyz HTTP/1.0\r\n\r\n")
                return b" 200 " in await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False

"""Proxies as they stand in the world, private to a test: tinyproxy (HTTP, CONNECT) and microsocks (SOCKS5), of Debian.

As root, what is missing is installed; neither package brings a service. They listen on loopback and die with the tests.
"""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from services.standalone.embedded import die_with_parent, free_port
from tests import servers

LOOPBACK = "127.0.0.1"
_START_S = 10.0


@dataclass(frozen=True)
class ProxyServer:
    """`log` is the file where it says what it was asked for."""

    scheme: str
    port: int
    log: Path

    @property
    def url(self) -> str:
        return self.url_for()

    def url_for(self, credentials: str = "") -> str:
        """`credentials` are `user:password`, percent-encoded."""
        return f"{self.scheme}://{credentials}{'@' if credentials else ''}{LOOPBACK}:{self.port}"

    def asked(self) -> list[str]:
        """What clients wanted: the lines of the log that tell of requests and connections."""
        return [line for line in self.log.read_text().splitlines() if "Request (" in line or "connected to" in line]


@contextmanager
def tinyproxy(folder: Path, *, user: str = "", password: str = "", lines: Sequence[str] = ()) -> Iterator[ProxyServer]:
    servers.require("tinyproxy", package="tinyproxy-bin")
    server = ProxyServer("http", free_port(), folder / "tinyproxy.log")
    settings = [
        f"Port {server.port}",
        f"Listen {LOOPBACK}",
        "Timeout 30",
        "MaxClients 20",
        f'LogFile "{server.log}"',
        "LogLevel Connect",
        *([f"BasicAuth {user} {password}"] if user else []),
        *lines,
    ]
    file = folder / "tinyproxy.conf"
    file.write_text("\n".join(settings) + "\n")
    server.log.touch()
    with _running(["tinyproxy", "-d", "-c", str(file)], server.port, folder / "tinyproxy.out"):
        yield server


@contextmanager
def microsocks(folder: Path, *, user: str = "", password: str = "") -> Iterator[ProxyServer]:
    servers.require("microsocks", package="microsocks")
    server = ProxyServer("socks5", free_port(), folder / "microsocks.log")
    credentials = ["-u", user, "-P", password] if user else []
    with _running(["microsocks", "-i", LOOPBACK, "-p", str(server.port), *credentials], server.port, server.log):
        yield server


@contextmanager
def _running(command: Sequence[str], port: int, output: Path) -> Iterator[None]:
    parent = os.getpid()
    with output.open("wb") as written:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: die_with_parent(signal.SIGKILL, parent),
        )
    try:
        _await_port(process, port, output)
        yield
    finally:
        process.kill()
        process.wait()


def _await_port(process: subprocess.Popen[bytes], port: int, output: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        assert process.poll() is None, output.read_text()
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1):
            return
        time.sleep(0.01)
    raise AssertionError(f"it did not listen in time: {output.read_text()}")

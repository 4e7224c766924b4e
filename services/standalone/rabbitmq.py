"""A private RabbitMQ node that lives and dies with this process: for tests and for the stack on one machine.

Rules, besides those of `embedded.py`, which hold here too:
- A node brings its own epmd, on a free port: it meets no other node, and none that runs under the usual names.
- It listens on 127.0.0.1 alone, for one user with a random password.
- A quorum queue of a lone node is safe from a kill only some seconds after it was declared.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from services.standalone.embedded import free_port
from services.standalone.rabbitmq_node import LONE, USER, Member, Ports, answers, spawn_epmd, spawn_node
from services.standalone.sites import EmbeddedServerError, Site, failure, open_site

__all__ = ["EmbeddedServerError", "RabbitServer", "find_rabbitmq", "start_rabbitmq"]

_SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # the one in PATH changes user before it starts
_START_S = 60.0
_STOP_S = 30.0
_POLL_S = 0.02


class RabbitServer:
    """A node on the data of its folder; leaving the `with` block stops it. Port and user outlive a restart.

    A `member` with a name server starts none; its folder holds the password that the members share.
    """

    def __init__(self, folder: Path, program: Path, epmd: Path, takeover_s: float, member: Member = LONE) -> None:
        self._folder = folder
        self._programs = program, epmd
        self._takeover_s = takeover_s
        self._member = member
        self._ports = Ports(amqp=free_port(), distribution=free_port(), epmd=member.epmd or free_port())
        self._password = ""
        self._site: Site | None = None
        self._epmd: subprocess.Popen[bytes] | None = None
        self._node: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"amqp://{USER}:{self._password}@127.0.0.1:{self._ports.amqp}/"

    @property
    def pids(self) -> list[int]:
        """Of the Erlang machine and of its epmd."""
        return [process.pid for process in (self._node, self._epmd) if process is not None]

    @property
    def running(self) -> bool:
        return self._node is not None and self._node.poll() is None

    @property
    def ready(self) -> bool:
        """Whether it takes connections. Raises `EmbeddedServerError` when it ended instead."""
        if not self.running:
            raise self._failure("rabbitmq ended at its start")
        return answers(self._ports)

    def start(self, *, wait: bool = True) -> None:
        """Start the node. Without `wait` it has only begun to: see `ready`."""
        program, epmd = self._programs
        with open_site(self._folder, "rabbitmq", program, self._takeover_s) as site:
            self._site = site
            self._password = _password_of(site)
            if self._member.epmd is None and (self._epmd is None or self._epmd.poll() is not None):
                self._epmd = spawn_epmd(site, epmd, self._ports)
            self._node = spawn_node(site, program, self._ports, self._password, self._member)
        if wait:
            self._await_ready()

    def stop(self) -> None:
        """Stop in order. May be repeated."""
        _end(self._node, signal.SIGTERM)
        _end(self._epmd, signal.SIGTERM)
        if self._site is not None:
            self._site.remove_sockets()

    def kill(self) -> None:
        """End it as a crash would; `start` brings it back."""
        _end(self._node, signal.SIGKILL)

    def restart(self, *, wait: bool = True) -> None:
        """Stop in order, and start again on the same data and port."""
        _end(self._node, signal.SIGTERM)
        self.start(wait=wait)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _await_ready(self) -> None:
        deadline = time.monotonic() + _START_S
        try:
            while not self.ready:
                if time.monotonic() > deadline:
                    raise self._failure(f"rabbitmq was not ready within {_START_S:.0f} s")
                time.sleep(_POLL_S)
        except BaseException:
            self.stop()
            raise

    def _failure(self, what: str) -> EmbeddedServerError:
        return EmbeddedServerError(what) if self._site is None else failure(self._site, what)


def start_rabbitmq(folder: Path, *, programs: tuple[Path, Path], takeover_s: float = 10.0) -> RabbitServer:
    """Start the node whose data is in `folder`. `programs` are those that `find_rabbitmq` found."""
    server = RabbitServer(folder, *programs, takeover_s)
    server.start()
    return server


def find_rabbitmq() -> tuple[Path, Path] | None:
    """The server's and epmd's programs, as Debian's package installs them."""
    epmd = shutil.which("epmd")
    return (_SERVER, Path(epmd)) if epmd and _SERVER.is_file() else None


def _password_of(site: Site) -> str:
    """Made once and kept beside the data, which remember it."""
    path = site.folder / "rabbitmq.password"
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        text = secrets.token_urlsafe(18)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        return text


def _end(process: subprocess.Popen[bytes] | None, signum: int) -> None:
    if process is None:
        return
    process.send_signal(signum)
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

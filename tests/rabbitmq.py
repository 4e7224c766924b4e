"""The RabbitMQ the tests run on: named by a variable, found on the machine, or installed from Debian.

Test modules take these fixtures with `pytest_plugins = ["tests.rabbitmq"]`. The rules are those of `tests/servers.py`:

- `SEATKEEPER_TEST_RABBITMQ` (URL, whose virtual host may be emptied) names a running broker. Without it the tests
  start a private one, once, which dies with the test process.
- `amqp_url` is the broker with nothing of Seatkeeper in it; `facts_url` the same with the topology declared.
- `private_rabbitmq` is a node of the module's own, which its tests may stop, kill and start.
- As root, the package is installed when missing; neither its service nor its epmd is started or enabled by that.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from services.standalone.embedded import EmbeddedServerError
from services.standalone.rabbitmq import RabbitServer, find_rabbitmq, start_rabbitmq
from shared.facts import topology
from shared.facts.connection import open_channel
from tests import servers

RABBITMQ_VARIABLE = "SEATKEEPER_TEST_RABBITMQ"
PACKAGE = "rabbitmq-server"


class RabbitSource(Protocol):
    @property
    def url(self) -> str: ...

    def stop(self) -> None: ...


@dataclass(frozen=True)
class RunningRabbit:
    """A broker somebody else runs; only what is called seatkeeper in its virtual host is removed."""

    url: str

    def stop(self) -> None:
        """Not ours to stop."""


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitSource]:
    url = os.environ.get(RABBITMQ_VARIABLE)
    server = RunningRabbit(url) if url else start_private(tmp_path_factory.mktemp("rabbitmq"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def private_rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    with start_private(tmp_path_factory.mktemp("rabbitmq")) as server:
        yield server


@pytest.fixture
async def amqp_url(rabbitmq: RabbitSource) -> str:
    await empty(rabbitmq.url)
    return rabbitmq.url


@pytest.fixture
async def facts_url(amqp_url: str) -> str:
    await topology.declare(amqp_url)
    return amqp_url


def start_private(folder: Path) -> RabbitServer:
    """From the main thread. Ends the test run with one line where there is nothing to start."""
    try:
        return start_rabbitmq(folder, programs=found_or_installed())
    except (servers.ServersMissingError, EmbeddedServerError) as error:
        pytest.exit(str(error), returncode=3)


async def empty(url: str) -> None:
    """Remove the topology, whole or in parts."""
    async with open_channel(url, name="tests") as channel:
        for one in topology.SUBSCRIBERS:
            await channel.queue_delete(one.queue)
            await channel.queue_delete(one.dead_queue)
        for name in (topology.EXCHANGE, topology.DEAD_EXCHANGE):
            await channel.exchange_delete(name)


def found_or_installed() -> tuple[Path, Path]:
    programs = find_rabbitmq()
    if programs is None:
        _install()
        programs = find_rabbitmq()
    if programs is None:
        raise servers.ServersMissingError(_advice("the package has no server where Debian's has it"))
    return programs


def _install() -> None:
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise servers.ServersMissingError(_advice("it is not installed"))
    epmd_was_here = shutil.which("epmd") is not None
    with servers.no_service_starts():
        servers.apt_get([PACKAGE], "update", "-qq")
        servers.apt_get([PACKAGE], "install", "-y", "-qq", "--no-install-recommends", PACKAGE)
    _run_quietly("update-rc.d", PACKAGE, "disable")
    if not epmd_was_here:
        _run_quietly("systemctl", "disable", "epmd.service", "epmd.socket")


def _run_quietly(*command: str) -> None:
    if shutil.which(command[0]):
        subprocess.run(command, capture_output=True, check=False)


def _advice(why: str) -> str:
    return (
        f"the tests need RabbitMQ ({why}): run 'apt-get install --no-install-recommends {PACKAGE}' as root,"
        f" or set {RABBITMQ_VARIABLE}"
    )

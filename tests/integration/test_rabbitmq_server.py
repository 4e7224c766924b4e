"""The launcher of private RabbitMQ nodes. The tests are not async: it wants no running loop."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.standalone.rabbitmq import EmbeddedServerError, start_rabbitmq
from shared.facts.connection import BrokerError, open_channel
from tests.integration.test_embedded_servers import ROOT, ends_within, is_alive
from tests.rabbitmq import found_or_installed, start_private

PARENT = """
import sys, time
from pathlib import Path
from services.standalone.rabbitmq import find_rabbitmq, start_rabbitmq
server = start_rabbitmq(Path(sys.argv[1]), programs=find_rabbitmq())
print(*server.pids, flush=True)
time.sleep(600)
"""


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a node in `tmp_path`."""
    found_or_installed()
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    yield process
    process.kill()
    process.wait()


def test_a_node_and_all_its_helpers_end_with_a_parent_that_is_killed(
    tmp_path: Path, parent: subprocess.Popen[str]
) -> None:
    assert parent.stdout is not None
    pids = [int(word) for word in parent.stdout.readline().split()]
    helpers = descendants(pids[0])
    assert len(pids) == 2
    assert helpers
    with pytest.raises(EmbeddedServerError, match=rf"in use by another running instance \(process {parent.pid}\)"):
        start_rabbitmq(tmp_path, programs=found_or_installed(), takeover_s=0.2)
    parent.kill()
    parent.wait()
    for pid in (*pids, *helpers):
        assert ends_within(pid, seconds=10)


def test_a_node_keeps_its_address_and_its_queues_over_a_restart_and_ends_when_told_to(tmp_path: Path) -> None:
    with start_private(tmp_path) as server:
        url, first = server.url, server.pids
        declare_queue(url)
        assert listens_only_on_loopback(server.pids)
        with pytest.raises(BrokerError):
            declare_queue(url.replace(":", ":x", 2).replace(":x", ":", 1))  # another password
        server.restart()
        assert server.url == url
        assert declare_queue(url, passive=True)
    for pid in {*first, *server.pids}:
        assert not is_alive(pid)


def declare_queue(url: str, *, passive: bool = False) -> bool:
    async def run() -> bool:
        async with open_channel(url, name="tests") as channel:
            await channel.declare_queue("kept", durable=True, passive=passive)
            return True

    with asyncio.Runner() as runner:
        return runner.run(run())


def descendants(pid: int) -> list[int]:
    children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [one for child in children for one in (child, *descendants(child))]


def listens_only_on_loopback(pids: list[int]) -> bool:
    """No listening socket of these processes is bound to an address of the machine's."""
    sockets = {link.readlink().name for pid in pids for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    bound = [line[1] for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in sockets]
    return len(bound) >= 2 and all(address.startswith("0100007F:") for address in bound)

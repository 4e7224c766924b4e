"""A RabbitMQ cluster of private nodes, which pause when they are few, or a lone node.

The first node starts alone and the others join it. All find each other by the ways of `distribution.py`.
"""

import asyncio
import os
import secrets
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from services.standalone.rabbitmq import RabbitServer
from services.standalone.rabbitmq_node import Member
from tests.faults.ways import Ways
from tests.rabbitmq import found_or_installed

START_S = 45.0
STARTS = 3
NET_TICK_S = 8


class Cluster:
    """`urls` are those of the nodes themselves."""

    def __init__(self, nodes: dict[str, RabbitServer], ways: Ways) -> None:
        self.nodes = nodes
        self._ways = ways

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.nodes.values()]

    @property
    def names(self) -> list[str]:
        return list(self.nodes)

    def kill(self, *names: str) -> None:
        for name in names:
            os.kill(self.nodes[name].pids[0], signal.SIGKILL)
        for name in names:
            self.nodes[name].kill()

    async def start(self, *names: str) -> None:
        """Start these and wait until each takes clients."""
        for name in names:
            self.nodes[name].start(wait=False)
        await self.ready(*names)

    async def ready(self, *names: str) -> None:
        """Wait until each takes clients. Those that wait for each other for too long are started again, as an
        orchestrator would: RabbitMQ now and then needs it after all nodes were killed at once.
        """
        for _ in range(STARTS):
            late = await self._late(names or self.names)
            if not late:
                return
            self.kill(*late)
            for name in late:
                self.nodes[name].start(wait=False)
        raise TimeoutError(f"the broker's nodes took no clients within {START_S:.0f} s: {', '.join(late)}")

    async def _late(self, names: Sequence[str]) -> list[str]:
        """Those that take no clients in time."""
        deadline = time.monotonic() + START_S
        late = list(names)
        while late and time.monotonic() < deadline:
            late = [name for name in late if not await asyncio.to_thread(self._is_ready, name)]
            await asyncio.sleep(0.1 * bool(late))
        return late

    def _is_ready(self, name: str) -> bool:
        return self.nodes[name].ready

    def part(self, name: str) -> None:
        self._ways.part(name)

    def join(self) -> None:
        self._ways.join()


@contextmanager
def running_cluster(folder: Path, ways: Ways, size: int) -> Iterator[Cluster]:
    """Nodes that have begun to start: the first alone, the others when it is `ready` (see `assemble`)."""
    names = [f"seatkeeper{number}" for number in range(1, size + 1)]
    epmd = ways.open_distribution()
    cookie, password = secrets.token_hex(16), secrets.token_urlsafe(18)
    with ExitStack() as stack:
        nodes = {}
        for name in names:
            node = RabbitServer(
                _furnish(folder / name, password), *found_or_installed(), 10.0, _member(name, names, epmd, cookie)
            )
            nodes[name] = stack.enter_context(node)
        nodes[names[0]].start(wait=False)
        yield Cluster(nodes, ways)


async def assemble(cluster: Cluster) -> None:
    """Wait for the first node and have the others join it."""
    first, *others = cluster.names
    await cluster.ready(first)
    if others:
        await cluster.start(*others)


def _furnish(folder: Path, password: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "rabbitmq.password").write_text(password)
    return folder


def _member(name: str, names: list[str], epmd: int, cookie: str) -> Member:
    settings = {
        "cluster_partition_handling": "pause_minority",
        "cluster_formation.target_cluster_size_hint": str(len(names)),
    }
    if name != names[0]:
        settings["cluster_formation.peer_discovery_backend"] = "classic_config"
        settings |= {
            f"cluster_formation.classic_config.nodes.{at}": f"{one}@localhost" for at, one in enumerate(names, 1)
        }
        settings["cluster_formation.randomized_startup_delay_range.min"] = "0"
        settings["cluster_formation.randomized_startup_delay_range.max"] = "1"
    arguments = f"+sbwt none +sbwtdcpu none +sbwtdio none -kernel net_ticktime {NET_TICK_S}"
    return Member(name=name, epmd=epmd, cookie=cookie, settings=settings, erlang_arguments=arguments)

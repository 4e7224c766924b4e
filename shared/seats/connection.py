"""The way to Redis, be it one server, the primary that Sentinels name, or a Cluster.

- Keys that are asked about together go together: in one call of one server, and in a Cluster with one round trip to
  each node, since the keys of one call have to share a slot there.
- A node in trouble leaves unanswered what is its own, and nothing else.
"""

from collections.abc import Callable, Sequence
from typing import Any

from redis.asyncio import Redis

from shared.seats.cluster import Cluster
from shared.seats.keys import WATERMARK
from shared.seats.node import AWAY, PAUSE_S, Ask, Node, PrimaryNode, open_server
from shared.seats.scripts import DIGESTS
from shared.seats.url import Kind, parse

__all__ = ["AWAY", "PAUSE_S", "Arguments", "RedisConnection"]

Arguments = Callable[[Sequence[int]], Sequence[Any]]
"""What a script is told beside the keys of these numbers."""


class RedisConnection:
    """A client of Redis. In the place of an answer that was not to be had it gives `AWAY`."""

    def __init__(self, url: str, *, timeout_s: float = 0.25) -> None:
        address = parse(url)
        self._servers: _Sole | Cluster
        if address.kind is Kind.CLUSTER:
            self._servers = Cluster(address, timeout_s)
        elif address.kind is Kind.SENTINEL:
            self._servers = _Sole(PrimaryNode(address, timeout_s))
        else:
            self._servers = _Sole(open_server(address.url, timeout_s))

    @property
    def nodes(self) -> list[Node]:
        """The servers that hold keys. A Cluster's are known once something was asked."""
        return self._servers.nodes

    @property
    def marks(self) -> list[tuple[Node, bytes]]:
        """Each of them with the key of its watermark."""
        return self._servers.marks

    @property
    def client(self) -> Redis:
        """The client of the only server."""
        (node,) = self.nodes
        return node.client

    @property
    def reachable(self) -> bool:
        """Whether all answered when they were asked last."""
        return bool(self.nodes) and all(node.reachable for node in self.nodes)

    @property
    def partly_reachable(self) -> bool:
        return any(node.reachable for node in self.nodes)

    async def ask(self, asks: Sequence[tuple[bytes, Ask]], *, now: bool = False) -> list[Any]:
        """The answer of each command, which concerns the key beside it. `now` asks what is resting, too."""
        return await self._servers.send(asks, now=now)

    async def call(
        self, verb: str, keys: Sequence[bytes], arguments: Arguments, *, now: bool = False
    ) -> list[tuple[Sequence[int], Any]]:
        """A script for all keys, in as few calls as may be: the numbers of the keys of each, and its answer."""
        groups = self._servers.groups(keys)
        asks = [_call(DIGESTS[verb], [keys[number] for number in group], arguments(group)) for group in groups]
        return list(zip(groups, await self._servers.send(asks, now=now), strict=True))

    async def call_each(self, verb: str, keys: Sequence[bytes], arguments: Arguments) -> list[Any]:
        """The same for a script that answers for each of its keys: these answers, in the order of the keys."""
        answers: list[Any] = [AWAY] * len(keys)
        for group, answer in await self.call(verb, keys, arguments):
            if answer is AWAY:
                continue
            if len(group) == len(keys):
                return list(answer)
            for number, one in zip(group, answer, strict=True):
                answers[number] = one
        return answers

    async def call_one(self, verb: str, key: bytes, arguments: Sequence[Any]) -> Any:
        """The same for one key."""
        ((_, answer),) = await self.call(verb, [key], lambda _: arguments)
        return answer

    async def learn(self) -> None:
        """Find out which servers hold the keys by now."""
        await self._servers.learn()

    async def close(self) -> None:
        await self._servers.close()


class _Sole:
    """The one server that holds all keys."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.nodes = [node]
        self.marks = [(node, WATERMARK)]

    def groups(self, keys: Sequence[bytes]) -> list[Sequence[int]]:
        return [range(len(keys))]

    async def send(self, asks: Sequence[tuple[bytes, Ask]], *, now: bool = False) -> list[Any]:
        return await self._node.send([ask for _, ask in asks], now=now)

    async def learn(self) -> None:
        await self._node.seek()

    async def close(self) -> None:
        await self._node.close()


def _call(digest: str, keys: Sequence[bytes], arguments: Sequence[Any]) -> tuple[bytes, Ask]:
    return keys[0], lambda way: way.evalsha(digest, len(keys), *keys, *arguments)

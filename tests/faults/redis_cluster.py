"""A Redis Cluster of six: three primaries that share the slots, and a replica of each. Private, on loopback.

    with running_cluster(folder) as redis:
        redis.url              # for `redis.url`
        redis.kill_primary(0)  # kill the primary of the first third, and wait for its replica to take over
        redis.restart()        # start what was killed; it joins as a replica

They die with this process.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import redis

from services.standalone.embedded import RedisServer, free_port, start_redis, wheel_valkey_binary
from tests.faults.redis_sentinel import LOOPBACK, connect, wait_until

THIRDS = ((0, 5460), (5461, 10922), (10923, 16383))


class ClusterRedis:
    def __init__(self, folder: Path, stack: ExitStack, options: dict[str, str]) -> None:
        self._folder = folder
        self._stack = stack
        self._options = options
        self._buses = {free_port(): free_port() for _ in range(2 * len(THIRDS))}
        self._servers = {port: self._start(port) for port in self._buses}
        self._join(list(self._buses))

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"{LOOPBACK}:{port}" for port in self._buses)

    @property
    def primaries(self) -> list[int]:
        return [self.primary(third) for third in range(len(THIRDS))]

    def server(self, port: int) -> RedisServer:
        return self._servers[port]

    def primary(self, third: int) -> int:
        """The port of the primary that has this third of the slots, as most of those that run say."""
        said = [port for running in self._running() if (port := _owner(running, THIRDS[third][0])) is not None]
        return max(said, key=said.count)

    def kill_primary(self, third: int, *, wait: bool = True) -> int:
        """Kill it; with `wait`, until its replica has taken over. Returns its port."""
        old = self.primary(third)
        os.kill(self._servers[old].pid, signal.SIGKILL)
        if wait:
            wait_until(lambda: self._agreed(third) and self.primary(third) != old)
        return old

    def hand_over(self, third: int) -> None:
        """Have the replica of that primary take its place, with nothing lost."""
        old = self.primary(third)
        with connect(old) as primary:
            replica = int(primary.info("replication")["slave0"]["port"])
        with connect(replica) as client:
            client.execute_command("CLUSTER FAILOVER")
        wait_until(lambda: self._agreed(third) and self.primary(third) == replica)

    def restart(self) -> None:
        """Start what was killed, empty. Returns when all replicas are in step."""
        for port, server in self._servers.items():
            if not server.running:
                server.stop()
                self._servers[port] = self._start(port)
        wait_until(self._whole)

    def _start(self, port: int) -> RedisServer:
        options = {
            "cluster-enabled": "yes",
            "cluster-port": str(self._buses[port]),
            "cluster-require-full-coverage": "no",
            "cluster-replica-validity-factor": "0",
            "repl-diskless-sync-delay": "0",
            "repl-ping-replica-period": "1",
            **self._options,
        }
        server = start_redis(self._folder / f"redis-{port}", binary=wheel_valkey_binary(), port=port, options=options)
        self._stack.callback(server.stop)
        return server

    def _join(self, ports: list[int]) -> None:
        first = ports[0]
        for epoch, port in enumerate(ports, 1):
            with connect(port) as client:
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", epoch)
                client.execute_command("CLUSTER MEET", LOOPBACK, first, self._buses[first])
        for port, (start, end) in zip(ports, THIRDS, strict=False):
            with connect(port) as client:
                client.execute_command("CLUSTER ADDSLOTSRANGE", start, end)
        wait_until(lambda: all(_state(port) == ("ok", str(len(ports))) for port in ports))
        for primary, replica in zip(ports, ports[len(THIRDS) :], strict=False):
            with connect(primary) as client:
                id = client.execute_command("CLUSTER MYID")
            with connect(replica) as client:
                client.execute_command("CLUSTER REPLICATE", id)
        wait_until(self._whole)

    def _running(self) -> list[int]:
        return [port for port, server in self._servers.items() if server.running]

    def _agreed(self, third: int) -> bool:
        """Whether all that run name the same primary, and it runs."""
        said = {_owner(port, THIRDS[third][0]) for port in self._running()}
        return len(said) == 1 and said <= set(self._running())

    def _whole(self) -> bool:
        """Whether each third has a primary on which all agree, with a replica in step."""
        return all(self._agreed(third) and _is_followed(self.primary(third)) for third in range(len(THIRDS)))


@contextmanager
def running_cluster(
    folder: Path, *, node_timeout_ms: int = 1000, options: dict[str, str] | None = None
) -> Iterator[ClusterRedis]:
    with ExitStack() as stack:
        yield ClusterRedis(folder, stack, {"cluster-node-timeout": str(node_timeout_ms), **(options or {})})


def _state(port: int) -> tuple[str, str]:
    with connect(port) as client:
        told = client.execute_command("CLUSTER INFO")
    return told["cluster_state"], told["cluster_known_nodes"]


def _owner(port: int, slot: int) -> int | None:
    with suppress(redis.RedisError), connect(port) as client:
        for start, end, primary, *_ in client.execute_command("CLUSTER SLOTS"):
            if start <= slot <= end:
                return int(primary[1])
    return None


def _is_followed(port: int) -> bool:
    with suppress(redis.RedisError), connect(port) as client:
        told = client.info("replication")
        return bool(told["role"] == "master" and told.get("slave0", {}).get("state") == "online")
    return False

"""Redis behind Sentinel: a primary, a replica of it, and three Sentinels that watch them. Private, on loopback.

    with running_sentinel(folder) as redis:
        redis.url          # for `redis.url`
        redis.fail_over()  # kill the primary and wait for the replica to be made one
        redis.restart()    # start what was killed, as a replica

They die with this process.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import redis

from services.standalone.embedded import RedisServer, die_with_parent, free_port, start_redis, wheel_valkey_binary

SERVICE = "seats"
SENTINELS = 3
LOOPBACK = "127.0.0.1"
WAIT_S = 20.0
_SENTINEL = """
port {port}
bind 127.0.0.1
sentinel monitor {service} 127.0.0.1 {primary} 2
sentinel down-after-milliseconds {service} {down_after_ms}
sentinel failover-timeout {service} 1000
"""


class SentinelRedis:
    def __init__(self, folder: Path, stack: ExitStack, down_after_ms: int) -> None:
        self._folder = folder
        self._stack = stack
        self._servers = {port: self._start(port) for port in (free_port(), free_port())}
        first, second = self._servers
        with connect(second) as replica:
            replica.replicaof(LOOPBACK, first)
        self._sentinels = [self._watch(number, first, down_after_ms) for number in range(SENTINELS)]
        wait_until(lambda: _in_step(first) and all(self._knows_all(port) for port in self._sentinels))

    @property
    def url(self) -> str:
        hosts = ",".join(f"{LOOPBACK}:{port}" for port in self._sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}?db=0"

    @property
    def primary(self) -> int:
        """The port of the primary, as most Sentinels name it."""
        named = [port for sentinel in self._sentinels if (port := _named(sentinel)) is not None]
        return max(named, key=named.count)

    @property
    def primaries(self) -> list[int]:
        return [self.primary]

    def server(self, port: int) -> RedisServer:
        return self._servers[port]

    def fail_over(self, *, kill: bool = True, wait: bool = True) -> None:
        """Have the replica made the primary: the old one killed or, without `kill`, told to follow it."""
        old = self.primary
        if kill:
            os.kill(self._servers[old].pid, signal.SIGKILL)
        else:
            wait_until(lambda: _told_to_fail_over(self._sentinels[0]))
        if wait:
            wait_until(lambda: self.primary != old and _role(self.primary) == "master")

    def restart(self) -> None:
        """Start the server that was killed, empty, as a replica; returns when it is in step."""
        for port, server in self._servers.items():
            if not server.running:
                server.stop()
                self._servers[port] = self._start(port)
                with connect(port) as replica:
                    replica.replicaof(LOOPBACK, self.primary)
        wait_until(lambda: _in_step(self.primary))

    def _start(self, port: int) -> RedisServer:
        options = {"repl-diskless-sync-delay": "0", "repl-ping-replica-period": "1"}
        server = start_redis(self._folder / f"redis-{port}", binary=wheel_valkey_binary(), port=port, options=options)
        self._stack.callback(server.stop)
        return server

    def _watch(self, number: int, primary: int, down_after_ms: int) -> int:
        port, parent = free_port(), os.getpid()
        config = self._folder / f"sentinel-{number}.conf"
        config.write_text(_SENTINEL.format(port=port, service=SERVICE, primary=primary, down_after_ms=down_after_ms))
        with (self._folder / f"sentinel-{number}.log").open("wb") as log:
            process = subprocess.Popen(
                [str(wheel_valkey_binary()), str(config), "--sentinel"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(signal.SIGKILL, parent),
            )
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return port

    def _knows_all(self, sentinel: int) -> bool:
        with suppress(redis.RedisError), connect(sentinel) as client:
            state = client.sentinel_masters()[SERVICE]
            return bool(state["num-other-sentinels"] == SENTINELS - 1 and state["num-slaves"] == 1)
        return False


@contextmanager
def running_sentinel(folder: Path, *, down_after_ms: int = 500) -> Iterator[SentinelRedis]:
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        yield SentinelRedis(folder, stack, down_after_ms)


def connect(port: int) -> "redis.Redis":
    return redis.Redis(host=LOOPBACK, port=port, protocol=2, socket_timeout=1, decode_responses=True)


def wait_until(holds: Callable[[], bool], *, within_s: float = WAIT_S) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"it did not come true within {within_s:.0f} s")
        time.sleep(0.05)


def _role(port: int) -> str:
    with suppress(redis.RedisError), connect(port) as client:
        return str(client.info("replication")["role"])
    return ""


def _in_step(primary: int) -> bool:
    """Whether the primary has a replica that has all of it."""
    with suppress(redis.RedisError), connect(primary) as client:
        told = client.info("replication")
        return bool(told["role"] == "master" and told.get("slave0", {}).get("state") == "online")
    return False


def _told_to_fail_over(sentinel: int) -> bool:
    """A Sentinel refuses while it does not yet know of a replica that it could promote."""
    with suppress(redis.ResponseError), connect(sentinel) as client:
        return bool(client.execute_command(f"SENTINEL FAILOVER {SERVICE}"))
    return False


def _named(sentinel: int) -> int | None:
    with suppress(redis.RedisError), connect(sentinel) as client:
        address = client.sentinel_get_master_addr_by_name(SERVICE)
        return int(address[1]) if address else None
    return None

"""Postgres and Redis of a world, as one breaks them. Both keep their ports and data over whatever happens to them."""

import os
import shutil
import signal
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypeVar

import redis

from services.standalone.embedded import (
    PostgresServer,
    RedisServer,
    free_port,
    start_postgres,
    start_redis,
    wheel_postgres_binaries,
    wheel_valkey_binary,
)
from tests.faults.disk import Disk

DATABASE = "seatkeeper"
_POSTGRES_OPTIONS = {
    "shared_buffers": "128MB",
    "max_connections": "200",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "10min",
    "log_checkpoints": "off",
}
_REDIS_OPTIONS = {"appendonly": "yes", "appendfsync": "everysec"}


_Server = TypeVar("_Server", PostgresServer, RedisServer)


class _Store(ABC, Generic[_Server]):
    """A server that keeps its port and its data, stopped with its context."""

    def __init__(self) -> None:
        self.port = free_port()
        self._server: _Server = self._started()

    @abstractmethod
    def _started(self) -> _Server: ...

    @property
    def pids(self) -> list[int]:
        """All of its processes, the parent of the others first."""
        return [self._server.pid, *children_of(self._server.pid)]

    def kill(self) -> None:
        """All of its processes at once, so that what they held in memory is gone."""
        send(self.pids, signal.SIGKILL)
        self._server.stop()

    def stop(self) -> None:
        self._server.stop()

    def start(self) -> None:
        if not self._server.running:
            self._server = self._started()

    def freeze(self) -> None:
        send(self.pids, signal.SIGSTOP)

    def thaw(self) -> None:
        send(self.pids, signal.SIGCONT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.thaw()
        self.stop()


class Postgres(_Store[PostgresServer]):
    def __init__(self, disk: Disk, surroundings: Mapping[str, str]) -> None:
        self._disk = disk
        self._surroundings = surroundings
        super().__init__()

    def dsn(self, database: str, role: str, port: int | None = None) -> str:
        return f"postgresql://{role}@127.0.0.1:{port or self.port}/{database}?sslmode=disable"

    def fill_disk(self) -> None:
        self._disk.fill(self.pids)

    def free_disk(self) -> None:
        self._disk.free(self.pids if self._server.running else [])

    def _started(self) -> PostgresServer:
        return start_postgres(
            self._disk.folder,
            binaries=wheel_postgres_binaries(),
            options=_POSTGRES_OPTIONS,
            port=self.port,
            takeover_s=20,
            sync_new_cluster=False,
            surroundings=self._surroundings,
        )


class Redis(_Store[RedisServer]):
    """Its data outlive a kill unless they are lost on purpose."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._copy = folder / "old-copy"
        super().__init__()

    @property
    def url(self) -> str:
        return self.url_at(self.port)

    def url_at(self, port: int) -> str:
        return f"redis://127.0.0.1:{port}/0"

    @property
    def _data(self) -> Path:
        return self._folder / "redis"

    def empty(self) -> None:
        with redis.Redis(port=self.port) as client:
            client.flushall()

    def keep_copy(self) -> None:
        """Of the data as they are now, while the server runs; the end of what it writes may be cut off in it."""
        shutil.rmtree(self._copy, ignore_errors=True)
        shutil.copytree(self._data, self._copy)

    def lose_data(self) -> None:
        """While it does not run."""
        for path in self._data.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def put_copy_back(self) -> None:
        """While it does not run."""
        self.lose_data()
        shutil.copytree(self._copy, self._data, dirs_exist_ok=True)
        owner = self._data.stat()
        for path in self._data.rglob("*"):
            os.chown(path, owner.st_uid, owner.st_gid)

    def _started(self) -> RedisServer:
        return start_redis(
            self._folder, binary=wheel_valkey_binary(), options=_REDIS_OPTIONS, port=self.port, takeover_s=20
        )


def children_of(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(path.parent.name))
    return found


def send(pids: Sequence[int], signum: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signum)

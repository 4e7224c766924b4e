"""Postgres with a synchronous standby: every commit is on both before it is answered. Private, on loopback.

    with running_standby(folder) as postgres:
        postgres.dsn("seatkeeper", "seatkeeper_activation")   # both hosts, the writable one is found
        postgres.promote()   # kill the primary with -9 and make the standby the primary
        postgres.rejoin()    # a new standby in place of what was killed

What is promoted waits for no standby until one rejoins, as an orchestrator would have it. They die with this process.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from services.standalone.accounts import account_for
from services.standalone.embedded import (
    SUPERUSER,
    PostgresServer,
    free_port,
    start_postgres,
    wheel_postgres_binaries,
)

LOOPBACK = "127.0.0.1"
START_S = 30.0
_OPTIONS = {
    "shared_buffers": "64MB",
    "max_connections": "200",
    "wal_level": "replica",
    "max_wal_senders": "4",
    "wal_receiver_status_interval": "1",
    "wal_retrieve_retry_interval": "200ms",
}


class StandbyPostgres:
    """Its hosts are two ports; who of them is the primary changes."""

    def __init__(self, folder: Path, stack: ExitStack, options: Mapping[str, str]) -> None:
        self._folder = folder
        self._stack = stack
        self._options = {**_OPTIONS, **options}
        self._started = 0
        self._binaries = wheel_postgres_binaries()
        self._ports = [free_port(), free_port()]
        self.primary = self._start(self._ports[0])
        self.standby: PostgresServer | None = None
        self._old: PostgresServer | None = None
        self.rejoin()

    def dsn(self, database: str, user: str = SUPERUSER) -> str:
        """Both hosts, over TCP; for asyncpg and libpq alike."""
        hosts = ",".join(f"{LOOPBACK}:{port}" for port in self._ports)
        options = "target_session_attrs=read-write&sslmode=disable"
        return f"postgresql://{quote(user)}@{hosts}/{quote(database)}?{options}"

    def promote(self, *, kill: int = signal.SIGKILL) -> PostgresServer:
        """Kill the primary, or with SIGSTOP leave it hanging, and make the standby the primary; returns the old one."""
        assert self.standby is not None
        self._old, self.primary, self.standby = self.primary, self.standby, None
        _signal(self._old, kill)
        self.ask("SELECT pg_promote()")
        self._synchronous("")
        return self._old

    def rejoin(self) -> None:
        """Copy the primary into a new standby in place of the old server, and have commits wait for it."""
        self.bury()
        (port,) = {*self._ports} - {self.primary.port}
        self.standby = self._start(port, copied=True)
        self._synchronous(_name(port))
        wait_until(lambda: self.ask("SELECT sync_state FROM pg_stat_replication") == "sync")

    def bury(self) -> None:
        """End the old server, should it only hang."""
        if self._old is not None:
            _signal(self._old, signal.SIGKILL)
            self._old.stop()
            self._old = None

    def ask(self, statement: str, database: str = "postgres") -> str:
        """What the primary answers."""
        command = [str(self._binaries / "psql"), "-XAtq", "-c", statement, self.primary.dsn(database)]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=START_S).stdout.strip()

    def _synchronous(self, names: str) -> None:
        self.ask(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
        self.ask("SELECT pg_reload_conf()")

    def _start(self, port: int, *, copied: bool = False) -> PostgresServer:
        self._started += 1
        folder = self._folder / f"postgres-{self._started}"
        if copied:
            self._copy(folder / "postgres")
        wait_until(lambda: _is_free(port))
        server = start_postgres(
            folder,
            binaries=self._binaries,
            port=port,
            options={**self._options, "cluster_name": _name(port)},
            sync_new_cluster=False,
        )
        self._stack.callback(server.stop)
        return server

    def _copy(self, data: Path) -> None:
        data.parent.mkdir(parents=True)
        command = [str(self._binaries / "pg_basebackup"), "-D", str(data), "-d", self.primary.tcp_dsn("postgres")]
        command += ["--write-recovery-conf", "--checkpoint=fast", "--no-sync"]
        subprocess.run(command, capture_output=True, check=True, timeout=START_S)
        account = account_for(data)
        for path in (data, *data.rglob("*")):
            shutil.chown(path, account.uid, account.gid)


@contextmanager
def running_standby(folder: Path, *, options: Mapping[str, str] | None = None) -> Iterator[StandbyPostgres]:
    with ExitStack() as stack:
        postgres = StandbyPostgres(folder, stack, options or {})
        stack.callback(postgres.bury)
        yield postgres


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_S
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"it did not come true within {START_S:.0f} s")
        time.sleep(0.05)


def _name(port: int) -> str:
    """By it the standby makes itself known, and the primary waits for it."""
    return f"host_{port}"


def _signal(server: PostgresServer, number: int) -> None:
    if server.running:
        for pid in family(server.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def family(postmaster: int) -> list[int]:
    """The postmaster and its children."""
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    return [postmaster, *map(int, children)]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) != 0

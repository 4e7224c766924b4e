"""The launcher of private servers, tried with the programs that the standalone runs on.

Each server lives in a folder of the test's own. The tests are not async: the launcher wants no running loop.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis

from services.standalone.embedded import (
    EmbeddedServerError,
    PostgresServer,
    RedisServer,
    free_port,
    start_postgres,
    start_redis,
    wheel_postgres_binaries,
    wheel_valkey_binary,
)

ROOT = Path(__file__).resolve().parents[2]
PARENT = """
import sys, time
from pathlib import Path
from services.standalone.embedded import *
folder = Path(sys.argv[1])
postgres = start_postgres(folder, binaries=wheel_postgres_binaries(), sync_new_cluster=False)
redis = start_redis(folder, binary=wheel_valkey_binary())
print(postgres.pid, redis.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds both servers in `tmp_path`."""
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    yield process
    process.kill()
    process.wait()


def test_postgres_keeps_its_data_over_a_restart(tmp_path: Path) -> None:
    with postgres(tmp_path) as server:
        query(server.dsn("postgres"), "CREATE TABLE kept AS SELECT 7 AS value")
    with postgres(tmp_path) as server:
        assert query(server.dsn("postgres"), "SELECT value FROM kept") == 7


def test_postgres_is_durable_ordered_by_code_point_and_listens_on_no_port(tmp_path: Path) -> None:
    with postgres(tmp_path) as server:
        assert query(server.dsn("postgres"), "SELECT current_setting('fsync')") == "on"
        assert query(server.dsn("postgres"), "SELECT current_setting('listen_addresses')") == ""
        assert query(server.dsn("postgres"), "SELECT 'a' > 'B' AND upper('é') = 'É'") is True


def test_valkey_keeps_its_data_over_a_restart_when_asked_to(tmp_path: Path) -> None:
    for expected in (None, b"7"):
        with valkey(tmp_path, {"appendonly": "yes"}) as server, redis.Redis.from_url(server.url) as client:
            assert client.get("kept") == expected
            client.set("kept", "7")


def test_servers_listen_on_loopback_when_given_a_port(tmp_path: Path) -> None:
    database = start_postgres(tmp_path, binaries=wheel_postgres_binaries(), port=free_port(), sync_new_cluster=False)
    cache = start_redis(tmp_path, binary=wheel_valkey_binary(), port=free_port())
    with database, cache, redis.Redis.from_url(cache.tcp_url) as client:
        assert query(database.tcp_dsn("postgres"), "SELECT 7") == 7
        assert client.ping()


def test_servers_end_with_a_parent_that_is_killed(tmp_path: Path, parent: subprocess.Popen[str]) -> None:
    pids = server_pids(parent)
    parent.kill()
    parent.wait()
    for pid in pids:
        assert ends_within(pid, seconds=5)


def test_a_start_right_after_a_kill_finds_every_committed_row(tmp_path: Path, parent: subprocess.Popen[str]) -> None:
    server_pids(parent)
    socket_of_other = dsn_in_use(tmp_path)
    query(socket_of_other, "CREATE TABLE kept AS SELECT 7 AS value")
    parent.kill()
    with postgres(tmp_path) as server, valkey(tmp_path):
        assert query(server.dsn("postgres"), "SELECT value FROM kept") == 7


def test_a_folder_in_use_is_refused_in_one_clear_line(tmp_path: Path, parent: subprocess.Popen[str]) -> None:
    server_pids(parent)
    with pytest.raises(EmbeddedServerError, match=rf"in use by another running instance \(process {parent.pid}\)"):
        start_postgres(tmp_path, binaries=wheel_postgres_binaries(), takeover_s=0.2)
    with pytest.raises(EmbeddedServerError, match="in use by another running instance"):
        start_redis(tmp_path, binary=wheel_valkey_binary(), takeover_s=0.2)


def test_a_refused_start_leaves_the_running_server_reachable(tmp_path: Path) -> None:
    with postgres(tmp_path) as server:
        with pytest.raises(EmbeddedServerError):
            start_postgres(tmp_path, binaries=wheel_postgres_binaries(), takeover_s=0)
        assert query(server.dsn("postgres"), "SELECT 7") == 7


def test_a_failed_start_reports_the_servers_last_words(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedServerError, match="no_such_setting"):
        start_redis(tmp_path, binary=wheel_valkey_binary(), options={"no_such_setting": "1"})


def test_a_half_made_cluster_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "postgres.new").mkdir()
    (tmp_path / "postgres.new" / "PG_VERSION").write_text("18\n")
    with postgres(tmp_path) as server:
        assert query(server.dsn("postgres"), "SELECT 7") == 7


def test_a_stop_leaves_no_socket_behind(tmp_path: Path) -> None:
    with valkey(tmp_path) as server:
        place = Path(server.url.removeprefix("unix://")).parent
        assert place.stat().st_mode & 0o777 == 0o700
    assert not place.exists()


def postgres(folder: Path) -> PostgresServer:
    return start_postgres(folder, binaries=wheel_postgres_binaries(), sync_new_cluster=False)


def valkey(folder: Path, options: dict[str, str] | None = None) -> RedisServer:
    return start_redis(folder, binary=wheel_valkey_binary(), options=options)


def query(dsn: str, statement: str) -> Any:
    async def run() -> Any:
        connection = await asyncpg.connect(dsn)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    with asyncio.Runner() as runner:
        return runner.run(run())


def server_pids(parent: subprocess.Popen[str]) -> list[int]:
    assert parent.stdout is not None
    return [int(word) for word in parent.stdout.readline().split()]


def dsn_in_use(folder: Path) -> str:
    """The address of the Postgres that another process holds, as its pid file tells it."""
    lines = (folder / "postgres" / "postmaster.pid").read_text().splitlines()
    return f"postgresql://seatkeeper_owner@/postgres?host={lines[4]}&port={lines[3]}"


def ends_within(pid: int, *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not is_alive(pid):
            return True
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    return False


def is_alive(pid: int) -> bool:
    """Not gone, and no zombie that waits to be reaped either."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False

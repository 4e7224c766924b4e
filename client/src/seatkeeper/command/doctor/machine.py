"""The machine as checks read it: files below a root, commands, space, memory, network interfaces.

Everything goes through a `Machine`, so that a test gives another root or another runner of commands. Nothing is changed
here, and no command needs more than the user's own rights; without them it prints nothing, and the check says so.
"""

import asyncio
import os
import platform
import shutil
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

_LONGEST_TAIL = 512 * 1024


class Ran(NamedTuple):
    """A command that ended by itself."""

    status: int
    output: str


Run = Callable[[Sequence[str]], Awaitable[Ran | None]]


class Space(NamedTuple):
    """`free_files` is None where the file system does not count them."""

    free: int
    total: int
    free_files: int | None


class Memory(NamedTuple):
    available: int
    total: int


class Machine(NamedTuple):
    """`run` gives None where there is no such command."""

    root: Path
    system: str
    run: Run
    space: Callable[[Path], Space]
    memory: Callable[[], Memory]

    def text(self, path: str) -> str | None:
        """The end of a file below the root; None where it is missing or may not be read."""
        try:
            return end_of(self.root / path.lstrip("/"))
        except OSError:
            return None


def this_machine() -> Machine:
    return Machine(root=Path("/"), system=platform.system(), run=run_command, space=space_at, memory=memory)


def end_of(path: Path) -> str:
    """The text of a file, of a long one its end. What lies in /proc has no size, and is read from its start."""
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _LONGEST_TAIL))
        return file.read(_LONGEST_TAIL).decode(errors="replace")


async def run_command(arguments: Sequence[str]) -> Ran | None:
    """Run it without a shell; what it prints, errors too, is its output. It ends with the check that asked."""
    program = shutil.which(arguments[0])
    if program is None:
        return None
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments[1:],
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "LC_ALL": "C"},
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Ran(process.returncode or 0, output.decode(errors="replace"))


def space_at(path: Path) -> Space:
    if sys.platform == "win32":
        total, _, free = shutil.disk_usage(path)
        return Space(free, total, None)
    found = os.statvfs(path)
    return Space(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize, found.f_favail or None)


def memory() -> Memory:
    found = psutil.virtual_memory()
    return Memory(found.available, found.total)

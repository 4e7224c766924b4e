"""Room for what the client writes: the disk of its folder, and memory."""

from pathlib import Path

from seatkeeper.command.doctor.finding import Finding, fail, ok, warn
from seatkeeper.command.doctor.subject import Subject

LITTLE_DISK = 100 * 1024 * 1024
NO_DISK = 1024 * 1024
LITTLE_MEMORY = 100 * 1024 * 1024
NO_MEMORY = 20 * 1024 * 1024
_MIB = 1024 * 1024


async def disk(subject: Subject) -> Finding:
    folder = existing(subject.directory or Path.home())
    found = subject.machine.space(folder)
    known = {"folder": str(folder), "free": found.free // _MIB, "total": found.total // _MIB}
    if found.free_files == 0:
        return fail("disk", "no-files", f"df -i {folder}", **known)
    if found.free < NO_DISK:
        return fail("disk", "full", f"df -h {folder}", **known)
    return warn("disk", "little", f"df -h {folder}", **known) if found.free < LITTLE_DISK else ok("disk", **known)


async def memory(subject: Subject) -> Finding:
    found = subject.machine.memory()
    known = {"available": found.available // _MIB, "total": found.total // _MIB}
    if found.available < LITTLE_MEMORY:
        command = {"Linux": "ps aux --sort=-rss | head", "Darwin": "top -o mem -l 1 -n 10"}.get(
            subject.machine.system, "tasklist"
        )
        return (fail if found.available < NO_MEMORY else warn)("memory", "little", command, **known)
    return ok("memory", **known)


def existing(path: Path) -> Path:
    """The folder itself, or the nearest above it that is there."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.exists())

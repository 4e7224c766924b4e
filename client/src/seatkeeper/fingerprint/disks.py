"""The serial number of the disk that the system runs from, where every user may read it.

A file system over several disks has none: which of them is "the" disk would be a matter of order.
"""

import re
from pathlib import Path

from seatkeeper.fingerprint.containers import read

_SERIALS = ("serial", "device/serial", "device/wwid", "device/cid")
"""Of virtio; NVMe; SCSI and SATA; MMC."""


def boot_disk_serial(root: Path) -> str | None:
    block = _root_block(root)
    found = _disks(block) if block is not None else set()
    if len(found) != 1:
        return None
    disk = found.pop()
    return next((text for name in _SERIALS if (text := (read(disk / name) or "").strip())), None)


def _root_block(root: Path) -> Path | None:
    """The block device under `/`: by its number, or by its name where the file system has a number of its own."""
    mounts = re.findall(r"^\d+ \d+ (\d+:\d+) \S+ / .* - \S+ (\S+) ", read(root / "proc/self/mountinfo") or "", re.M)
    if not mounts:
        return None
    number, source = mounts[-1]
    places = (root / "sys/dev/block" / number, root / "sys/class/block" / source.rpartition("/")[2])
    return next((place.resolve() for place in places if place.exists()), None)


def _disks(block: Path) -> set[Path]:
    """The whole disks below a partition, an encrypted or a logical volume."""
    if (block / "partition").exists():
        return _disks(block.parent)
    below = [path.resolve() for path in sorted((block / "slaves").glob("*"))]
    return set().union(*map(_disks, below)) if below else {block}

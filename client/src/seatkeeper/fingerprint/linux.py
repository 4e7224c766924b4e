"""Linux: the machine id, and the first of the hardware's facts that every user may read.

Serial numbers in DMI (`product_uuid`, `board_serial`) are root's alone, and so no facts: root and a user would be two
devices. The order is from what never changes to what people replace.
"""

from pathlib import Path

from seatkeeper.fingerprint import clouds
from seatkeeper.fingerprint.containers import read
from seatkeeper.fingerprint.disks import boot_disk_serial
from seatkeeper.fingerprint.facts import Fact, Stability, known
from seatkeeper.fingerprint.network_cards import first_card

_MACHINE_ID_LENGTH = 32
_CLONED = {
    "85f94e57ab75f80918cab17d001eac85",
    "88544b92092430bc5d3fbbffc12a2f04",
    "3766705eb195582e8168a9a1b913c7c7",
    "ebb19c6b226f48fa86a541fd060e8762",
    "1c4ad377574c4263adbb7c624b6a3429",
}
"""Machine ids that came with images: Debian 10, 11.1, 11.2 and Ubuntu 18.04 for Docker, Ubuntu for Raspberry Pi."""


def facts(root: Path) -> list[Fact]:
    second = clouds.instance_facts(root) if clouds.is_cloud(root) else hardware(root)[:1]
    return known("machine id", Stability.INSTALLATION, machine_id(root)) + second


def hardware(root: Path) -> list[Fact]:
    serials = {
        "device tree serial": read(root / "proc/device-tree/serial-number"),
        "processor serial": _processor_serial(root),
        "network card": first_card(root),
        "boot disk serial": boot_disk_serial(root),
    }
    return [fact for name, value in serials.items() for fact in known(name, Stability.HARDWARE, value)]


def machine_id(root: Path) -> str | None:
    """See machine-id(5); D-Bus had it first, and is read where the other is missing or not made yet."""
    for path in ("etc/machine-id", "var/lib/dbus/machine-id"):
        found = (read(root / path) or "").strip().lower()
        if len(found) == _MACHINE_ID_LENGTH and found not in _CLONED:
            return found
    return None


def _processor_serial(root: Path) -> str | None:
    """On Raspberry Pi and some other boards of ARM; processors of x86 tell none."""
    lines = (read(root / "proc/cpuinfo") or "").splitlines()
    return next((value for name, _, value in (line.partition(":") for line in lines) if name.strip() == "Serial"), None)

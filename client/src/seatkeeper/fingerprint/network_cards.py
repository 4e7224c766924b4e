"""The first network card that is built in, by what sysfs tells every user.

Rules:
- A card counts when it is a wired one on PCI or the board itself. So docks and sticks (USB), what hangs on Thunderbolt
  (`removable`), Wi-Fi, virtual functions and what hypervisors make up (virtio, vmbus, xen) may come and go, as may
  everything without a device: bridges, bonds, veth, VPNs.
- One card is taken, not all: those that the board's firmware numbers come first, then the nearest to the processor. A
  card that is added later stands behind them.
- Its address is the maker's: not one that was set, drawn or taken over from a bond, and without the local bit.
"""

import re
from pathlib import Path

from seatkeeper.fingerprint.containers import read

_ETHERNET = "1"
_MAKERS = "0"
_BUSES = ("pci", "platform")
_LAST = 1 << 30
_LOCAL_OR_GROUP = 0b11


def first_card(root: Path) -> str | None:
    """The address as twelve hexadecimal digits, or None."""
    try:
        found = sorted((root / "sys/class/net").iterdir())
    except OSError:
        return None
    cards = [(_rank(card), address) for card in found if _is_built_in(card) and (address := _address(card))]
    return min(cards, default=(None, None))[1]


def _is_built_in(card: Path) -> bool:
    device = card / "device"
    return (
        (device / "subsystem").resolve().name in _BUSES
        and _line(card / "type") == _ETHERNET
        and _line(device / "removable") != "removable"
        and not any(path.exists() for path in (card / "wireless", card / "phy80211", device / "physfn"))
    )


def _rank(card: Path) -> tuple[int, int, str]:
    device = (card / "device").resolve()
    number = _line(device / "index") or _line(device / "acpi_index")
    return int(number) if number.isdecimal() else _LAST, len(device.parts), str(device)


def _address(card: Path) -> str | None:
    address = _line(card / "bonding_slave/perm_hwaddr")
    if not address and _line(card / "addr_assign_type") == _MAKERS:
        address = _line(card / "address")
    digits = address.replace(":", "").lower()
    if not re.fullmatch(r"[0-9a-f]{12}", digits) or len(set(digits)) == 1:
        return None
    return None if int(digits[:2], 16) & _LOCAL_OR_GROUP else digits


def _line(path: Path) -> str:
    return (read(path) or "").strip()

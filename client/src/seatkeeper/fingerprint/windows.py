"""Windows: the machine's GUID in the registry, and the first number of the hardware in its SMBIOS table.

Every user may read both, a 32-bit program as well. Written with care, and not run on Windows by the tests, which plant
what the system would tell.
"""

import ctypes
import importlib
from collections.abc import Callable
from typing import Any

from seatkeeper.fingerprint.facts import Fact, Stability, known
from seatkeeper.fingerprint.smbios import system_serials

_KEY = r"SOFTWARE\Microsoft\Cryptography"
_RAW_SMBIOS = int.from_bytes(b"RSMB", "big")


def facts(
    machine_guid: Callable[[], str | None] | None = None, firmware: Callable[[], bytes] | None = None
) -> list[Fact]:
    guid = (machine_guid or _machine_guid)()
    serials = system_serials((firmware or _firmware)())
    hardware = [fact for name, value in serials.items() for fact in known(name, Stability.HARDWARE, value)]
    return known("machine GUID", Stability.INSTALLATION, guid and guid.lower()) + hardware[:1]


def _machine_guid() -> str | None:
    winreg: Any = importlib.import_module("winreg")  # exists on Windows alone, as windll does
    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, _KEY, 0, winreg.KEY_READ | winreg.KEY_WOW64_64KEY) as key:
            return str(winreg.QueryValueEx(key, "MachineGuid")[0])
    except OSError:
        return None


def _firmware() -> bytes:
    """The SMBIOS table behind the eight bytes of Windows' RawSMBIOSData."""
    kernel = vars(ctypes)["windll"].kernel32
    size = kernel.GetSystemFirmwareTable(_RAW_SMBIOS, 0, None, 0)
    table = ctypes.create_string_buffer(size)
    read = kernel.GetSystemFirmwareTable(_RAW_SMBIOS, 0, table, size)
    return table.raw[8:] if 0 < read <= size else b""

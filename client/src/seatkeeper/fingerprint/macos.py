"""macOS: the hardware UUID that the firmware tells every user; it stays when the system is installed anew.

Not run on macOS by the tests, which read what `ioreg` printed there.
"""

from collections.abc import Callable

import machineid

from seatkeeper.fingerprint.facts import Fact, Stability, known


def facts(platform_uuid: Callable[[], str] = machineid.id) -> list[Fact]:
    try:
        return known("platform UUID", Stability.HARDWARE, platform_uuid())
    except machineid.MachineIdNotFound:
        return []

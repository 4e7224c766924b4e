"""What makes a device this device: a SHA-256 over facts of the machine that stay the same.

Rules (`docs/decisions/0013-what-makes-a-fingerprint.md`):
- Two facts: which installation of a system, and on which hardware. Of the hardware it is the first fact that is there,
  from what never changes to what people replace. In a cloud the instance stands for the hardware; in a container an id
  that is kept with its state stands for both.
- A fact is what every user of the machine can read: root and a user are the same device.
- Docks, sticks, Wi-Fi, VPNs, added cards and disks, updates of the system and the firmware change nothing. A system
  that is installed anew or put onto other hardware is another device.
- Each fact is hashed on its own with the product as salt, then all of them: two products do not know the same machine,
  and nothing raw leaves it.
- `SEATKEEPER_FINGERPRINT` is taken as it is written, 1 to 256 printable characters.
"""

import os
import socket
import sys
from collections.abc import Mapping
from enum import StrEnum
from hashlib import sha256
from pathlib import Path

import machineid
import msgspec

from seatkeeper import paths
from seatkeeper.errors import ConfigurationError
from seatkeeper.fingerprint import clouds, containers, linux, macos, windows
from seatkeeper.fingerprint.facts import Fact, Stability, Weakness, known, weakness
from seatkeeper.texts import Sentence

__all__ = [
    "VARIABLE",
    "Fact",
    "Stability",
    "Surroundings",
    "Weakness",
    "compose",
    "facts",
    "fingerprint",
    "surroundings",
    "weakness",
]

VARIABLE = "SEATKEEPER_FINGERPRINT"
_FORM = "seatkeeper-fingerprint/1"
_LONGEST = 256
_ROOT = Path("/")


class Surroundings(StrEnum):
    MACHINE = "machine"
    CLOUD = "cloud"
    CONTAINER = "container"


def fingerprint(product: str, environ: Mapping[str, str] = os.environ, *, root: Path = _ROOT) -> str:
    """64 hexadecimal digits, or what `SEATKEEPER_FINGERPRINT` says."""
    if VARIABLE in environ:
        return _as_written(environ[VARIABLE])
    return compose(product, facts(environ, root=root))


def facts(environ: Mapping[str, str] = os.environ, *, root: Path = _ROOT) -> list[Fact]:
    """Those that make up the fingerprint; see `weakness` for what they leave to be desired."""
    if VARIABLE in environ:
        return [Fact(name=VARIABLE, stability=Stability.SETTING, value=environ[VARIABLE])]
    if surroundings(environ, root=root) is Surroundings.CONTAINER:
        return _kept(environ)
    return _of_platform(root) or _kept(environ)


def surroundings(environ: Mapping[str, str] = os.environ, *, root: Path = _ROOT) -> Surroundings:
    if containers.is_container(root, environ):
        return Surroundings.CONTAINER
    return Surroundings.CLOUD if clouds.is_cloud(root) else Surroundings.MACHINE


def compose(product: str, facts: list[Fact]) -> str:
    digests = sorted(sha256(msgspec.json.encode([_FORM, product, fact.name, fact.value])).digest() for fact in facts)
    return sha256(b"".join(digests)).hexdigest()


def _of_platform(root: Path) -> list[Fact]:
    read = {"linux": lambda: linux.facts(root), "darwin": macos.facts, "win32": windows.facts}
    return read.get(sys.platform, _of_others)()


def _of_others() -> list[Fact]:
    try:
        return known("machine id", Stability.INSTALLATION, machineid.id())
    except machineid.MachineIdNotFound:
        return []


def _kept(environ: Mapping[str, str]) -> list[Fact]:
    return containers.container_facts(paths.state_home(environ), socket.gethostname())


def _as_written(text: str) -> str:
    written = text.strip()
    if not written.isprintable() or not 0 < len(written) <= _LONGEST:
        raise ConfigurationError(Sentence("error.setting.fingerprint", variable=VARIABLE, longest=_LONGEST))
    return written

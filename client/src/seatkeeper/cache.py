"""What a device keeps between runs: its seat, in one small file that opens on this device alone.

Rules: sealed by AES-256-GCM under a key that derives from the device's fingerprint, so that a copy is of no use
elsewhere; written whole or not at all, for its owner alone. A file that does not open, damaged or of another device, is
set aside and counts as none: it never stops a program, and neither does a disk that cannot be written.
"""

import logging
import os
from datetime import datetime
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from seatkeeper import private_files

FORM = b"SKC1"
KEPT_ASIDE = 3

_NONCE_BYTES = 12
_log = logging.getLogger("seatkeeper")


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A genuine no that stands until the server says yes."""

    code: str
    detail: str
    reason: str | None = None


class Kept(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`lease` is the signed text, `valid_until` its end. `seen_s` is the highest time seen and `ahead_s` how far the
    machine's clock is ahead of the server's, see `seatkeeper.trusted_time`. `intent` is an activation that was sent and
    not answered; `leaving` tells the same of the seat's return. Its repr shows nothing."""

    device_id: str | None = None
    generation: int = 0
    device_token: str | None = None
    lease: str | None = None
    valid_until: datetime | None = None
    counter: int = 0
    seen_s: float = 0.0
    ahead_s: float = 0.0
    last_contact_s: float | None = None
    refusal: Refusal | None = None
    intent: bytes | None = None
    leaving: bool = False
    released: bool = False
    last_reset_time: datetime | None = None

    def __repr__(self) -> str:
        return f"Kept(device_id={self.device_id}, generation={self.generation})"


class Cache:
    """The file `state.bin` in a folder of the device's own. `secret` is its fingerprint."""

    def __init__(self, directory: Path, *, product: str, secret: bytes) -> None:
        self.path = directory / "state.bin"
        self._product = product.encode()
        kdf = HKDF(hashes.SHA256(), length=32, salt=self._product, info=b"seatkeeper/cache/1")
        self._cipher = AESGCM(kdf.derive(secret))

    def read(self) -> Kept | None:
        """What is kept, or None where nothing is that opens here."""
        try:
            sealed = private_files.read(self.path)
            return None if sealed is None else self._opened(sealed)
        except (InvalidTag, ValueError):
            self._set_aside()
        except OSError as error:
            _log.warning("the cache %s cannot be read: %s", self.path, error.strerror)
        return None

    def peek(self) -> Kept | None:
        """The same, for those who look and change nothing: what does not open stays where it is."""
        try:
            sealed = private_files.read(self.path)
            return None if sealed is None else self._opened(sealed)
        except (InvalidTag, ValueError, OSError):
            return None

    def write(self, kept: Kept) -> bool:
        """Whether it could be kept."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = FORM + nonce + self._cipher.encrypt(nonce, msgspec.json.encode(kept), FORM + self._product)
        try:
            private_files.write(self.path, sealed)
        except OSError as error:
            _log.warning("the cache %s cannot be written: %s", self.path, error.strerror)
            return False
        return True

    def clear(self) -> None:
        self.path.unlink(missing_ok=True)

    def _opened(self, sealed: bytes) -> Kept:
        body = sealed.removeprefix(FORM)
        if len(body) == len(sealed):
            raise ValueError("not a cache")
        plain = self._cipher.decrypt(body[:_NONCE_BYTES], body[_NONCE_BYTES:], FORM + self._product)
        return msgspec.json.decode(plain, type=Kept)

    def _set_aside(self) -> None:
        try:
            aside = private_files.set_aside(self.path)
            for older in sorted(self.path.parent.glob(f"{self.path.name}.corrupt-*"))[:-KEPT_ASIDE]:
                older.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("the cache %s does not open here: %s", self.path, error.strerror)
            return
        _log.warning("the cache did not open on this device, and is set aside as %s", aside)

"""The installation's master secrets and every symmetric key derived from them.

- A master secret is 32 random bytes under a short key id (1 to 8 of a-z and 0-9). What is made now uses `current`;
  the others stay so that what was made earlier can still be read. Rotate by adding one and moving `current` to it.
- One secret, many uses: each purpose has a key of its own by HKDF-SHA-256 (RFC 5869), so none stands in for another.
- No secret is ever in a repr or an error. A key id that has not the shape of one is not shown either, as it may be a
  secret that was put in the wrong place.
"""

import base64
import re
from collections.abc import Mapping
from enum import StrEnum

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SECRET_BYTES = 32
KEY_ID_LENGTH = 8

_KEY_ID = re.compile(r"[a-z0-9]{1,8}")


class Purpose(StrEnum):
    """What a derived key is for. The values are part of every derivation and never change."""

    LICENSE_KEY_PEPPER = "license-key-pepper"
    DEVICE_TOKEN = "device-token"  # noqa: S105 (the name of a purpose)
    MANAGEMENT_TOKEN = "management-token"  # noqa: S105 (the name of a purpose)
    KEY_ENCRYPTION = "key-encryption"
    TRAIL_SEAL = "trail-seal"


class MasterSecrets:
    """Master secrets by key id. ValueError if an id, a length or `current` is wrong."""

    __slots__ = ("_derived", "_keys", "current", "key_ids")

    def __init__(self, keys: Mapping[str, bytes], current: str) -> None:
        for key_id, secret in keys.items():
            _check(key_id, secret)
        if current not in keys:
            raise ValueError("the current master secret is not among the master secrets")
        self._keys = dict(keys)
        self._derived: dict[tuple[str, Purpose], bytes] = {}
        self.current = current
        self.key_ids = (current, *sorted(key_id for key_id in keys if key_id != current))
        """All key ids, the current one first."""

    @classmethod
    def from_base64(cls, mapping: Mapping[str, str], current: str) -> "MasterSecrets":
        """Read the secrets from standard base64, as `openssl rand -base64 32` writes them."""
        return cls({key_id: _decoded(text) for key_id, text in mapping.items()}, current)

    def derive(self, key_id: str, purpose: Purpose) -> bytes:
        """The 32-byte key for a purpose; KeyError for a key id that is not held."""
        derived = self._derived.get((key_id, purpose))
        if derived is None:
            hkdf = HKDF(hashes.SHA256(), length=SECRET_BYTES, salt=None, info=f"seatkeeper/{purpose}".encode())
            derived = self._derived[key_id, purpose] = hkdf.derive(self._keys[key_id])
        return derived

    def __repr__(self) -> str:
        return f"MasterSecrets(key_ids={self.key_ids!r}, current={self.current!r})"


def _check(key_id: str, secret: bytes) -> None:
    if not _KEY_ID.fullmatch(key_id):
        raise ValueError("the id of a master secret must be 1 to 8 characters of a-z and 0-9")
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"the master secret {key_id!r} must be {SECRET_BYTES} bytes (in base64 where it is text)")


def _decoded(text: str) -> bytes:
    """The bytes, or none of them: an exception of the decoder would carry the text, so it must not leave here."""
    try:
        return base64.b64decode(text.strip(), validate=True)
    except ValueError:
        return b""

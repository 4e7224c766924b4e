"""How a bearer secret is stored and found again: HMAC-SHA-256 under a pepper, never the secret itself.

- What is stored is the digest and the id of its pepper. A look-up asks for the digests under every pepper held,
  so that keys stored before a rotation are still found.
- Serves license keys (their canonical text) and management tokens, each under the pepper of its own purpose.
"""

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC

from shared.signing.secrets import MasterSecrets, Purpose


class KeyDigest(msgspec.Struct, frozen=True, kw_only=True):
    """A stored digest (32 bytes) and the id of the master secret whose pepper made it."""

    key_id: str
    digest: bytes


class LicenseKeyHasher:
    """Digests under the peppers of one purpose. About a microsecond each."""

    __slots__ = ("_macs",)

    def __init__(self, master: MasterSecrets, purpose: Purpose = Purpose.LICENSE_KEY_PEPPER) -> None:
        self._macs = [(key_id, HMAC(master.derive(key_id, purpose), hashes.SHA256())) for key_id in master.key_ids]

    def digest(self, canonical: str) -> KeyDigest:
        """The digest to store, under the current pepper."""
        key_id, mac = self._macs[0]
        return KeyDigest(key_id=key_id, digest=_mac(mac, _encoded(canonical)))

    def digests(self, canonical: str) -> list[bytes]:
        """The digests of `candidates` alone."""
        text = _encoded(canonical)
        return [_mac(mac, text) for _, mac in self._macs]

    def candidates(self, canonical: str) -> list[KeyDigest]:
        """The digests to look for, under every pepper, the current one first."""
        text = _encoded(canonical)
        return [KeyDigest(key_id=key_id, digest=_mac(mac, text)) for key_id, mac in self._macs]


def _encoded(text: str) -> bytes:
    """UTF-8 that never fails: an encoding error would carry the secret."""
    return text.encode("utf-8", "surrogatepass")


def _mac(prepared: HMAC, text: bytes) -> bytes:
    mac = prepared.copy()
    mac.update(text)
    return mac.finalize()

"""The MAC of a seal over the trail: HMAC-SHA-256 under a key derived from a master secret, which no database holds.

What was sealed names its master secret by id, so that it can still be checked after a rotation while that one is held.
"""

import hashlib
import hmac

from shared.signing.secrets import MasterSecrets, Purpose


class TrailStamp:
    def __init__(self, secrets: MasterSecrets) -> None:
        self._secrets = secrets

    @property
    def key_id(self) -> str:
        """The master secret under which seals are made now."""
        return self._secrets.current

    def make(self, hash: bytes) -> bytes:
        return self._mac(self.key_id, hash)

    def fits(self, key_id: str, hash: bytes, mac: bytes) -> bool | None:
        """Whether the MAC is the one of this hash; None when the master secret is not held."""
        if key_id not in self._secrets.key_ids:
            return None
        return hmac.compare_digest(self._mac(key_id, hash), mac)

    def _mac(self, key_id: str, hash: bytes) -> bytes:
        return hmac.digest(self._secrets.derive(key_id, Purpose.TRAIL_SEAL), hash, hashlib.sha256)

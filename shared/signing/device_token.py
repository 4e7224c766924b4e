"""The device token: what a device shows with each heartbeat, believed without a database read.

- `skd1.` and base64url of: key id (8 bytes, NUL-padded), account, license, device (16 each), generation (u32, big
  endian), and a MAC: HMAC-SHA-256 truncated to 18 bytes, under the device-token key of that key id.
- The 78 bytes fill 104 characters with no bit to spare, so each token has one text and any change of it is a forgery.
- A token says who speaks, not that the seat is held: the generation is for the ledger and the projection to judge.
- `verify` answers None to anything that this installation has not issued, and never raises.
"""

import struct
import uuid

from cryptography.hazmat.primitives import constant_time, hashes
from cryptography.hazmat.primitives.hmac import HMAC

from shared.signing import base64url
from shared.signing.secrets import KEY_ID_LENGTH, MasterSecrets, Purpose

PREFIX = "skd1."

_BODY = struct.Struct(f">{KEY_ID_LENGTH}s48sI")
_MAC_BYTES = 18
_TOKEN = struct.Struct(f"{_BODY.format}{_MAC_BYTES}s")
_TEXT_LENGTH = len(PREFIX) + _TOKEN.size * 4 // 3


class DeviceClaims:
    """Who a token speaks for: one generation (0 to 2^32 - 1) of a device under a license of an account.

    `ids` are the three, 16 bytes each. Most heartbeats are answered by these alone: to make UUIDs of them took a fifth
    of the time that the service itself spends on one.
    """

    __slots__ = ("generation", "ids")

    def __init__(self, *, account: uuid.UUID, license: uuid.UUID, device: uuid.UUID, generation: int) -> None:
        self.ids = account.bytes + license.bytes + device.bytes
        self.generation = generation

    @property
    def account(self) -> uuid.UUID:
        return uuid.UUID(bytes=self.ids[:16])

    @property
    def license(self) -> uuid.UUID:
        return uuid.UUID(bytes=self.ids[16:32])

    @property
    def device(self) -> uuid.UUID:
        return uuid.UUID(bytes=self.ids[32:])

    @property
    def device_text(self) -> str:
        """The device's id as it is written."""
        pairs = self.ids[32:].hex("-", 2)
        return f"{pairs[:4]}{pairs[5:29]}{pairs[30:34]}{pairs[35:]}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DeviceClaims) and (self.ids, self.generation) == (other.ids, other.generation)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"DeviceClaims(device={self.device_text}, generation={self.generation})"


class DeviceTokens:
    """Issues and verifies device tokens."""

    __slots__ = ("_current", "_macs")

    def __init__(self, master: MasterSecrets) -> None:
        self._current = master.current.encode().ljust(KEY_ID_LENGTH, b"\0")
        self._macs = {
            key_id.encode().ljust(KEY_ID_LENGTH, b"\0"): HMAC(
                master.derive(key_id, Purpose.DEVICE_TOKEN), hashes.SHA256()
            )
            for key_id in master.key_ids
        }

    def issue(self, claims: DeviceClaims) -> str:
        """The token, under the current key."""
        body = _BODY.pack(self._current, claims.ids, claims.generation)
        return PREFIX + base64url.encode(body + _mac(self._macs[self._current], body)).decode()

    def verify(self, text: str) -> DeviceClaims | None:
        """The claims of a token that was issued here under a key that is still held."""
        if len(text) != _TEXT_LENGTH or not text.startswith(PREFIX) or not text.isascii():
            return None
        token = base64url.decode(text[len(PREFIX) :].encode())
        if token is None:
            return None
        key_id, ids, generation, told = _TOKEN.unpack(token)
        mac = self._macs.get(key_id)
        if mac is None or not constant_time.bytes_eq(_mac(mac, token[: _BODY.size]), told):
            return None
        claims = DeviceClaims.__new__(DeviceClaims)
        claims.ids, claims.generation = ids, generation
        return claims


def _mac(prepared: HMAC, body: bytes) -> bytes:
    mac = prepared.copy()
    mac.update(body)
    return mac.finalize()[:_MAC_BYTES]

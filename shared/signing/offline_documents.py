"""What a device without a network signs with its own key: the request for a license file, the receipt for its return.

- Both are JSON that carries its signature (`signed_json`), by the Ed25519 key that the device made for this.
- A request names that key itself; so its signature says only that whoever wrote it holds the key. A receipt is verified
  by the key that was kept when its file was issued.
- A request is known by the SHA-256 of what is signed: its id makes it one of a kind.
"""

from hashlib import sha256
from typing import Final

from shared.signing import base64url, jws, signed_json
from shared.signing.keys import PUBLIC_BYTES, is_sound

REQUEST: Final = "seatkeeper-offline-request/1"
REQUEST_TYP: Final = "seatkeeper-offline-request+jws"
RECEIPT: Final = "seatkeeper-offline-receipt/1"
RECEIPT_TYP: Final = "seatkeeper-offline-receipt+jws"
LONGEST = 16 * 1024


def read(document: bytes) -> tuple[bytes, str] | None:
    """The bytes that are signed, and the signature, which is not verified yet."""
    return signed_json.read(document, longest=LONGEST)


def device_key(x: str) -> bytes | None:
    """The 32 bytes of a device's public key from the `x` of its JWK, if a signature under it proves anything."""
    key = base64url.decode(x.encode())
    return key if key is not None and len(key) == PUBLIC_BYTES and is_sound(key) else None


def is_signed(signed: bytes, signature: str, key: bytes, typ: str) -> bool:
    """Whether the device of this key has signed a document of kind `typ`."""
    return jws.is_signed_detached(signature, signed, key, typ)


def digest(signed: bytes) -> bytes:
    """By what a request is known."""
    return sha256(signed).digest()

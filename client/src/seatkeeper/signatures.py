"""Signatures as they are verified here: up to a root key that the application pins, and by nothing else.

- The algorithm is the key's, never the header's choice: `EdDSA`, or `PS256` with a salt of 32 bytes.
- A JWS (RFC 7515) has one shape: its header is exactly `alg`, `kid` and `typ`, each once, and agrees with the key,
  whose RFC 7638 thumbprint is the `kid`. Second spellings, further members and further segments are refused.
- What is signed is parsed only after its signature has been found good. Verifying answers None or False to whatever is
  not right, and never raises.
"""

import hmac
import json
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from seatkeeper import base64url
from seatkeeper.public_keys import (
    RSA_BYTES,
    RSA_EXPONENT,
    algorithm,
    each_once,
    is_sound,
    public_of,
    read_root_key,
    thumbprint,
)

__all__ = [
    "answer_is_genuine",
    "certified_leaf",
    "decoded",
    "is_signed_detached",
    "read_root_key",
    "sign_detached",
    "unverified_payload",
    "verified",
]

CERTIFICATE_TYP: Final = "seatkeeper-leaf+jwt"
ANSWER_FORM: Final = "seatkeeper-heartbeat/1"

_LONGEST_JWS = 16_384
_LONGEST_HEADER = 256
_SHA256 = hashes.SHA256()
_PSS = padding.PSS(padding.MGF1(_SHA256), salt_length=32)

_T = TypeVar("_T")


class _Certificate(msgspec.Struct, frozen=True):
    iss: str
    leaf: dict[str, str]
    nbf: int
    exp: int


def verified(token: str, public: bytes, typ: str) -> bytes | None:
    """The payload of a compact JWS of kind `typ` that this key has signed."""
    header, payload, signature = _segments(token)
    if not payload or not _is_signed(header, payload, signature, public, typ):
        return None
    return base64url.decode(payload)


def unverified_payload(token: str) -> bytes | None:
    """The payload as it stands, UNVERIFIED: good for finding the key to verify with, and for nothing else."""
    return base64url.decode(_segments(token)[1])


def is_signed_detached(text: str, payload: bytes, public: bytes, typ: str) -> bool:
    """Whether `text` is a detached JWS (RFC 7515, appendix F) of kind `typ` by this key over these bytes."""
    header, between, signature = _segments(text)
    return not between and _is_signed(header, base64url.encode(payload), signature, public, typ)


def sign_detached(private: Ed25519PrivateKey, typ: str, payload: bytes) -> str:
    """A detached JWS of kind `typ` over bytes that travel elsewhere."""
    kid = thumbprint(private.public_key().public_bytes_raw())
    header = base64url.encode(msgspec.json.encode({"alg": "EdDSA", "kid": kid, "typ": typ}))
    signature = private.sign(f"{header}.{base64url.encode(payload)}".encode())
    return f"{header}..{base64url.encode(signature)}"


def certified_leaf(certificate: str, root_public: bytes, *, account: str, now_s: float) -> bytes | None:
    """The raw public key that the root has certified to sign for the account at this time."""
    claims = decoded(verified(certificate, root_public, CERTIFICATE_TYP), _Certificate)
    if claims is None or claims.iss != account or not claims.nbf <= now_s < claims.exp:
        return None
    return public_of(claims.leaf)


def answer_is_genuine(token: str, members: Mapping[str, Any], *, device_id: str, nonce: str | None) -> bool:
    """Whether a heartbeat's answer, or refusal, was made for this device and this request by one who knows its token.

    `token` is the device token, `members` the answer as it came, `nonce` what the request carried.
    """
    if members.get("deviceId") != device_id or members.get("nonce") != nonce:
        return False
    said = [members.get("code") or members.get("state")]
    said += [members.get(name) for name in ("deviceId", "generation", "leaseExpiresAt", "validUntil")]
    said += [members.get(name) for name in ("nextHeartbeatIn", "serverTime", "nonce")]
    lines = [ANSWER_FORM, *("" if value is None else str(value) for value in said)]
    expected = hmac.digest(token.encode(), "\n".join(lines).encode(errors="replace"), "sha256")
    mac = members.get("mac")
    return isinstance(mac, str) and hmac.compare_digest(
        mac.encode(errors="replace"), base64url.encode(expected).encode()
    )


def decoded(payload: bytes | None, shape: type[_T]) -> _T | None:
    """What verified bytes say, or None if they have not the shape."""
    if payload is None:
        return None
    try:
        return msgspec.json.decode(payload, type=shape)
    except (ValueError, RecursionError):
        return None


def _segments(token: str) -> tuple[str, str, str]:
    """The three segments, or empty ones, which verify nothing."""
    segments = token.split(".") if len(token) <= _LONGEST_JWS and token.isascii() else []
    return (segments[0], segments[1], segments[2]) if len(segments) == 3 else ("", "", "")


def _is_signed(header: str, payload: str, signature: str, public: bytes, typ: str) -> bool:
    raw = base64url.decode(signature)
    if raw is None or not is_sound(public) or not _is_header_of(header, public, typ):
        return False
    signing_input = f"{header}.{payload}".encode()
    try:
        if len(public) == RSA_BYTES:
            numbers = rsa.RSAPublicNumbers(RSA_EXPONENT, int.from_bytes(public, "big"))
            numbers.public_key().verify(raw, signing_input, _PSS, _SHA256)
        else:
            Ed25519PublicKey.from_public_bytes(public).verify(raw, signing_input)
    except (InvalidSignature, ValueError):
        return False
    return True


def _is_header_of(segment: str, public: bytes, typ: str) -> bool:
    raw = base64url.decode(segment) if len(segment) <= _LONGEST_HEADER else None
    try:
        header = json.loads((raw or b"").decode(), object_pairs_hook=each_once)
    except (ValueError, RecursionError):
        return False
    return bool(header == {"alg": algorithm(public), "kid": thumbprint(public), "typ": typ})

"""JWS (RFC 7515) in one shape only: compact over JSON claims, by Ed25519 (RFC 8037); detached over any bytes.

- The algorithm belongs to the key, never to the header: the header merely has to agree. A detached signature may also
  be of RSA-3072: PS256 (RFC 7518), whose salt has 32 bytes and no other length.
- The header is exactly `alg`, `kid` and `typ`, each once. Anything else in it (`crit`, `jwk`, `jku`, `x5u`, `b64` …)
  and any second spelling (padding, trailing bits, a fourth segment) is refused rather than ignored.
- `typ` keeps one kind of document from passing for another; `kid` must name a key that the caller trusts.
- Claims are parsed only after the signature has been found good. Whether they have expired is the caller's question.
- Verifying answers None to whatever is not right, and never raises.
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from shared.signing import base64url
from shared.signing.keys import (
    ALGORITHM,
    RSA_ALGORITHM,
    RSA_EXPONENT,
    RSA_PUBLIC_BYTES,
    RsaSigningKey,
    SigningKey,
    is_sound,
    thumbprint,
)

PublicKeys = Mapping[str, Ed25519PublicKey | bytes]
"""Trusted keys by kid: a key object, or its 32 raw bytes."""

LONGEST_TOKEN = 16_384
_LONGEST_HEADER = 256
_SHA256 = hashes.SHA256()
_PSS = padding.PSS(padding.MGF1(_SHA256), salt_length=32)

_T = TypeVar("_T")


def sign(key: SigningKey, typ: str, claims: object) -> str:
    """Sign claims (a msgspec struct or a dict) as a document of kind `typ`."""
    signing_input = _header_segment(ALGORITHM, key.kid, typ) + base64url.encode(msgspec.json.encode(claims))
    return (signing_input + b"." + base64url.encode(key.private.sign(signing_input))).decode()


def sign_detached(key: SigningKey | RsaSigningKey, typ: str, payload: bytes) -> str:
    """Sign bytes that travel elsewhere: a compact JWS of kind `typ` whose middle is empty (RFC 7515, appendix F)."""
    algorithm = ALGORITHM if isinstance(key, SigningKey) else RSA_ALGORITHM
    header = _header_segment(algorithm, key.kid, typ)
    signing_input = header + base64url.encode(payload)
    signed = (
        key.private.sign(signing_input)
        if isinstance(key, SigningKey)
        else key.private.sign(signing_input, _PSS, _SHA256)
    )
    return (header + b"." + base64url.encode(signed)).decode()


def verify(token: str, keys: PublicKeys, typ: str) -> dict[str, Any] | None:
    """The claims of a document of kind `typ` that one of `keys` has signed."""
    return verify_as(token, keys, typ, dict[str, Any])


def verify_as(token: str, keys: PublicKeys, typ: str, shape: type[_T]) -> _T | None:
    """As `verify`, but the claims must also have a shape, such as a msgspec struct."""
    payload = verified_payload(token, keys, typ)
    return None if payload is None else _decoded(payload, shape)


def verified_payload(token: str, keys: PublicKeys, typ: str) -> bytes | None:
    """The signed bytes themselves, once all but their shape has been verified."""
    segments = _segments(token)
    if segments is None:
        return None
    header, payload, signature = segments
    kid = _kid(header, ALGORITHM, typ)
    key = None if kid is None else keys.get(kid)
    raw_signature = base64url.decode(signature)
    if key is None or raw_signature is None or not _is_signed(key, raw_signature, header + b"." + payload):
        return None
    return base64url.decode(payload)


def is_signed_detached(text: str, payload: bytes, public: bytes, typ: str) -> bool:
    """Whether `text` is what `sign_detached` gives for these bytes under the private half of a raw public key."""
    segments = _segments(text)
    if segments is None or segments[1]:
        return False
    header, _, signature = segments
    is_rsa = len(public) == RSA_PUBLIC_BYTES
    raw_signature = base64url.decode(signature)
    if raw_signature is None or _kid(header, RSA_ALGORITHM if is_rsa else ALGORITHM, typ) != thumbprint(public):
        return False
    signing_input = header + b"." + base64url.encode(payload)
    return (_is_signed_by_rsa if is_rsa else _is_signed)(public, raw_signature, signing_input)


def peek_as(token: str, shape: type[_T]) -> _T | None:
    """The claims as they stand, UNVERIFIED: good for finding the keys to verify with, and for nothing else."""
    segments = _segments(token)
    payload = None if segments is None else base64url.decode(segments[1])
    return None if payload is None else _decoded(payload, shape)


def each_once(members: list[tuple[str, object]]) -> dict[str, object]:
    """An `object_pairs_hook` for json: ValueError where a member is named twice."""
    named = dict(members)
    if len(named) != len(members):
        raise ValueError("a member is named twice")
    return named


def _segments(token: str) -> tuple[bytes, bytes, bytes] | None:
    if len(token) > LONGEST_TOKEN or not token.isascii():
        return None
    segments = token.encode().split(b".")
    if len(segments) != 3 or len(segments[0]) > _LONGEST_HEADER:
        return None
    return segments[0], segments[1], segments[2]


@lru_cache(maxsize=4096)
def _header_segment(algorithm: str, kid: str, typ: str) -> bytes:
    return base64url.encode(msgspec.json.encode({"alg": algorithm, "kid": kid, "typ": typ})) + b"."


@lru_cache(maxsize=4096)
def _kid(segment: bytes, algorithm: str, typ: str) -> str | None:
    """The kid of a header that has the one allowed form."""
    raw = base64url.decode(segment)
    try:
        header = json.loads((raw or b"").decode(), object_pairs_hook=each_once)
    except (ValueError, RecursionError):
        return None
    if not isinstance(header, dict) or header.keys() != {"alg", "kid", "typ"}:
        return None
    kid = header["kid"]
    return kid if isinstance(kid, str) and (header["alg"], header["typ"]) == (algorithm, typ) else None


def _is_signed(key: Ed25519PublicKey | bytes, signature: bytes, signing_input: bytes) -> bool:
    try:
        public = Ed25519PublicKey.from_public_bytes(key) if isinstance(key, bytes) else key
        public.verify(signature, signing_input)
    except (InvalidSignature, ValueError):
        return False
    return is_sound(key if isinstance(key, bytes) else key.public_bytes_raw())


def _is_signed_by_rsa(modulus: bytes, signature: bytes, signing_input: bytes) -> bool:
    try:
        public = rsa.RSAPublicNumbers(RSA_EXPONENT, int.from_bytes(modulus, "big")).public_key()
        public.verify(signature, signing_input, _PSS, _SHA256)
    except (InvalidSignature, ValueError):
        return False
    return len(signature) == RSA_PUBLIC_BYTES and is_sound(modulus)


def _decoded(payload: bytes, shape: type[_T]) -> _T | None:
    try:
        return msgspec.json.decode(payload, type=shape)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None

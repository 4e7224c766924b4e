"""Public keys: raw bytes, whose length says the algorithm, so that a document never chooses one.

- 32 bytes are of Ed25519 (`EdDSA`), 384 the modulus of RSA-3072 with the exponent 65537 (`PS256`).
- A key is named by its RFC 7638 thumbprint. Its public form is a JWK with exactly the members that are listed here.
- Keys under which a signature says nothing (points of small order, second spellings) are not sound.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from seatkeeper import base64url
from seatkeeper.errors import ConfigurationError

ED25519_BYTES: Final = 32
RSA_BYTES: Final = 384
RSA_EXPONENT: Final = 65_537
NO_ROOT_KEY: Final = (
    "The root key is not one. Give the 43 characters, or the JWK, that the vendor was shown when the account was made"
    " (`account root-key` prints them again), or the path of a file that holds them."
)

_RSA_E = "AQAB"
_LONGEST_ROOT_KEY = 4096


def read_root_key(text: str) -> bytes:
    """The 32 bytes of a root key: from base64url, from the JWK that `account create` prints, or from a file of either.

    ConfigurationError says what to write instead.
    """
    public = _root_key(text.strip()) or _root_key(_contents(text.strip()))
    if public is None:
        raise ConfigurationError(NO_ROOT_KEY)
    return public


def algorithm(public: bytes) -> str:
    return "PS256" if len(public) == RSA_BYTES else "EdDSA"


def thumbprint(public: bytes) -> str:
    """The RFC 7638 SHA-256 thumbprint of a raw public key."""
    members = json.dumps(_required(public), sort_keys=True, separators=(",", ":"))
    return base64url.encode(hashlib.sha256(members.encode()).digest())


def public_of(jwk: Mapping[str, str]) -> bytes | None:
    """The raw public key of a JWK in the one form that certificates write; None if it is no sound key in that form."""
    public = base64url.decode(jwk.get("n" if jwk.get("kty") == "RSA" else "x", ""))
    if public is None or not is_sound(public):
        return None
    named = {"kid": thumbprint(public), "use": "sig", "alg": algorithm(public)}
    return public if jwk == _required(public) | named else None


def is_sound(public: bytes) -> bool:
    """Whether a signature under this raw public key proves anything."""
    if len(public) == RSA_BYTES:
        return public[0] >= 0x80 and public[-1] & 1 == 1
    return len(public) == ED25519_BYTES and public not in _UNSOUND


def each_once(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """An `object_pairs_hook` for json: ValueError where a member is named twice."""
    named = dict(members)
    if len(named) != len(members):
        raise ValueError("a member is named twice")
    return named


def _required(public: bytes) -> dict[str, str]:
    """The members that make the key (RFC 7638, section 3.2)."""
    value = base64url.encode(public)
    if len(public) == RSA_BYTES:
        return {"kty": "RSA", "n": value, "e": _RSA_E}
    return {"kty": "OKP", "crv": "Ed25519", "x": value}


def _root_key(text: str) -> bytes | None:
    """The key that is written as base64url, or as a JWK, which may stand within the answer of `account create`."""
    x = _x_of_jwk(text) if text.startswith("{") else text
    public = base64url.decode(x)
    return public if public is not None and len(public) == ED25519_BYTES and is_sound(public) else None


def _x_of_jwk(text: str) -> str:
    try:
        members = json.loads(text, object_pairs_hook=each_once)
    except (ValueError, RecursionError):
        return ""
    match members.get("rootKey", members):
        case {"kty": "OKP", "crv": "Ed25519", "x": str(x)}:
            return x
    return members["rootKey"] if isinstance(members.get("rootKey"), str) else ""


def _contents(path: str) -> str:
    try:
        with Path(path).expanduser().open(encoding="utf-8") as file:
            return file.read(_LONGEST_ROOT_KEY).strip()
    except (OSError, ValueError, RuntimeError):
        return ""


def _unsound_points() -> frozenset[bytes]:
    """Every 32 bytes that are a point of order 1, 2, 4 or 8, or name a point by a y that is not below the prime."""
    prime = 2**255 - 19
    y_of_order_8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
    of_small_order = {0, 1, prime - 1, y_of_order_8, prime - y_of_order_8}
    return frozenset(
        (y | sign).to_bytes(32, "little") for y in {*of_small_order, *range(prime, 2**255)} for sign in (0, 1 << 255)
    )


_UNSOUND = _unsound_points()

"""Signing keys as this platform holds and shows them: Ed25519, and RSA-3072 for license files.

- The public half is raw bytes, and its length says the algorithm: 32 of Ed25519 (`EdDSA`), or the 384 of an RSA-3072
  modulus whose exponent is 65537 (`PS256`). So the algorithm belongs to the key: a document never chooses one.
- A key is named by its RFC 7638 thumbprint, so its `kid` follows from the key and cannot be claimed by another.
- The public form is a JWK (RFC 7518, RFC 8037) with exactly the members that `public_jwk` writes.
- Ed25519 keys under which a signature says nothing (points of small order, second spellings) are not sound.
- The private half is in no repr.
"""

import hashlib
from typing import Final, Literal

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.signing import base64url

ALGORITHM: Final = "EdDSA"
RSA_ALGORITHM: Final = "PS256"
PUBLIC_BYTES = 32
RSA_PUBLIC_BYTES = 384
RSA_EXPONENT = 65_537

Role = Literal["root", "leaf"]
PublicJwk = dict[str, str]

_RSA_E = "AQAB"


class SigningKey(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """An Ed25519 private key with its name, its role and its raw public half (32 bytes)."""

    kid: str
    role: Role
    private: Ed25519PrivateKey
    public: bytes

    def __repr__(self) -> str:
        return f"SigningKey(kid={self.kid!r}, role={self.role!r})"


class RsaSigningKey(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """An RSA-3072 private key with its name and its raw public half (384 bytes). It is always a leaf."""

    kid: str
    private: rsa.RSAPrivateKey
    public: bytes

    def __repr__(self) -> str:
        return f"RsaSigningKey(kid={self.kid!r})"


def new_signing_key(role: Role) -> SigningKey:
    """A fresh random key."""
    return _signing_key(Ed25519PrivateKey.generate(), role)


def load_signing_key(private_raw: bytes, role: Role) -> SigningKey:
    """The key of 32 private bytes, such as `keyring.unseal` gives; ValueError for another length."""
    return _signing_key(Ed25519PrivateKey.from_private_bytes(private_raw), role)


def new_rsa_signing_key() -> RsaSigningKey:
    """A fresh random key. It takes some tenths of a second, at times seconds: to be made when first needed."""
    return _rsa_signing_key(rsa.generate_private_key(RSA_EXPONENT, RSA_PUBLIC_BYTES * 8))


def load_rsa_signing_key(private_der: bytes) -> RsaSigningKey:
    """The key of PKCS #8 bytes, such as `keyring.unseal` gives; ValueError if they are not of an RSA-3072 key."""
    private = serialization.load_der_private_key(private_der, None)
    if not isinstance(private, rsa.RSAPrivateKey):
        raise ValueError("the private key is not one of RSA")
    return _rsa_signing_key(private)


def private_bytes(key: SigningKey | RsaSigningKey) -> bytes:
    """What `keyring.seal` keeps and the `load_` functions read: 32 bytes, or PKCS #8 (DER) of RSA."""
    if isinstance(key, SigningKey):
        return key.private.private_bytes_raw()
    return key.private.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def thumbprint(public: bytes) -> str:
    """The RFC 7638 SHA-256 thumbprint of a raw public key."""
    value = base64url.encode(public).decode()
    if len(public) == RSA_PUBLIC_BYTES:
        members = f'{{"e":"{_RSA_E}","kty":"RSA","n":"{value}"}}'
    else:
        members = f'{{"crv":"Ed25519","kty":"OKP","x":"{value}"}}'
    return base64url.encode(hashlib.sha256(members.encode()).digest()).decode()


def public_jwk(public: bytes) -> PublicJwk:
    """The JWK of a raw public key."""
    value = base64url.encode(public).decode()
    named = {"kid": thumbprint(public), "use": "sig"}
    if len(public) == RSA_PUBLIC_BYTES:
        return {"kty": "RSA", "n": value, "e": _RSA_E, **named, "alg": RSA_ALGORITHM}
    return {"kty": "OKP", "crv": "Ed25519", "x": value, **named, "alg": ALGORITHM}


def public_of(jwk: PublicJwk) -> bytes | None:
    """The raw public key of a JWK in the one form that `public_jwk` writes; None if it is no sound key in that form."""
    public = base64url.decode(jwk.get("n" if jwk.get("kty") == "RSA" else "x", "").encode())
    return public if public is not None and jwk == public_jwk(public) and is_sound(public) else None


def is_sound(public: bytes) -> bool:
    """Whether a signature under this raw public key proves anything."""
    if len(public) == RSA_PUBLIC_BYTES:
        return public[0] >= 0x80 and public[-1] & 1 == 1
    return len(public) == PUBLIC_BYTES and public not in _UNSOUND


def _signing_key(private: Ed25519PrivateKey, role: Role) -> SigningKey:
    public = private.public_key().public_bytes_raw()
    return SigningKey(kid=thumbprint(public), role=role, private=private, public=public)


def _rsa_signing_key(private: rsa.RSAPrivateKey) -> RsaSigningKey:
    numbers = private.public_key().public_numbers()
    if private.key_size != RSA_PUBLIC_BYTES * 8 or numbers.e != RSA_EXPONENT:
        raise ValueError("the private key is not one of RSA-3072 with the exponent 65537")
    public = numbers.n.to_bytes(RSA_PUBLIC_BYTES, "big")
    return RsaSigningKey(kid=thumbprint(public), private=private, public=public)


def _unsound_points() -> frozenset[bytes]:
    """Every 32 bytes that are a point of order 1, 2, 4 or 8, or name a point by a y that is not below the prime."""
    prime = 2**255 - 19
    y_of_order_8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
    of_small_order = {0, 1, prime - 1, y_of_order_8, prime - y_of_order_8}
    signs = (0, 1 << 255)
    return frozenset(
        (y | sign).to_bytes(32, "little") for y in {*of_small_order, *range(prime, 2**255)} for sign in signs
    )


_UNSOUND = _unsound_points()

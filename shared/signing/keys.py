"""Ed25519 keys as this platform holds and shows them.

- A key is named by its RFC 7638 thumbprint, so its `kid` follows from the key and cannot be claimed by another.
- The public form is an RFC 8037 JWK. It says the key's algorithm: a document's header never chooses one.
- The private half is in no repr.
"""

import hashlib
from typing import Final, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.signing import base64url

ALGORITHM: Final = "EdDSA"
PUBLIC_BYTES = 32

Role = Literal["root", "leaf"]
PublicJwk = dict[str, str]


class SigningKey(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A private key with its name, its role and its raw public half (32 bytes)."""

    kid: str
    role: Role
    private: Ed25519PrivateKey
    public: bytes

    def __repr__(self) -> str:
        return f"SigningKey(kid={self.kid!r}, role={self.role!r})"


def new_signing_key(role: Role) -> SigningKey:
    """A fresh random key."""
    return _signing_key(Ed25519PrivateKey.generate(), role)


def load_signing_key(private_raw: bytes, role: Role) -> SigningKey:
    """The key of 32 private bytes, such as `keyring.unseal` gives; ValueError for another length."""
    return _signing_key(Ed25519PrivateKey.from_private_bytes(private_raw), role)


def thumbprint(public: bytes) -> str:
    """The RFC 7638 SHA-256 thumbprint of a raw Ed25519 public key."""
    members = f'{{"crv":"Ed25519","kty":"OKP","x":"{base64url.encode(public).decode()}"}}'
    return base64url.encode(hashlib.sha256(members.encode()).digest()).decode()


def public_jwk(public: bytes) -> PublicJwk:
    """The JWK of a raw Ed25519 public key."""
    x = base64url.encode(public).decode()
    return {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": thumbprint(public), "use": "sig", "alg": ALGORITHM}


def _signing_key(private: Ed25519PrivateKey, role: Role) -> SigningKey:
    public = private.public_key().public_bytes_raw()
    return SigningKey(kid=thumbprint(public), role=role, private=private, public=public)

"""An account's keys: a root that clients pin, and leaves that it certifies and that sign from day to day.

- The root is of Ed25519, and so is the leaf that signs leases. A leaf of RSA-3072, for license files, is made when it
  is first needed: it takes long.
- A leaf's certificate is a compact JWS by the root over `{iss, leaf, nbf, exp}`. It travels inside what the leaf signs,
  so that a client which knows only the root can verify it offline.
- Private keys rest sealed: AES-256-GCM under the key-encryption key of a master secret, bound to the account and the
  kid, so that a row moved to another account or another name does not open.
"""

import os
import uuid
from datetime import UTC, datetime, timedelta

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared.signing import jws
from shared.signing.keys import (
    PublicJwk,
    RsaSigningKey,
    SigningKey,
    is_sound,
    load_signing_key,
    new_rsa_signing_key,
    new_signing_key,
    public_jwk,
    public_of,
    thumbprint,
)
from shared.signing.secrets import MasterSecrets, Purpose

__all__ = [
    "CERTIFICATE_TYP",
    "BrokenSealError",
    "SealedKey",
    "SigningKey",
    "certificate_end",
    "certify",
    "load_signing_key",
    "new_account_keys",
    "new_rsa_leaf",
    "new_signing_key",
    "seal",
    "unseal",
    "verify_certificate",
]

CERTIFICATE_TYP = "seatkeeper-leaf+jwt"
CERTIFICATE_LIFE = timedelta(days=3653)
CERTIFICATE_BACKDATE = timedelta(minutes=5)
"""A client whose clock is a little slow can use a leaf at once."""

_NONCE_BYTES = 12


class BrokenSealError(Exception):
    """A sealed key does not open: another account or kid, a master secret that is not held, or damage."""


class SealedKey(msgspec.Struct, frozen=True, kw_only=True):
    """An encrypted private key (nonce, ciphertext, tag) and the id of the master secret it is sealed under."""

    key_id: str
    sealed: bytes


class _Certificate(msgspec.Struct, frozen=True, kw_only=True):
    iss: uuid.UUID
    leaf: PublicJwk
    nbf: int
    exp: int


def new_account_keys(account: uuid.UUID, now: datetime) -> tuple[SigningKey, SigningKey, str]:
    """A new root, a new leaf, and the leaf's certificate."""
    root, leaf = new_signing_key("root"), new_signing_key("leaf")
    return root, leaf, certify(root, leaf.public, account, now)


def new_rsa_leaf(root: SigningKey, account: uuid.UUID, now: datetime) -> tuple[RsaSigningKey, str]:
    """A new leaf of RSA-3072 and its certificate. ValueError if `root` is none."""
    leaf = new_rsa_signing_key()
    return leaf, certify(root, leaf.public, account, now)


def certify(root: SigningKey, leaf_public: bytes, account: uuid.UUID, now: datetime) -> str:
    """The root's word that a leaf signs for the account for the next ten years.

    ValueError if `root` is none, or the raw public key of the leaf is no sound one.
    """
    if root.role != "root":
        raise ValueError("only a root key certifies")
    if not is_sound(leaf_public):
        raise ValueError("the leaf is no sound key")
    claims = _Certificate(
        iss=account,
        leaf=public_jwk(leaf_public),
        nbf=int((now - CERTIFICATE_BACKDATE).timestamp()),
        exp=int((now + CERTIFICATE_LIFE).timestamp()),
    )
    return jws.sign(root, CERTIFICATE_TYP, claims)


def verify_certificate(root_public: bytes, token: str, now: datetime, *, account: uuid.UUID) -> PublicJwk | None:
    """The leaf's public JWK, if the pinned root (32 raw bytes) has certified it for the account and for this time."""
    claims = jws.verify_as(token, {thumbprint(root_public): root_public}, CERTIFICATE_TYP, _Certificate)
    if claims is None or claims.iss != account or not claims.nbf <= now.timestamp() < claims.exp:
        return None
    return claims.leaf if public_of(claims.leaf) is not None else None


def certificate_end(token: str) -> datetime:
    """The end of a certificate of our own."""
    claims = jws.peek_as(token, _Certificate)
    if claims is None:
        raise ValueError("this is no certificate")
    return datetime.fromtimestamp(claims.exp, UTC)


def seal(master: MasterSecrets, account: uuid.UUID, kid: str, private_raw: bytes) -> SealedKey:
    """Encrypt the private bytes of a key (`keys.private_bytes`) for storage, under the current master secret."""
    nonce = os.urandom(_NONCE_BYTES)
    ciphertext = _cipher(master, master.current).encrypt(nonce, private_raw, _bound_to(account, kid))
    return SealedKey(key_id=master.current, sealed=nonce + ciphertext)


def unseal(master: MasterSecrets, account: uuid.UUID, kid: str, sealed: SealedKey) -> bytes:
    """The private bytes again; BrokenSealError if they are not this account's and this kid's, or cannot be opened."""
    if sealed.key_id not in master.key_ids:
        raise BrokenSealError(f"the key {kid} is sealed under a master secret that is not held")
    nonce, ciphertext = sealed.sealed[:_NONCE_BYTES], sealed.sealed[_NONCE_BYTES:]
    try:
        return _cipher(master, sealed.key_id).decrypt(nonce, ciphertext, _bound_to(account, kid))
    except (InvalidTag, ValueError):
        raise BrokenSealError(f"the key {kid} of account {account} does not open") from None


def _cipher(master: MasterSecrets, key_id: str) -> AESGCM:
    return AESGCM(master.derive(key_id, Purpose.KEY_ENCRYPTION))


def _bound_to(account: uuid.UUID, kid: str) -> bytes:
    return b"seatkeeper-key/1\0" + account.bytes + kid.encode()

"""Genuine documents of a vendor, their readers, and the same documents built anew from any header and signature.

A `Paper` is accepted by the platform's own verifiers, used as a client or a service uses them.
"""

import base64
import json
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import msgspec
import rfc8785
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from shared.signing import activation_token, jws, lease, license_file
from shared.signing.activation_token import ActivationClaims
from shared.signing.device_token import DeviceClaims, DeviceTokens
from shared.signing.keyring import CERTIFICATE_TYP, certify, new_account_keys, new_rsa_leaf, verify_certificate
from shared.signing.keys import RsaSigningKey, SigningKey, new_signing_key, public_jwk, public_of
from shared.signing.lease import LeaseClaims
from shared.signing.license_file import LicenseFile
from shared.signing.secrets import MasterSecrets

NOW = datetime(2026, 11, 3, 12, tzinfo=UTC)
NOW_S = int(NOW.timestamp())
PRODUCT = "photo-editor"
STRANGER = new_signing_key("leaf")
SHA256 = hashes.SHA256()

Key = SigningKey | RsaSigningKey
Sign = Callable[[bytes], bytes]


class Vendor:
    """An account with a root, a leaf of each kind and their certificates."""

    def __init__(self) -> None:
        self.account = uuid.uuid4()
        self.root, self.leaf, self.certificate = new_account_keys(self.account, NOW)
        self.rsa, self.rsa_certificate = new_rsa_leaf(self.root, self.account, NOW)
        self.public = {key.kid: key.public for key in (self.leaf, self.rsa)}
        """What its JWKS shows."""

    def certificate_of(self, key: Key) -> str:
        return self.rsa_certificate if key is self.rsa else self.certificate

    def certified(self, public: bytes, now: datetime = NOW) -> str:
        return certify(self.root, public, self.account, now)


OURS, THEIRS = Vendor(), Vendor()
DEVICE, LICENSE, OTHER_DEVICE, OTHER_LICENSE = (uuid.uuid4() for _ in range(4))
TOKENS = DeviceTokens(MasterSecrets({"k1": os.urandom(32), "k2": os.urandom(32)}, "k1"))
CLAIMS = DeviceClaims(account=OURS.account, license=LICENSE, device=DEVICE, generation=3)
DEVICE_TOKEN = TOKENS.issue(CLAIMS)


@dataclass(frozen=True, kw_only=True)
class Paper:
    """A signed document: what `accepts` it, and `payload`, the bytes under its signature by `key`."""

    name: str
    key: Key
    typ: str
    payload: bytes
    accepts: Callable[[bytes], bool]
    in_file: bool = False

    @property
    def header(self) -> dict[str, Any]:
        return {
            "alg": "PS256" if isinstance(self.key, RsaSigningKey) else "EdDSA",
            "kid": self.key.kid,
            "typ": self.typ,
        }

    @cached_property
    def genuine(self) -> bytes:
        return self.built(self.header)

    def built(self, header: object, sign: Sign | None = None, payload: bytes | None = None) -> bytes:
        """The document with a header (bytes as they are) and what `sign` makes of the signing input."""
        head = b64(header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode())
        body = self.payload if payload is None else payload
        signing_input = f"{head}.{b64(body)}"
        signature = b64((sign or signer(self.key))(signing_input.encode()))
        if self.in_file:
            return self.with_signature(f"{head}..{signature}", body)
        return f"{signing_input}.{signature}".encode()

    def with_signature(self, signature: str, payload: bytes | None = None) -> bytes:
        """A file with this text as its signature."""
        members = json.loads(self.payload if payload is None else payload) | {"signature": signature}
        return json.dumps(members, indent=2, ensure_ascii=False).encode() + b"\n"


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def signer(key: Key) -> Sign:
    if isinstance(key, SigningKey):
        return key.private.sign
    return lambda data: key.private.sign(data, padding.PSS(padding.MGF1(SHA256), 32), SHA256)


# --- Readers ----------------------------------------------------------------------------------------------------


def read_lease(text: str, now_s: int = NOW_S) -> LeaseClaims | None:
    """As a client reads it that pins the root: the certificate inside first, then the lease by the leaf in it."""
    claimed = jws.peek_as(text, LeaseClaims)
    leaf = claimed and verify_certificate(OURS.root.public, claimed.leaf, NOW, account=OURS.account)
    public = leaf and public_of(leaf)
    if not leaf or not public:
        return None
    claims = jws.verify_as(text, {leaf["kid"]: public}, lease.TYP, LeaseClaims)
    if claims is None or (claims.iss, claims.aud) != (OURS.account, PRODUCT) or not claims.nbf <= now_s < claims.exp:
        return None
    return claims


def accepts_lease(data: bytes) -> bool:
    text = as_text(data)
    return text is not None and read_lease(text) is not None


def accepts_certificate(data: bytes) -> bool:
    text = as_text(data)
    return text is not None and verify_certificate(OURS.root.public, text, NOW, account=OURS.account) is not None


def accepts_activation_token(data: bytes) -> bool:
    """With the keys of the account that the token claims to be of, as the service does."""
    text = as_text(data)
    account = None if text is None else activation_token.peek_account(text)
    keys = {vendor.account: vendor.public for vendor in (OURS, THEIRS)}
    if text is None or account is None or account not in keys:
        return False
    claims = activation_token.verify(text, keys[account])
    return claims is not None and claims.iss == account


def accepts_file(data: bytes) -> bool:
    return isinstance(license_file.verify(data, OURS.root.public, PRODUCT, NOW), LicenseFile)


def accepts_device_token(data: bytes) -> bool:
    text = as_text(data)
    return text is not None and TOKENS.verify(text) is not None


def as_text(data: bytes) -> str | None:
    """The text, if it is one: readers of tokens are given text that was decoded before."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


# --- The documents ----------------------------------------------------------------------------------------------


def lease_claims(**changes: Any) -> bytes:
    claims = LeaseClaims(
        iss=OURS.account,
        aud=PRODUCT,
        sub=DEVICE,
        lic=LICENSE,
        fp="0f" * 32,
        gen=3,
        iat=NOW_S,
        nbf=NOW_S,
        exp=NOW_S + 604_800,
        lease_expires_at=NOW_S + 7_776_000,
        leaf=OURS.certificate,
        entitlements={"export": None},
    )
    return msgspec.json.encode(msgspec.structs.replace(claims, **changes))


def file_claims(key: Key, **changes: Any) -> bytes:
    file = LicenseFile(
        iss=OURS.account,
        aud=PRODUCT,
        license=LICENSE,
        device=DEVICE,
        generation=3,
        fingerprint="0f" * 32,
        issued=NOW,
        expiry=NOW + timedelta(days=365),
        leaf=OURS.certificate_of(key),
        entitlements={"größe": 4},
    )
    return rfc8785.dumps(msgspec.to_builtins(msgspec.structs.replace(file, **changes)))


def activation_claims(**changes: Any) -> bytes:
    claims = ActivationClaims(iss=OURS.account, lic=LICENSE, jti=uuid.uuid4(), iat=NOW_S, exp=NOW_S + 3600)
    return msgspec.json.encode(msgspec.structs.replace(claims, **changes))


def certificate_claims(public: bytes) -> dict[str, object]:
    return {"iss": str(OURS.account), "leaf": public_jwk(public), "nbf": 0, "exp": 2**40}


LEASE = Paper(name="lease", key=OURS.leaf, typ=lease.TYP, payload=lease_claims(), accepts=accepts_lease)
ACTIVATION = Paper(
    name="activation token",
    key=OURS.leaf,
    typ=activation_token.TYP,
    payload=activation_claims(),
    accepts=accepts_activation_token,
)
CERTIFICATE = Paper(
    name="certificate",
    key=OURS.root,
    typ=CERTIFICATE_TYP,
    payload=unb64(OURS.certificate.split(".")[1]),
    accepts=accepts_certificate,
)
FILE_RSA, FILE_ED25519 = (
    Paper(
        name=f"license file ({name})",
        key=key,
        typ=license_file.TYP,
        payload=file_claims(key),
        accepts=accepts_file,
        in_file=True,
    )
    for name, key in (("PS256", OURS.rsa), ("EdDSA", OURS.leaf))
)
PAPERS = [LEASE, ACTIVATION, CERTIFICATE, FILE_RSA, FILE_ED25519]
FILES = [FILE_RSA, FILE_ED25519]
ALL = {paper.name: (paper.genuine, paper.accepts) for paper in PAPERS} | {
    "device token": (DEVICE_TOKEN.encode(), accepts_device_token)
}
"""Every document that is believed, and who believes it."""

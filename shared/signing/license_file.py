"""The license file: what a device without a network runs on. Readable JSON, proven by the account's root key alone.

- By RSA-3072 (PS256) or by Ed25519, as the leaf key is; the leaf's certificate travels inside as `leaf`.
- It carries its signature as `signed_json` says, and is read as strictly. Refused are members of ours in another shape
  too; signed members that are not ours are ignored.
- `verify` is pure and never raises: the root is the caller's, and so are the product and the time.
"""

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final

import msgspec

from shared.signing import jws, signed_json
from shared.signing.keyring import verify_certificate
from shared.signing.keys import RsaSigningKey, SigningKey, public_of

TYP: Final = "seatkeeper-license+jws"
LONGEST_FILE = 64 * 1024

_Time = Annotated[datetime, msgspec.Meta(tz=True)]


class LicenseFile(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says; times in UTC, to the second.

    `iss` account, `aud` product code, `license` and `device` their ids, `leaf` the certificate of the signing key.
    From `issued` until before `expiry` the device of this `fingerprint` may run. `trial` and `entitlements` (codes,
    each with its limit or null) are left out where the policy has none.
    """

    iss: uuid.UUID
    aud: str
    license: uuid.UUID
    device: uuid.UUID
    generation: int
    fingerprint: str
    issued: _Time
    expiry: _Time
    leaf: str
    trial: bool | msgspec.UnsetType = msgspec.UNSET
    entitlements: dict[str, int | None] | msgspec.UnsetType = msgspec.UNSET


class FileFault(StrEnum):
    """Why a file proves nothing here, in words for a person."""

    MALFORMED = "this is not a license file, or it was damaged"
    UNTRUSTED = "the license file was altered, or it is not of the vendor of this application"
    OTHER_PRODUCT = "the license file is for another product"
    NOT_YET = "the license file was issued later than the time that this machine tells"
    EXPIRED = "the license file has expired"


def sign(key: SigningKey | RsaSigningKey, file: LicenseFile) -> bytes:
    """The file as it is handed out, signed by the leaf key that its certificate is for. Times are rounded down."""
    whole = msgspec.structs.replace(
        file, issued=file.issued.replace(microsecond=0), expiry=file.expiry.replace(microsecond=0)
    )
    return signed_json.sign(key, TYP, msgspec.to_builtins(whole))


def verify(file: bytes, root_public: bytes, product: str, now: datetime) -> LicenseFile | FileFault:
    """What the file says if it holds now, for this product, under the pinned root (32 raw bytes)."""
    parts = _parts(file)
    if parts is None:
        return FileFault.MALFORMED
    read, signed, signature = parts
    leaf = verify_certificate(root_public, read.leaf, now, account=read.iss)
    public = None if leaf is None else public_of(leaf)
    if public is None or not jws.is_signed_detached(signature, signed, public, TYP):
        return FileFault.UNTRUSTED
    if read.aud != product:
        return FileFault.OTHER_PRODUCT
    if now < read.issued:
        return FileFault.NOT_YET
    return read if now < read.expiry else FileFault.EXPIRED


def _parts(file: bytes) -> tuple[LicenseFile, bytes, str] | None:
    """What the file says, the bytes that are signed, and the signature."""
    parts = signed_json.read(file, longest=LONGEST_FILE)
    if parts is None:
        return None
    try:
        return msgspec.json.decode(parts[0], type=LicenseFile), *parts
    except (ValueError, RecursionError):
        return None

"""The license file: what a device without a network runs on. Readable JSON, proven by the vendor's root key alone.

- `signature` is a detached JWS over the RFC 8785 form of all other members, by RSA-3072 or Ed25519, as the key of the
  certificate `leaf` is. What is read is read from that form, not from the file's text.
- Refused: a member named twice at any depth, anything but whitespace around the object, text that is not UTF-8, numbers
  that RFC 8785 cannot write, members in another shape. Signed members that are not known here are ignored.
- Verifying is pure, and raises nothing but `NotGenuine`, with a `FileFault`.
"""

import json
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import msgspec
import rfc8785

from seatkeeper import signatures
from seatkeeper.errors import NotGenuine
from seatkeeper.messages import Time
from seatkeeper.public_keys import each_once

TYP: Final = "seatkeeper-license+jws"
LONGEST = 64 * 1024


class FileFault(StrEnum):
    """Why a file proves nothing here, in words for a person."""

    MALFORMED = "this is not a license file, or it was damaged: get it again"
    UNTRUSTED = "the license file was altered, or it is not of the vendor of this application"
    OTHER_PRODUCT = "the license file is for another product"
    OTHER_DEVICE = "the license file is for another device: make a request on this one"
    NOT_YET = "the license file was issued later than the time that this machine tells: set its clock"
    EXPIRED = "the license file has expired: make a new request, or set the clock of this machine if it is ahead"


class LicenseFile(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says. Ids are UUIDs as text; the device may run from `issued` until before `expiry`, in UTC.

    `entitlements` are codes, each with its limit or None.
    """

    account: str = msgspec.field(name="iss")
    product: str = msgspec.field(name="aud")
    license_id: str = msgspec.field(name="license")
    device_id: str = msgspec.field(name="device")
    generation: int
    fingerprint: str
    issued: Time
    expiry: Time
    leaf: str
    trial: bool = False
    entitlements: dict[str, int | None] = {}


def verify_license_file(
    file: bytes, root_public: bytes, *, product: str, fingerprint: str, now: datetime
) -> LicenseFile:
    """What a file says if it holds now, for this product and this device, under the pinned root (32 raw bytes)."""
    read = proven(file, root_public, product=product, fingerprint=fingerprint, now=now)
    if now < read.issued:
        raise NotGenuine(FileFault.NOT_YET)
    if now >= read.expiry:
        raise NotGenuine(FileFault.EXPIRED)
    return read


def proven(file: bytes, root_public: bytes, *, product: str, fingerprint: str, now: datetime) -> LicenseFile:
    """The same whether or not the file has begun or ended. A clock that is behind its issue does not make it false."""
    read, signed, signature = _parts(file)
    at_s = max(now, read.issued).timestamp()
    leaf = signatures.certified_leaf(read.leaf, root_public, account=read.account, now_s=at_s)
    if leaf is None or not signatures.is_signed_detached(signature, signed, leaf, TYP):
        raise NotGenuine(FileFault.UNTRUSTED)
    if read.product != product:
        raise NotGenuine(FileFault.OTHER_PRODUCT)
    if read.fingerprint != fingerprint:
        raise NotGenuine(FileFault.OTHER_DEVICE)
    return read


def _parts(file: bytes) -> tuple[LicenseFile, bytes, str]:
    """What the file says, the bytes that are signed, and the signature."""
    try:
        members = _members(file)
        signature = members.pop("signature")
        signed = rfc8785.dumps(members)
        read = msgspec.json.decode(signed, type=LicenseFile)
    except (ValueError, KeyError, RecursionError):
        raise NotGenuine(FileFault.MALFORMED) from None
    if not isinstance(signature, str):
        raise NotGenuine(FileFault.MALFORMED)
    return read, signed, signature


def _members(file: bytes) -> dict[str, Any]:
    if len(file) > LONGEST:
        raise ValueError("the file is too long")
    members = json.loads(file.decode(), object_pairs_hook=each_once)
    if not isinstance(members, dict):
        raise ValueError("the file is no object")
    return members

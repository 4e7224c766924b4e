"""The signed lease: what a device holds, and verifies without the server up to the root key that it pins.

- Verified: the leaf's certificate by the root, the signature by the leaf, the account in both, the product, the
  fingerprint. What holds is returned even past its end: whether it has ended is `valid_at`, by the caller's clock.
- A clock that is behind the lease's issue does not make it false: whoever verifies counts `issued_at` as time seen.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Final, Literal

import msgspec

from seatkeeper import signatures
from seatkeeper.errors import NotGenuine

TYP: Final = "seatkeeper-lease+jwt"

_Seconds = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799)]


class LeaseFault(StrEnum):
    """Why a lease proves nothing here, in words for a person."""

    UNTRUSTED = "the lease was altered, or is not of the vendor of this application: check root_key and url"
    OTHER_PRODUCT = "the lease is for another product"
    OTHER_DEVICE = "the lease is for another device"


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """What a lease says. Ids are UUIDs as text; times are in UTC, to the second.

    `valid_until` is how long the device may run unheard, `lease_expires_at` how long the server keeps its seat.
    `entitlements` are codes, each with its limit or None.
    """

    account: str
    product: str
    device_id: str
    license_id: str
    fingerprint: str
    generation: int
    issued_at: datetime
    valid_until: datetime
    lease_expires_at: datetime
    trial: bool
    entitlements: dict[str, int | None]

    def valid_at(self, now_s: float) -> bool:
        """Whether the device may run on it at this time, in seconds since 1970."""
        return now_s < self.valid_until.timestamp()


class _Claims(msgspec.Struct, frozen=True, kw_only=True):
    iss: str
    aud: str
    sub: str
    lic: str
    fp: str
    gen: int
    iat: _Seconds
    exp: _Seconds
    lease_expires_at: _Seconds = msgspec.field(name="leaseExpiresAt")
    leaf: str
    state: Literal["active"]
    trial: bool = False
    entitlements: dict[str, int | None] = {}


class _Leaf(msgspec.Struct, frozen=True):
    iss: str
    iat: _Seconds
    leaf: str


def verify_lease(text: str, root_public: bytes, *, product: str, fingerprint: str, now_s: float) -> Lease:
    """What a lease says if the pinned root (32 raw bytes) stands behind it, for this product and this device.

    NotGenuine otherwise, with a `LeaseFault`.
    """
    claims = _claims(text, root_public, now_s)
    if claims is None:
        raise NotGenuine(LeaseFault.UNTRUSTED)
    if claims.aud != product:
        raise NotGenuine(LeaseFault.OTHER_PRODUCT)
    if claims.fp != fingerprint:
        raise NotGenuine(LeaseFault.OTHER_DEVICE)
    return Lease(
        account=claims.iss,
        product=claims.aud,
        device_id=claims.sub,
        license_id=claims.lic,
        fingerprint=claims.fp,
        generation=claims.gen,
        issued_at=_time(claims.iat),
        valid_until=_time(claims.exp),
        lease_expires_at=_time(claims.lease_expires_at),
        trial=claims.trial,
        entitlements=claims.entitlements,
    )


def _claims(text: str, root_public: bytes, now_s: float) -> _Claims | None:
    unproven = signatures.decoded(signatures.unverified_payload(text), _Leaf)
    if unproven is None:
        return None
    at_s = max(now_s, unproven.iat)
    leaf = signatures.certified_leaf(unproven.leaf, root_public, account=unproven.iss, now_s=at_s)
    return None if leaf is None else signatures.decoded(signatures.verified(text, leaf, TYP), _Claims)


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)

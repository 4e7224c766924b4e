"""The signed lease: what a device holds, and can verify offline up to the root key that it pins.

- Signed by a leaf of the account, whose certificate travels inside as `leaf`.
- `exp` is validUntil: until then the device may run unheard. `leaseExpiresAt` is how long the server keeps the seat.
- Both are decided elsewhere and handed in; all times are whole seconds since the epoch, rounded down.
"""

import uuid

import msgspec

from shared.signing import jws
from shared.signing.keys import SigningKey

TYP = "seatkeeper-lease+jwt"


class LeaseClaims(msgspec.Struct, frozen=True, kw_only=True):
    """The claims on the wire; ids are written as text. `iss` account, `aud` product code, `sub` device, `lic` license,
    `fp` fingerprint, `gen` generation, `leaf` the certificate of the signing key. `trial` and `entitlements` (codes,
    each with its limit or null) are left out where the policy has none."""

    iss: uuid.UUID
    aud: str
    sub: uuid.UUID
    lic: uuid.UUID
    fp: str
    gen: int
    iat: int
    nbf: int
    exp: int
    lease_expires_at: int = msgspec.field(name="leaseExpiresAt")
    leaf: str
    state: str = "active"
    trial: bool | msgspec.UnsetType = msgspec.UNSET
    entitlements: dict[str, int | None] | msgspec.UnsetType = msgspec.UNSET


def sign_lease(key: SigningKey, claims: LeaseClaims) -> str:
    """Sign the claims with the leaf key that the certificate in them is for."""
    return jws.sign(key, TYP, claims)

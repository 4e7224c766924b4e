"""The activation token: a short-lived stand-in for a license key, to be handed to an application.

- A compact JWS by a leaf key of the account. It carries no secret and names the license by its id.
- Expiry (`exp`) and use (`jti`) are returned, not judged: the ledger does that, by the database's clock.
"""

import uuid

import msgspec

from shared.signing import jws
from shared.signing.keys import SigningKey

TYP = "seatkeeper-activation+jwt"


class ActivationClaims(msgspec.Struct, frozen=True, kw_only=True):
    """The claims on the wire: `iss` account, `lic` license, `jti` the token itself; times in epoch seconds."""

    iss: uuid.UUID
    lic: uuid.UUID
    jti: uuid.UUID
    iat: int
    exp: int


class _Issuer(msgspec.Struct, frozen=True, kw_only=True):
    iss: uuid.UUID


def issue(key: SigningKey, claims: ActivationClaims) -> str:
    """The token, signed by a leaf key of the account `claims.iss`."""
    return jws.sign(key, TYP, claims)


def peek_account(token: str) -> uuid.UUID | None:
    """The account that the token CLAIMS to be of, unverified: only to find the keys for `verify`."""
    claims = jws.peek_as(token, _Issuer)
    return None if claims is None else claims.iss


def verify(token: str, public_keys: jws.PublicKeys) -> ActivationClaims | None:
    """The claims, if one of the account's leaf keys has signed them. An expired token is returned like any other."""
    return jws.verify_as(token, public_keys, TYP, ActivationClaims)

"""The signed lease, verified by other people's libraries: from the JWKS, and offline from the pinned root alone."""

import time
from datetime import datetime
from typing import Any

import joserfc.jws
import joserfc.jwt
import jwt
import pytest
from joserfc.errors import BadSignatureError
from joserfc.jwk import KeySet, OKPKey

from shared.signing.keyring import CERTIFICATE_TYP
from shared.signing.lease import TYP
from tests.platform import PRODUCT, Answer, Platform, Vendor

pytest_plugins = ["tests.platform"]
pytestmark = pytest.mark.filterwarnings("ignore:EdDSA is deprecated via RFC 9864")

ALGORITHM = "EdDSA"


async def account_keys(platform: Platform, vendor: Vendor) -> Answer:
    return await platform.api.ask("GET", f"/v1/accounts/{vendor.account}/jwks.json")


async def all_keys(platform: Platform, _vendor: Vendor) -> Answer:
    return await platform.api.ask("GET", "/.well-known/jwks.json")


def by_pyjwt(token: str, keys: dict[str, Any], audience: str = PRODUCT) -> dict[str, Any]:
    kid = jwt.get_unverified_header(token)["kid"]
    key = jwt.PyJWKSet.from_dict(keys)[kid]
    claims: dict[str, Any] = jwt.decode(token, key, algorithms=[ALGORITHM], audience=audience, leeway=5)
    return claims


def by_joserfc(token: str, keys: dict[str, Any]) -> dict[str, Any]:
    registry = joserfc.jws.JWSRegistry(algorithms=[ALGORITHM])
    decoded = joserfc.jwt.decode(token, KeySet.import_key_set(keys), registry=registry)  # type: ignore[arg-type]
    joserfc.jwt.JWTClaimsRegistry(leeway=5).validate(decoded.claims)
    claims: dict[str, Any] = decoded.claims
    return claims


@pytest.mark.parametrize("find_keys", [account_keys, all_keys])
async def test_pyjwt_and_joserfc_verify_the_lease_from_the_jwks(platform: Platform, find_keys: Any) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license()
    answer = (await platform.api.activate(grant.key, "a fingerprint")).ok(201)

    keys = (await find_keys(platform, vendor)).ok()

    claims = by_pyjwt(answer["lease"], keys)
    assert claims == by_joserfc(answer["lease"], keys)
    assert claims["iss"] == str(vendor.account)
    assert claims["aud"] == PRODUCT
    assert (claims["sub"], claims["lic"]) == (answer["deviceId"], str(grant.id))
    assert (claims["fp"], claims["gen"], claims["state"]) == ("a fingerprint", 1, "active")
    assert claims["exp"] == datetime.fromisoformat(answer["validUntil"]).timestamp()
    assert claims["leaseExpiresAt"] == datetime.fromisoformat(answer["leaseExpiresAt"]).timestamp()
    assert claims["nbf"] == claims["iat"] <= time.time()
    assert claims["exp"] - claims["iat"] == 7 * 86_400


async def test_the_lease_says_what_kind_of_document_it_is(platform: Platform) -> None:
    vendor = await platform.vendor()
    answer = (await platform.api.activate((await vendor.license()).key)).ok(201)

    (key,) = (await account_keys(platform, vendor)).ok()["keys"]

    assert jwt.get_unverified_header(answer["lease"]) == {"alg": ALGORITHM, "typ": TYP, "kid": key["kid"]}


async def test_the_certificate_in_the_lease_leads_to_the_pinned_root(platform: Platform) -> None:
    vendor = await platform.vendor()
    answer = (await platform.api.activate((await vendor.license()).key)).ok(201)

    unverified = jwt.decode(answer["lease"], options={"verify_signature": False})
    assert jwt.get_unverified_header(unverified["leaf"])["typ"] == CERTIFICATE_TYP
    certificate = jwt.decode(unverified["leaf"], jwt.PyJWK(vendor.root_key), algorithms=[ALGORITHM])
    claims = jwt.decode(answer["lease"], jwt.PyJWK(certificate["leaf"]), algorithms=[ALGORITHM], audience=PRODUCT)

    assert claims["iss"] == certificate["iss"] == str(vendor.account)
    assert certificate["nbf"] <= claims["iat"] < claims["exp"] < certificate["exp"]
    assert certificate["leaf"]["kid"] == OKPKey.import_key(certificate["leaf"]).thumbprint()


async def test_another_accounts_root_and_keys_verify_nothing(platform: Platform) -> None:
    ours, theirs = await platform.vendor(), await platform.vendor()
    answer = (await platform.api.activate((await ours.license()).key)).ok(201)
    unverified = jwt.decode(answer["lease"], options={"verify_signature": False})

    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(unverified["leaf"], jwt.PyJWK(theirs.root_key), algorithms=[ALGORITHM])
    with pytest.raises(KeyError):
        by_pyjwt(answer["lease"], (await account_keys(platform, theirs)).ok())


async def test_a_lease_that_was_changed_is_seen_to_be(platform: Platform) -> None:
    vendor = await platform.vendor()
    answer = (await platform.api.activate((await vendor.license()).key)).ok(201)
    keys = (await account_keys(platform, vendor)).ok()
    header, payload, signature = answer["lease"].split(".")
    other = "A" if signature[0] != "A" else "B"
    forged = f"{header}.{payload}.{other}{signature[1:]}"

    with pytest.raises(jwt.InvalidSignatureError):
        by_pyjwt(forged, keys)
    with pytest.raises(BadSignatureError):
        by_joserfc(forged, keys)
    with pytest.raises(jwt.InvalidAudienceError):
        by_pyjwt(answer["lease"], keys, audience="another product")


async def test_a_repeated_activation_brings_a_lease_as_good_as_the_first(platform: Platform) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license()
    first = (await platform.api.activate(grant.key)).ok(201)

    second = (await platform.api.activate(grant.key)).ok(200)

    keys = (await account_keys(platform, vendor)).ok()
    claims, again = by_pyjwt(first["lease"], keys), by_pyjwt(second["lease"], keys)
    assert (claims["sub"], claims["gen"], claims["leaseExpiresAt"]) == (
        again["sub"],
        again["gen"],
        again["leaseExpiresAt"],
    )
    assert again["exp"] >= claims["exp"]

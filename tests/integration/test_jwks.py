"""The public keys: of one account, and of all."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import jwt
import pytest

from shared.signing import base64url, license_file
from shared.signing.keyring import SealedKey, certify, load_signing_key, new_rsa_leaf, new_signing_key, seal, unseal
from shared.signing.keys import (
    RsaSigningKey,
    SigningKey,
    load_rsa_signing_key,
    private_bytes,
    public_jwk,
    thumbprint,
)
from shared.signing.license_file import LicenseFile
from tests.platform import PRODUCT, Platform

pytest_plugins = ["tests.platform"]


async def test_an_account_shows_its_leaf_keys_and_nothing_private(platform: Platform) -> None:
    vendor = await platform.vendor()

    keys = (await platform.api.ask("GET", f"/v1/accounts/{vendor.account}/jwks.json")).ok()["keys"]

    (key,) = keys
    assert key.keys() == {"kty", "crv", "x", "kid", "use", "alg"}
    assert (key["kty"], key["crv"], key["use"], key["alg"]) == ("OKP", "Ed25519", "sig", "EdDSA")
    public = base64url.decode(key["x"].encode())
    assert public is not None
    assert key["kid"] == thumbprint(public) != vendor.root_key["kid"]


async def test_the_installations_keys_are_those_of_all_accounts(platform: Platform) -> None:
    one, other = await platform.vendor(), await platform.vendor()

    everyones = (await platform.api.ask("GET", "/.well-known/jwks.json")).ok()["keys"]

    for vendor in (one, other):
        (key,) = (await platform.api.ask("GET", f"/v1/accounts/{vendor.account}/jwks.json")).ok()["keys"]
        assert everyones.count(key) == 1


async def test_an_account_that_does_not_exist_has_no_keys(platform: Platform) -> None:
    for name in (str(uuid4()), "none", "0", "%00", "..%2f.."):
        answer = await platform.api.ask("GET", f"/v1/accounts/{name}/jwks.json")
        assert answer.refusal == (404, "NOT_FOUND"), name


async def test_a_new_leaf_signs_while_what_the_old_one_signed_still_verifies(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.runtime.keystore.LIFE_S", 0.0)
    vendor = await platform.vendor()
    grant = await vendor.license()
    path = f"/v1/accounts/{vendor.account}/jwks.json"
    before = (await platform.api.activate(grant.key)).ok(201)["lease"]
    old = jwt.get_unverified_header(before)["kid"]

    new = await add_leaf(platform, vendor.account)

    after = (await platform.api.activate(grant.key)).ok(200)["lease"]
    assert jwt.get_unverified_header(after)["kid"] == new
    keys = jwt.PyJWKSet.from_dict((await platform.api.ask("GET", path)).ok())
    assert [key.key_id for key in keys.keys] == [new, old]
    for lease, kid in ((before, old), (after, new)):
        claims = jwt.decode(lease, keys[kid], algorithms=["EdDSA"], audience=PRODUCT)
        assert jwt.decode(claims["leaf"], jwt.PyJWK(vendor.root_key), algorithms=["EdDSA"])["leaf"]["kid"] == kid

    await platform.rows("UPDATE signing_key SET retired_at = now() WHERE kid = $1", old)
    assert [key["kid"] for key in (await platform.api.ask("GET", path)).ok()["keys"]] == [new]


async def test_a_leaf_of_rsa_is_shown_and_signs_files_while_leases_stay_as_they_are(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.runtime.keystore.LIFE_S", 0.0)
    vendor = await platform.vendor()
    grant = await vendor.license()
    before = (await platform.api.activate(grant.key)).ok(201)["lease"]
    root, now = await root_of(platform, vendor.account), datetime.now(UTC)

    rsa, certificate = new_rsa_leaf(root, vendor.account, now)
    await store_leaf(platform, vendor.account, rsa, certificate)

    after = (await platform.api.activate(grant.key)).ok(200)["lease"]
    assert jwt.get_unverified_header(after) == jwt.get_unverified_header(before)
    shown = (await platform.api.ask("GET", f"/v1/accounts/{vendor.account}/jwks.json")).ok()["keys"]
    assert [key["kid"] for key in shown] == [rsa.kid, jwt.get_unverified_header(before)["kid"]]
    assert shown[0] == public_jwk(rsa.public)
    (row,) = await platform.rows("SELECT * FROM signing_key WHERE kid = $1", rsa.kid)
    sealed = SealedKey(key_id=row["sealed_with"], sealed=row["sealed"])
    opened = load_rsa_signing_key(unseal(platform.resources.secrets, vendor.account, rsa.kid, sealed))
    file = LicenseFile(
        iss=vendor.account,
        aud=PRODUCT,
        license=grant.id,
        device=uuid4(),
        generation=1,
        fingerprint="a fingerprint",
        issued=now.replace(microsecond=0),
        expiry=now.replace(microsecond=0) + timedelta(days=30),
        leaf=row["certificate"],
    )
    assert license_file.verify(license_file.sign(opened, file), root.public, PRODUCT, now) == file


async def add_leaf(platform: Platform, account: UUID) -> str:
    """Rotate as an operator would: a new leaf, certified by the account's root."""
    leaf = new_signing_key("leaf")
    certificate = certify(await root_of(platform, account), leaf.public, account, datetime.now(UTC))
    await store_leaf(platform, account, leaf, certificate)
    return leaf.kid


async def root_of(platform: Platform, account: UUID) -> SigningKey:
    (row,) = await platform.rows("SELECT * FROM signing_key WHERE account_id = $1 AND role = 'root'", account)
    sealed = SealedKey(key_id=row["sealed_with"], sealed=row["sealed"])
    return load_signing_key(unseal(platform.resources.secrets, account, row["kid"], sealed), "root")


async def store_leaf(platform: Platform, account: UUID, leaf: SigningKey | RsaSigningKey, certificate: str) -> None:
    sealed = seal(platform.resources.secrets, account, leaf.kid, private_bytes(leaf))
    await platform.rows(
        "INSERT INTO signing_key (account_id, kid, role, public_key, sealed_with, sealed, certificate)"
        " VALUES ($1, $2, 'leaf', $3, $4, $5, $6)",
        *(account, leaf.kid, leaf.public, sealed.key_id, sealed.sealed, certificate),
    )

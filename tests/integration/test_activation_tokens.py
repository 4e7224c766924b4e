"""Activation by token: signed, bound to a license, with an end, a number of uses, and revocable."""

import asyncio
import base64
import hmac
import json
import time
from uuid import UUID, uuid4

import pytest

from shared.licensing.model import Suspend
from shared.signing import activation_token, base64url
from shared.signing.activation_token import ActivationClaims
from shared.signing.keys import SigningKey
from tests.platform import Answer, Grant, Platform, Vendor

pytest_plugins = ["tests.platform"]

INVALID = (401, "TOKEN_INVALID")


async def activate(platform: Platform, token: str, fingerprint: str = "laptop") -> Answer:
    return await platform.api.activate(None, fingerprint, token=token)


async def signer_of(platform: Platform, vendor: Vendor) -> SigningKey:
    keys = await platform.resources.keystore.account(vendor.account)
    assert keys is not None
    return keys.signer


def claims_for(grant: Grant, jti: UUID, account: UUID | None = None) -> ActivationClaims:
    now = int(time.time())
    return ActivationClaims(iss=account or grant.account, lic=grant.id, jti=jti, iat=now, exp=now + 600)


async def uses(platform: Platform, token: UUID) -> int:
    (found,) = await platform.rows("SELECT uses FROM activation_token WHERE id = $1", token)
    return int(found["uses"])


async def test_a_device_activates_by_token_once_however_often_it_asks(platform: Platform) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license()
    token = await vendor.token(grant)

    first = (await activate(platform, token.token)).ok(201)
    second = (await activate(platform, token.token)).ok(200)

    assert (first["deviceId"], first["generation"]) == (second["deviceId"], second["generation"])
    assert await platform.seats_used(grant) == 1
    assert await uses(platform, token.id) == 1


async def test_key_and_token_open_the_same_seat(platform: Platform) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license()

    by_key = (await platform.api.activate(grant.key)).ok(201)
    by_token = (await activate(platform, (await vendor.token(grant)).token)).ok(200)

    assert (by_key["deviceId"], by_key["generation"]) == (by_token["deviceId"], by_token["generation"])


async def test_a_token_is_used_up_by_new_seats_alone(platform: Platform) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license()
    token = await vendor.token(grant, max_uses=2)
    for fingerprint, status in (("a", 201), ("b", 201), ("a", 200), ("b", 200)):
        (await activate(platform, token.token, fingerprint)).ok(status)

    assert (await activate(platform, token.token, "c")).refusal == (401, "TOKEN_EXHAUSTED")
    (await activate(platform, token.token, "a")).ok(200)
    assert (await platform.seats_used(grant), await uses(platform, token.id)) == (2, 2)


async def test_devices_at_the_same_time_never_overuse_a_token(platform: Platform) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license(seats=20)
    token = await vendor.token(grant, max_uses=3)

    answers = await asyncio.gather(*(activate(platform, token.token, f"device-{n}") for n in range(12)))

    assert sorted(answer.status for answer in answers) == [201] * 3 + [401] * 9
    assert (await platform.seats_used(grant), await uses(platform, token.id)) == (3, 3)


async def test_a_refused_activation_uses_nothing_up(platform: Platform) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license(seats=1)
    token = await vendor.token(grant)
    (await activate(platform, token.token, "a")).ok(201)

    assert (await activate(platform, token.token, "b")).refusal == (403, "DEVICE_LIMIT_EXCEEDED")
    assert await uses(platform, token.id) == 1


async def test_an_expired_token_serves_nobody(platform: Platform) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license()
    (await platform.api.activate(grant.key)).ok(201)

    token = await vendor.token(grant, ttl_s=0)

    assert (await activate(platform, token.token, "new")).refusal == (401, "TOKEN_EXPIRED")
    assert (await activate(platform, token.token, "laptop")).refusal == (401, "TOKEN_EXPIRED")
    assert await platform.seats_used(grant) == 1


async def test_a_revoked_token_serves_nobody(platform: Platform) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license()
    token = await vendor.token(grant)
    (await activate(platform, token.token)).ok(201)

    await vendor.licenses.revoke_token(vendor.account, token.id)

    assert (await activate(platform, token.token)).refusal == (401, "TOKEN_REVOKED")
    assert (await activate(platform, token.token, "new")).refusal == (401, "TOKEN_REVOKED")


async def test_a_token_of_a_suspended_license_gives_no_seat(platform: Platform) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license()
    token = await vendor.token(grant)
    await vendor.licenses.set_status(grant.ref, Suspend)

    assert (await activate(platform, token.token)).refusal == (403, "LICENSE_SUSPENDED")
    assert await uses(platform, token.id) == 0


def changed(segment: str, **members: object) -> str:
    """A segment of a JWS with other members."""
    decoded = base64url.decode(segment.encode())
    assert decoded is not None
    return base64url.encode(json.dumps({**json.loads(decoded), **members}).encode()).decode()


def forged_with_public_key(header: str, payload: str, public: bytes) -> str:
    """The classic: a MAC made with the public key, for whoever lets the header choose the algorithm."""
    header = changed(header, alg="HS256")
    mac = hmac.digest(public, f"{header}.{payload}".encode(), "sha256")
    return f"{header}.{payload}.{base64url.encode(mac).decode()}"


async def test_a_forged_token_is_refused(platform: Platform) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license()
    token = (await vendor.token(grant)).token
    header, payload, signature = token.split(".")
    other_letter = "A" if signature[5] != "A" else "B"
    forgeries = {
        "another signature": f"{header}.{payload}.{signature[:5]}{other_letter}{signature[6:]}",
        "no signature": f"{header}.{payload}.",
        "another license": f"{header}.{changed(payload, lic=str(uuid4()))}.{signature}",
        "a later end": f"{header}.{changed(payload, exp=9_999_999_999)}.{signature}",
        "no algorithm": f"{changed(header, alg='none')}.{payload}.",
        "a MAC": forged_with_public_key(header, payload, (await signer_of(platform, vendor)).public),
        "truncated": token[:-1],
        "two segments": f"{header}.{payload}",
        "standard base64": base64.b64encode(token.encode()).decode(),
        "text": "not a token",
        "not ASCII": "ключ.ключ.ключ",
        "no account": f"{header}.{changed(payload, iss=str(uuid4()))}.{signature}",
    }

    assert {name: (await activate(platform, forgery)).refusal for name, forgery in forgeries.items()} == (
        dict.fromkeys(forgeries, INVALID)
    )
    assert await platform.seats_used(grant) == 0


async def test_a_token_in_our_name_that_another_account_signed_is_refused(platform: Platform) -> None:
    ours, theirs = await platform.vendor(), await platform.vendor()
    grant = await ours.license()
    token = await ours.token(grant)

    forged = activation_token.issue(await signer_of(platform, theirs), claims_for(grant, token.id))

    assert (await activate(platform, forged)).refusal == INVALID


async def test_an_account_cannot_sign_a_token_for_anothers_license(platform: Platform) -> None:
    ours, theirs = await platform.vendor(), await platform.vendor()
    grant = await ours.license()
    token = await ours.token(grant)

    forged = activation_token.issue(
        await signer_of(platform, theirs), claims_for(grant, token.id, account=theirs.account)
    )

    assert (await activate(platform, forged)).refusal == INVALID
    assert await platform.seats_used(grant) == 0


async def test_a_token_serves_the_license_it_was_made_for_alone(platform: Platform) -> None:
    vendor = await platform.vendor()
    grant, other = await vendor.license(), await vendor.license()
    token = await vendor.token(other)

    forged = activation_token.issue(await signer_of(platform, vendor), claims_for(grant, token.id))

    assert (await activate(platform, forged)).refusal == INVALID


async def test_a_token_that_was_never_made_is_refused_though_well_signed(platform: Platform) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license()

    unknown = activation_token.issue(await signer_of(platform, vendor), claims_for(grant, uuid4()))

    assert (await activate(platform, unknown)).refusal == INVALID


@pytest.mark.parametrize("kind", ["lease", "certificate", "device token"])
async def test_another_signed_document_is_no_activation_token(platform: Platform, kind: str) -> None:
    grant = await (await platform.vendor()).license()
    activated = (await platform.api.activate(grant.key)).ok(201)
    payload = base64url.decode(activated["lease"].split(".")[1].encode())
    assert payload is not None
    documents = {
        "lease": activated["lease"],
        "certificate": json.loads(payload)["leaf"],
        "device token": activated["deviceToken"],
    }

    assert (await activate(platform, documents[kind], "other")).refusal == INVALID
    assert await platform.seats_used(grant) == 1


async def test_either_a_key_or_a_token_is_sent_and_not_both(platform: Platform) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license()
    token = (await vendor.token(grant)).token

    both = await platform.api.activate(grant.key, token=token)
    neither = await platform.api.activate(None)

    assert both.refusal == neither.refusal == (400, "REQUEST_INVALID")
    assert "licenseKey" in both.json["detail"]
    assert await platform.seats_used(grant) == 0

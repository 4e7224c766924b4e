"""Compact JWS: what is signed is verified by us and by others; whatever is bent is refused."""

import base64
import hashlib
import hmac
import json
import warnings
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt as jose
from joserfc.errors import SecurityWarning
from joserfc.jwk import KeySet

from shared.signing import jws
from shared.signing.jwks import key_set
from shared.signing.keys import load_signing_key, public_jwk, thumbprint

TYP = "seatkeeper-test+jwt"
KEY = load_signing_key(bytes(range(32)), "leaf")
OTHER = load_signing_key(bytes(range(32, 64)), "leaf")
KEYS = {KEY.kid: KEY.public, OTHER.kid: OTHER.public}
CLAIMS = {"iss": "vendor", "gen": 3}
TOKEN = jws.sign(KEY, TYP, CLAIMS)
HEADER, PAYLOAD, SIGNATURE = TOKEN.split(".")


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def signed_over(header: object, payload: bytes = b'{"iss":"vendor","gen":3}') -> str:
    """A token with any header at all (bytes as they are), under a good signature."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    signing_input = f"{b64(text)}.{b64(payload)}"
    return f"{signing_input}.{b64(KEY.private.sign(signing_input.encode()))}"


def header(**more: Any) -> dict[str, Any]:
    return {"alg": "EdDSA", "kid": KEY.kid, "typ": TYP, **more}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(), lambda inner: st.lists(inner), max_leaves=5
)


@given(st.dictionaries(st.text(), json_values))
def test_signed_claims_are_verified(claims: dict[str, Any]) -> None:
    assert jws.verify(jws.sign(KEY, TYP, claims), KEYS, TYP) == claims


def test_a_key_may_be_given_as_an_object_or_as_raw_bytes() -> None:
    key = Ed25519PublicKey.from_public_bytes(KEY.public)
    assert jws.verify(TOKEN, {KEY.kid: key}, TYP) == jws.verify(TOKEN, {KEY.kid: KEY.public}, TYP) == CLAIMS


def test_joserfc_verifies_with_the_jwks() -> None:
    keys = KeySet.import_key_set(key_set([OTHER.public, KEY.public]))  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)
        token = jose.decode(TOKEN, keys, algorithms=["EdDSA"])
    assert (token.header, token.claims) == (header(), CLAIMS)


def test_pyjwt_verifies_with_the_jwks() -> None:
    keys = jwt.PyJWKSet.from_dict(key_set([OTHER.public, KEY.public]))
    claims = jwt.decode(TOKEN, keys[KEY.kid], algorithms=["EdDSA"], options={"verify_iss": False})
    assert claims == CLAIMS


def test_the_key_set_shows_each_public_key_once_and_nothing_private() -> None:
    shown = key_set([KEY.public, OTHER.public, KEY.public])
    assert shown == {"keys": [public_jwk(KEY.public), public_jwk(OTHER.public)]}
    assert public_jwk(KEY.public) == {
        "kty": "OKP", "crv": "Ed25519", "x": b64(KEY.public), "kid": KEY.kid, "use": "sig", "alg": "EdDSA"
    }  # fmt: skip


def test_the_kid_is_the_thumbprint_of_rfc_8037_appendix_a() -> None:
    public = base64.urlsafe_b64decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
    assert thumbprint(public) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


@pytest.mark.parametrize(
    "bent",
    [
        pytest.param(header(typ="seatkeeper-lease+jwt"), id="another typ"),
        pytest.param(header(alg="none"), id="alg none"),
        pytest.param(header(alg="Ed25519"), id="another name of the algorithm"),
        pytest.param(header(alg=["EdDSA"]), id="alg is a list"),
        pytest.param(header(kid="unknown"), id="unknown kid"),
        pytest.param(header(kid=OTHER.kid), id="kid of another key"),
        pytest.param(header(kid=None), id="no kid"),
        pytest.param(header(kid=[KEY.kid]), id="kid is a list"),
        pytest.param(header(crit=["exp"], exp=1), id="crit"),
        pytest.param(header(crit=[]), id="empty crit"),
        pytest.param(header(jwk=public_jwk(KEY.public)), id="embedded jwk"),
        pytest.param(header(jku="https://example.com/jwks.json"), id="jku"),
        pytest.param(header(x5u="https://example.com/chain.pem"), id="x5u"),
        pytest.param(header(b64=False), id="unencoded payload"),
        pytest.param({"alg": "EdDSA", "kid": KEY.kid}, id="no typ"),
        pytest.param({"kid": KEY.kid, "typ": TYP}, id="no alg"),
        pytest.param([["alg", "EdDSA"], ["kid", KEY.kid], ["typ", TYP]], id="pairs in a list"),
        pytest.param("EdDSA", id="a string"),
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="no JSON"),
        pytest.param(b"\xff\xfe", id="no UTF-8"),
        pytest.param(json.dumps(header()).encode("utf-16"), id="UTF-16"),
        pytest.param(b"[" * 150, id="deeply nested"),
        pytest.param(json.dumps(header()).encode() + b" " * 200, id="very long"),
        pytest.param(f'{{"alg":"EdDSA","kid":"{OTHER.kid}","kid":"{KEY.kid}","typ":"{TYP}"}}'.encode(), id="kid twice"),
        pytest.param(f'{{"alg":"none","alg":"EdDSA","kid":"{KEY.kid}","typ":"{TYP}"}}'.encode(), id="alg twice"),
    ],
)
def test_a_bent_header_is_refused_though_the_signature_is_good(bent: object) -> None:
    assert jws.verify(signed_over(header()), KEYS, TYP) == CLAIMS
    assert jws.verify(signed_over(bent), KEYS, TYP) is None


def test_hs256_with_the_public_key_as_its_secret_is_refused() -> None:
    for secret in (KEY.public, b64(KEY.public).encode(), json.dumps(public_jwk(KEY.public)).encode()):
        signing_input = f"{b64(json.dumps(header(alg='HS256')).encode())}.{PAYLOAD}"
        mac = hmac.digest(secret, signing_input.encode(), hashlib.sha256)
        assert jws.verify(f"{signing_input}.{b64(mac)}", KEYS, TYP) is None


def test_alg_none_without_a_signature_is_refused() -> None:
    for alg in ("none", "None", "NONE", ""):
        assert jws.verify(f"{b64(json.dumps(header(alg=alg)).encode())}.{PAYLOAD}.", KEYS, TYP) is None


def test_a_token_signed_by_the_key_that_it_embeds_is_refused() -> None:
    stranger = load_signing_key(b"\x07" * 32, "leaf")
    for kid in (stranger.kid, KEY.kid):
        head = {"alg": "EdDSA", "kid": kid, "typ": TYP, "jwk": public_jwk(stranger.public)}
        signing_input = f"{b64(json.dumps(head).encode())}.{PAYLOAD}"
        token = f"{signing_input}.{b64(stranger.private.sign(signing_input.encode()))}"
        assert jws.verify(token, KEYS, TYP) is None


def test_every_flipped_bit_is_refused() -> None:
    segments = [base64.urlsafe_b64decode(segment + "==") for segment in TOKEN.split(".")]
    for at, raw in enumerate(segments):
        for bit in range(len(raw) * 8):
            flipped = (int.from_bytes(raw, "big") ^ 1 << bit).to_bytes(len(raw), "big")
            bent = [*segments[:at], flipped, *segments[at + 1 :]]
            assert jws.verify(".".join(map(b64, bent)), KEYS, TYP) is None


def test_every_other_last_character_of_the_signature_is_refused() -> None:
    for character in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/=.":
        if character != TOKEN[-1]:
            assert jws.verify(TOKEN[:-1] + character, KEYS, TYP) is None


def test_every_truncation_is_refused() -> None:
    for length in range(len(TOKEN)):
        assert jws.verify(TOKEN[:length], KEYS, TYP) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "..",
        f"{TOKEN}.",
        f".{TOKEN}",
        f"{TOKEN}.{SIGNATURE}",
        f"{TOKEN}=",
        f"{TOKEN}==",
        f"{TOKEN}AA",
        f"{TOKEN}\n",
        f" {TOKEN}",
        f"{HEADER}=.{PAYLOAD}.{SIGNATURE}",
        f"{HEADER}..{SIGNATURE}",
        f"{HEADER}.{PAYLOAD}.{b64(bytes(64))}",
        "é.é.é",
        "\ud800.a.a",
        "A" * 100_000,
    ],
)
def test_a_text_of_another_shape_is_refused(text: str) -> None:
    assert jws.verify(text, KEYS, TYP) is None


@pytest.mark.parametrize("payload", [b"", b"[]", b'"text"', b"null", b"{", b"\xff", b'{"a":1}x', b"[" * 5000])
def test_signed_claims_that_are_no_object_are_refused(payload: bytes) -> None:
    assert jws.verify(signed_over(header(), payload), KEYS, TYP) is None


def test_a_trusted_key_of_another_length_verifies_nothing() -> None:
    assert jws.verify(TOKEN, {KEY.kid: KEY.public[:31]}, TYP) is None


@given(st.text() | st.lists(st.binary(max_size=40).map(b64), max_size=4).map(".".join))
def test_no_text_whatever_raises(text: str) -> None:
    assert jws.verify(text, KEYS, TYP) is None

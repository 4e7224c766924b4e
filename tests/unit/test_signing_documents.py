"""The documents that a leaf key signs: leases and activation tokens."""

import uuid
from datetime import UTC, datetime

import jwt
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.signing import activation_token, jws
from shared.signing import lease as leases
from shared.signing.activation_token import ActivationClaims
from shared.signing.jwks import key_set
from shared.signing.keyring import new_account_keys, verify_certificate
from shared.signing.lease import LeaseClaims, sign_lease

NOW = datetime(2026, 11, 3, 12, tzinfo=UTC)
ACCOUNT, LICENSE, DEVICE = uuid.UUID(int=1), uuid.UUID(int=2), uuid.UUID(int=3)
ROOT, LEAF, CERTIFICATE = new_account_keys(ACCOUNT, NOW)
KEYS = {LEAF.kid: LEAF.public}
LEASE = LeaseClaims(
    iss=ACCOUNT,
    aud="photo-editor",
    sub=DEVICE,
    lic=LICENSE,
    fp="0f" * 32,
    gen=2,
    iat=1_793_707_200,
    nbf=1_793_707_200,
    exp=1_794_312_000,
    lease_expires_at=1_801_483_200,
    leaf=CERTIFICATE,
)
ACTIVATION = ActivationClaims(iss=ACCOUNT, lic=LICENSE, jti=uuid.UUID(int=9), iat=100, exp=200)
TOKEN = activation_token.issue(LEAF, ACTIVATION)


def test_a_lease_says_on_the_wire_what_clients_read() -> None:
    assert jws.verify(sign_lease(LEAF, LEASE), KEYS, "seatkeeper-lease+jwt") == {
        "iss": str(ACCOUNT),
        "aud": "photo-editor",
        "sub": str(DEVICE),
        "lic": str(LICENSE),
        "fp": "0f" * 32,
        "gen": 2,
        "iat": 1_793_707_200,
        "nbf": 1_793_707_200,
        "exp": 1_794_312_000,
        "leaseExpiresAt": 1_801_483_200,
        "leaf": CERTIFICATE,
        "state": "active",
    }


def test_a_client_that_knows_only_the_root_can_verify_a_lease() -> None:
    token = sign_lease(LEAF, LEASE)
    unverified = jwt.decode(token, options={"verify_signature": False})
    leaf = verify_certificate(ROOT.public, unverified["leaf"], NOW, account=ACCOUNT)
    assert leaf is not None
    claims = jwt.decode(
        token,
        jwt.PyJWK(leaf),
        algorithms=["EdDSA"],
        audience="photo-editor",
        issuer=str(ACCOUNT),
        options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
    )
    assert claims["sub"] == str(DEVICE)


def test_an_activation_token_is_verified_and_names_its_account_before() -> None:
    assert activation_token.peek_account(TOKEN) == ACCOUNT
    assert activation_token.verify(TOKEN, KEYS) == ACTIVATION


def test_an_expired_activation_token_is_returned_for_the_ledger_to_judge() -> None:
    old = msgspec.structs.replace(ACTIVATION, exp=0)
    assert activation_token.verify(activation_token.issue(LEAF, old), KEYS) == old


def test_pyjwt_verifies_an_activation_token_with_the_jwks() -> None:
    key = jwt.PyJWKSet.from_dict(key_set([LEAF.public]))[LEAF.kid]
    claims = jwt.decode(TOKEN, key, algorithms=["EdDSA"], options={"verify_exp": False})
    assert claims == {"iss": str(ACCOUNT), "lic": str(LICENSE), "jti": str(ACTIVATION.jti), "iat": 100, "exp": 200}


def test_a_lease_is_no_activation_token_though_the_same_key_signed_it() -> None:
    assert activation_token.verify(sign_lease(LEAF, LEASE), KEYS) is None
    assert jws.verify(TOKEN, KEYS, leases.TYP) is None


def test_an_activation_token_of_another_account_s_key_is_refused() -> None:
    _, stranger, _ = new_account_keys(uuid.UUID(int=7), NOW)
    forged = activation_token.issue(stranger, ACTIVATION)
    assert activation_token.peek_account(forged) == ACCOUNT
    assert activation_token.verify(forged, KEYS) is None


@pytest.mark.parametrize(
    "claims",
    [{}, {"iss": "x"}, {"iss": str(ACCOUNT), "lic": str(LICENSE), "jti": str(DEVICE), "iat": 1, "exp": "soon"}],
)
def test_a_signed_activation_token_of_another_shape_is_refused(claims: dict[str, object]) -> None:
    assert activation_token.verify(jws.sign(LEAF, activation_token.TYP, claims), KEYS) is None


@given(st.text() | st.lists(st.binary(max_size=60), max_size=4).map(lambda parts: ".".join(map(bytes.hex, parts))))
def test_no_text_whatever_raises(text: str) -> None:
    assert activation_token.peek_account(text) is None
    assert activation_token.verify(text, KEYS) is None

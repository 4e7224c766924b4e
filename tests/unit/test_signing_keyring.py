"""An account's keys: certified, sealed, opened, and never shown."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from shared.signing import jws
from shared.signing.keyring import (
    CERTIFICATE_TYP,
    BrokenSealError,
    SealedKey,
    certify,
    load_signing_key,
    new_account_keys,
    new_signing_key,
    seal,
    unseal,
    verify_certificate,
)
from shared.signing.keys import public_jwk
from shared.signing.secrets import MasterSecrets

NOW = datetime(2026, 11, 3, 12, tzinfo=UTC)
ACCOUNT, STRANGER = uuid.UUID(int=1), uuid.UUID(int=2)
ROOT, LEAF, CERTIFICATE = new_account_keys(ACCOUNT, NOW)
ONE, TWO = bytes(range(32)), bytes(range(32, 64))
MASTER = MasterSecrets({"k1": ONE}, "k1")
PRIVATE = LEAF.private.private_bytes_raw()
SEALED = seal(MASTER, ACCOUNT, LEAF.kid, PRIVATE)


def test_new_keys_are_a_root_and_a_leaf_that_it_certifies() -> None:
    assert (ROOT.role, LEAF.role) == ("root", "leaf")
    assert verify_certificate(ROOT.public, CERTIFICATE, NOW, account=ACCOUNT) == public_jwk(LEAF.public)


def test_a_certificate_names_the_account_and_lasts_ten_years() -> None:
    claims = jws.verify(CERTIFICATE, {ROOT.kid: ROOT.public}, CERTIFICATE_TYP)
    assert claims is not None
    assert (claims["iss"], claims["leaf"]["kid"]) == (str(ACCOUNT), LEAF.kid)
    assert datetime.fromtimestamp(claims["exp"], UTC) == NOW + timedelta(days=3653)


@pytest.mark.parametrize(
    ("age", "valid"),
    [
        (timedelta(minutes=-6), False),
        (timedelta(minutes=-5), True),
        (timedelta(days=3652), True),
        (timedelta(days=3653), False),
    ],
)
def test_a_certificate_holds_for_its_time_only(age: timedelta, valid: bool) -> None:
    assert (verify_certificate(ROOT.public, CERTIFICATE, NOW + age, account=ACCOUNT) is not None) == valid


def test_a_certificate_of_another_account_or_another_root_is_refused() -> None:
    assert verify_certificate(ROOT.public, CERTIFICATE, NOW, account=STRANGER) is None
    assert verify_certificate(new_signing_key("root").public, CERTIFICATE, NOW, account=ACCOUNT) is None
    assert verify_certificate(LEAF.public, CERTIFICATE, NOW, account=ACCOUNT) is None


def test_a_leaf_certifies_nothing() -> None:
    with pytest.raises(ValueError, match="root"):
        certify(LEAF, ROOT.public, ACCOUNT, NOW)


@pytest.mark.parametrize(
    "leaf",
    [
        public_jwk(LEAF.public) | {"kid": ROOT.kid},
        public_jwk(LEAF.public) | {"alg": "HS256"},
        public_jwk(LEAF.public) | {"x": public_jwk(ROOT.public)["x"]},
        public_jwk(LEAF.public) | {"d": "AAAA"},
        public_jwk(b""),
        {"kid": LEAF.kid},
        {},
        None,
    ],
)
def test_a_certificate_over_a_faulty_leaf_is_refused(leaf: object) -> None:
    token = jws.sign(ROOT, CERTIFICATE_TYP, {"iss": str(ACCOUNT), "leaf": leaf, "nbf": 0, "exp": 2**40})
    assert verify_certificate(ROOT.public, token, NOW, account=ACCOUNT) is None


def test_another_document_of_the_root_is_no_certificate() -> None:
    claims = jws.verify(CERTIFICATE, {ROOT.kid: ROOT.public}, CERTIFICATE_TYP)
    token = jws.sign(ROOT, "seatkeeper-lease+jwt", claims)
    assert verify_certificate(ROOT.public, token, NOW, account=ACCOUNT) is None


def test_a_sealed_key_opens_for_its_account_and_kid_only() -> None:
    assert unseal(MASTER, ACCOUNT, LEAF.kid, SEALED) == PRIVATE
    for account, kid in [(STRANGER, LEAF.kid), (ACCOUNT, ROOT.kid), (ACCOUNT, "")]:
        with pytest.raises(BrokenSealError):
            unseal(MASTER, account, kid, SEALED)


def test_an_opened_key_signs_as_before() -> None:
    key = load_signing_key(unseal(MASTER, ACCOUNT, LEAF.kid, SEALED), "leaf")
    assert (key.kid, key.public, key.private.sign(b"x")) == (LEAF.kid, LEAF.public, LEAF.private.sign(b"x"))


def test_a_sealed_key_opens_after_a_rotation_but_not_once_its_secret_is_dropped() -> None:
    rotated = MasterSecrets({"k1": ONE, "k2": TWO}, "k2")
    assert unseal(rotated, ACCOUNT, LEAF.kid, SEALED) == PRIVATE
    assert seal(rotated, ACCOUNT, LEAF.kid, PRIVATE).key_id == "k2"
    with pytest.raises(BrokenSealError, match="not held"):
        unseal(MasterSecrets({"k2": TWO}, "k2"), ACCOUNT, LEAF.kid, SEALED)


def test_a_key_sealed_under_another_secret_of_the_same_id_does_not_open() -> None:
    with pytest.raises(BrokenSealError):
        unseal(MasterSecrets({"k1": TWO}, "k1"), ACCOUNT, LEAF.kid, SEALED)


def test_every_damage_to_a_sealed_key_is_found() -> None:
    raw = SEALED.sealed
    damaged = [raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :] for at in range(len(raw))]
    for sealed in [*damaged, *(raw[:length] for length in range(len(raw))), raw + b"\0"]:
        with pytest.raises(BrokenSealError):
            unseal(MASTER, ACCOUNT, LEAF.kid, SealedKey(key_id="k1", sealed=sealed))


def test_sealing_twice_never_gives_the_same_bytes() -> None:
    assert seal(MASTER, ACCOUNT, LEAF.kid, PRIVATE) != SEALED


def test_a_private_key_is_in_no_repr_and_in_no_sealed_bytes() -> None:
    assert repr(LEAF) == str(LEAF) == f"SigningKey(kid='{LEAF.kid}', role='leaf')"
    assert PRIVATE not in SEALED.sealed

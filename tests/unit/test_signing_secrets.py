"""Master secrets, what is derived from them, and the digests of bearer secrets."""

import base64
import hashlib
import hmac
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.signing.license_key_hash import LicenseKeyHasher
from shared.signing.management_token import generate
from shared.signing.secrets import MasterSecrets, Purpose

ONE, TWO = bytes(range(32)), bytes(range(32, 64))
KEY = "123VSAYHWXDAN0RY4CBXX5AZH3AH"


def hkdf_sha256(secret: bytes, info: bytes) -> bytes:
    """RFC 5869 for one block, written out as a second opinion."""
    return hmac.digest(hmac.digest(bytes(32), secret, "sha256"), info + b"\x01", "sha256")


def test_secrets_are_read_from_base64_and_the_current_one_comes_first() -> None:
    texts = {"a1": base64.b64encode(ONE).decode(), "b2": base64.b64encode(TWO).decode() + "\n"}
    master = MasterSecrets.from_base64(texts, "b2")
    assert master.key_ids == ("b2", "a1")
    assert master.derive("b2", Purpose.DEVICE_TOKEN) == MasterSecrets({"b2": TWO}, "b2").derive(
        "b2", Purpose.DEVICE_TOKEN
    )


@pytest.mark.parametrize("purpose", Purpose)
def test_keys_are_derived_by_hkdf_and_never_change(purpose: Purpose) -> None:
    master = MasterSecrets({"k1": ONE}, "k1")
    expected = hkdf_sha256(ONE, b"seatkeeper/" + purpose.value.encode())
    assert [master.derive("k1", purpose) for _ in range(2)] == [expected] * 2


def test_each_secret_and_each_purpose_has_a_key_of_its_own() -> None:
    master = MasterSecrets({"k1": ONE, "k2": TWO}, "k1")
    derived = {master.derive(key_id, purpose) for key_id in master.key_ids for purpose in Purpose}
    assert len(derived) == 2 * len(Purpose)


def test_a_key_id_that_is_not_held_has_no_keys() -> None:
    with pytest.raises(KeyError):
        MasterSecrets({"k1": ONE}, "k1").derive("k2", Purpose.DEVICE_TOKEN)


SECRET_TEXT = base64.b64encode(ONE).decode()


@pytest.mark.parametrize(
    ("texts", "current"),
    [
        ({}, "k1"),
        ({"k1": SECRET_TEXT}, "k2"),
        ({"k1": SECRET_TEXT}, SECRET_TEXT),
        ({SECRET_TEXT: "k1"}, SECRET_TEXT),
        ({"": SECRET_TEXT}, ""),
        ({"K1": SECRET_TEXT}, "K1"),
        ({"k1\n": SECRET_TEXT}, "k1\n"),
        ({"ninechars": SECRET_TEXT}, "ninechars"),
        ({"k1": SECRET_TEXT[:-4]}, "k1"),
        ({"k1": SECRET_TEXT[:-1]}, "k1"),
        ({"k1": SECRET_TEXT + "AAAA"}, "k1"),
        ({"k1": SECRET_TEXT[:20] + "é" + SECRET_TEXT[20:]}, "k1"),
        ({"k1": SECRET_TEXT[:20] + "!" + SECRET_TEXT[20:]}, "k1"),
        ({"k1": ""}, "k1"),
    ],
)
def test_faulty_secrets_are_refused_without_echoing_them(texts: dict[str, str], current: str) -> None:
    with pytest.raises(ValueError, match="master secret") as refusal:
        MasterSecrets.from_base64(texts, current)
    assert refusal.value.__context__ is None
    told = "".join(traceback.format_exception_only(refusal.value))
    assert SECRET_TEXT[:12] not in told


def test_secrets_are_in_no_repr() -> None:
    master = MasterSecrets({"k1": ONE}, "k1")
    master.derive("k1", Purpose.DEVICE_TOKEN)
    assert repr(master) == str(master) == "MasterSecrets(key_ids=('k1',), current='k1')"


def test_a_digest_is_an_hmac_under_the_current_pepper() -> None:
    master = MasterSecrets({"k1": ONE, "k2": TWO}, "k2")
    digest = LicenseKeyHasher(master).digest(KEY)
    pepper = master.derive("k2", Purpose.LICENSE_KEY_PEPPER)
    assert (digest.key_id, digest.digest) == ("k2", hmac.new(pepper, KEY.encode(), hashlib.sha256).digest())


@given(st.text())
def test_a_digest_stored_before_a_rotation_is_among_the_candidates_after_it(canonical: str) -> None:
    before = LicenseKeyHasher(MasterSecrets({"k1": ONE}, "k1")).digest(canonical)
    after = LicenseKeyHasher(MasterSecrets({"k1": ONE, "k2": TWO}, "k2"))
    assert after.candidates(canonical) == [after.digest(canonical), before]


def test_digests_repeat_and_differ_between_texts_and_purposes() -> None:
    master = MasterSecrets({"k1": ONE}, "k1")
    keys, tokens = LicenseKeyHasher(master), LicenseKeyHasher(master, Purpose.MANAGEMENT_TOKEN)
    assert keys.digest(KEY) == keys.digest(KEY)
    assert len({keys.digest(KEY), keys.digest(KEY.lower()), tokens.digest(KEY)}) == 3


def test_a_text_that_cannot_be_encoded_has_a_digest_rather_than_an_error_that_shows_it() -> None:
    assert len(LicenseKeyHasher(MasterSecrets({"k1": ONE}, "k1")).digest("secret\ud800").digest) == 32


def test_a_management_token_is_its_entropy_behind_a_prefix() -> None:
    token = generate(ONE)
    assert token == "skm_" + base64.urlsafe_b64encode(ONE).decode().rstrip("=")
    with pytest.raises(ValueError, match="32 bytes"):
        generate(bytes(31))

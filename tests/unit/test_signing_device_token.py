"""Device tokens: issued, believed, forged, and the strict base64url under them."""

import base64
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.signing import base64url
from shared.signing.device_token import DeviceClaims, DeviceTokens
from shared.signing.secrets import MasterSecrets

ONE, TWO = bytes(range(32)), bytes(range(32, 64))
TOKENS = DeviceTokens(MasterSecrets({"k1": ONE}, "k1"))
CLAIMS = DeviceClaims(account=uuid.UUID(int=1), license=uuid.UUID(int=2), device=uuid.UUID(int=3), generation=4)
TOKEN = TOKENS.issue(CLAIMS)
FROZEN = "skd1.azEAAAAAAAAAAAAAAAAAAAAAAAAAAAABAAAAAAAAAAAAAAAAAAAAAgAAAAAAAAAAAAAAAAAAAAMAAAAEcsJIihgYALGN-lZRrdiVDg6q"

any_claims = st.builds(
    DeviceClaims, account=st.uuids(), license=st.uuids(), device=st.uuids(), generation=st.integers(0, 2**32 - 1)
)


@given(any_claims)
def test_an_issued_token_is_believed(claims: DeviceClaims) -> None:
    assert TOKENS.verify(TOKENS.issue(claims)) == claims


@given(any_claims)
def test_what_a_token_says_is_read_back_in_every_form(claims: DeviceClaims) -> None:
    read = TOKENS.verify(TOKENS.issue(claims))
    assert read is not None
    assert (read.account, read.license, read.device) == (claims.account, claims.license, claims.device)
    assert read.device_text == str(claims.device)
    assert read.ids == claims.account.bytes + claims.license.bytes + claims.device.bytes
    assert read.generation == claims.generation


def test_the_format_of_tokens_that_devices_hold_never_changes() -> None:
    assert TOKEN == FROZEN


def test_a_token_issued_before_a_rotation_is_believed_until_its_secret_is_dropped() -> None:
    rotated = DeviceTokens(MasterSecrets({"k1": ONE, "k2": TWO}, "k2"))
    dropped = DeviceTokens(MasterSecrets({"k2": TWO}, "k2"))
    assert [rotated.verify(TOKEN), dropped.verify(TOKEN)] == [CLAIMS, None]
    assert dropped.verify(rotated.issue(CLAIMS)) == CLAIMS


def test_a_token_of_another_installation_is_refused_though_its_key_id_is_ours() -> None:
    assert TOKENS.verify(DeviceTokens(MasterSecrets({"k1": TWO}, "k1")).issue(CLAIMS)) is None


def test_every_flipped_bit_is_refused() -> None:
    raw = base64.urlsafe_b64decode(TOKEN[5:])
    for bit in range(len(raw) * 8):
        forged = (int.from_bytes(raw, "big") ^ 1 << bit).to_bytes(len(raw), "big")
        assert TOKENS.verify("skd1." + base64.urlsafe_b64encode(forged).decode()) is None


def test_every_other_character_in_every_place_is_refused() -> None:
    for place in range(len(TOKEN)):
        for character in {*map(chr, range(128)), "é", "\ud800", "Ａ"} - {TOKEN[place]}:
            assert TOKENS.verify(TOKEN[:place] + character + TOKEN[place + 1 :]) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "skd1.",
        TOKEN[5:],
        TOKEN[:-1],
        TOKEN + "A",
        TOKEN + "=",
        TOKEN[:-4],
        TOKEN + "AAAA",
        f" {TOKEN}",
        f"{TOKEN}\n",
        "skd2." + TOKEN[5:],
        "SKD1." + TOKEN[5:],
        TOKEN[:-2] + "==",
        TOKEN * 2,
    ],
)
def test_a_text_of_another_shape_is_refused(text: str) -> None:
    assert TOKENS.verify(text) is None


@given(st.text(max_size=120) | st.text(min_size=104, max_size=104).map("skd1.".__add__))
def test_no_text_whatever_raises(text: str) -> None:
    assert TOKENS.verify(text) is None


@given(st.binary(max_size=120))
def test_base64url_is_read_back(data: bytes) -> None:
    text = base64url.encode(data)
    assert text == base64.urlsafe_b64encode(data).rstrip(b"=")
    assert base64url.decode(text) == data


@given(st.text("AQgwZz_-9+/= \n", max_size=12))
def test_base64url_has_one_text_for_each_value(text: str) -> None:
    data = base64url.decode(text.encode())
    assert data is None or base64url.encode(data) == text.encode()


@pytest.mark.parametrize(
    "text", [b"QQ==", b"QR", b"QUJ", b"Q", b"QU E", b"++++", b"////", b"QUFB\n", b"QUFB====", b"\xff" * 4]
)
def test_a_second_spelling_is_refused(text: bytes) -> None:
    assert base64url.decode(text) is None

"""License keys: the client finds wrong what the server would, and writes the same key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seatkeeper.license_key import KeyFault, canonical, check, prefix
from shared.licensing import license_key as server
from shared.licensing.license_key import LicenseKey, format_key, read_key

ENTROPY = st.binary(min_size=17, max_size=17)
KEY = format_key(bytes.fromhex("a7b3914c5d0e6f28817263544a5b6c7d8e"))


def assert_agreed(text: str) -> None:
    expected = read_key(text)
    if isinstance(expected, LicenseKey):
        assert (check(text), canonical(text), prefix(text)) == (None, expected.canonical, expected.prefix)
    else:
        assert check(text) == KeyFault[expected.name]


def test_the_faults_are_those_of_the_server_in_the_same_words() -> None:
    assert {fault.name: fault.value for fault in KeyFault} == {fault.name: fault.value for fault in server.KeyFault}


@given(ENTROPY, st.data())
def test_a_key_is_recognised_however_it_is_typed(entropy: bytes, data: st.DataObject) -> None:
    spellings = {"1": "1IiLl", "0": "0Oo"}
    typed = ""
    for symbol in format_key(entropy).replace("-", ""):
        typed += data.draw(st.sampled_from(spellings.get(symbol, symbol + symbol.lower())))
        typed += data.draw(st.sampled_from(["", "-", " ", "\u2013", "\u00a0", "\u200b"]))
    assert check(f" {typed}\r\n") is None
    assert canonical(typed) == format_key(entropy).replace("-", "")


@pytest.mark.parametrize("place", [at for at, symbol in enumerate(KEY) if symbol != "-" and at > 0])
def test_every_wrong_character_is_told_without_the_server(place: int) -> None:
    for symbol in set("0123456789ABCDEFGHJKMNPQRSTVWXYZ") - {KEY[place]}:
        assert check(KEY[:place] + symbol + KEY[place + 1 :]) is KeyFault.CHECK_MISMATCH


@given(ENTROPY, st.integers(1, 27), st.integers(1, 27))
def test_characters_that_changed_places_are_told_as_by_the_server(entropy: bytes, one: int, other: int) -> None:
    symbols = list(format_key(entropy).replace("-", ""))
    symbols[one], symbols[other] = symbols[other], symbols[one]
    assert_agreed("".join(symbols))


@given(st.text(max_size=150) | st.text(st.sampled_from("01OlI -\u2013\u00a0\0é"), max_size=140))
def test_any_text_is_judged_as_by_the_server(text: str) -> None:
    assert_agreed(text)


def test_every_sign_that_may_stand_between_is_the_servers() -> None:
    for code in (*range(0x2300), *range(0xFE00, 0x10000), 0x1F600):
        assert_agreed(KEY[:11] + chr(code) + KEY[11:])


KEYS_AT_THE_LIMITS = ["", " \t", "x" * 15, "x" * 16, "x" * 128, "x" * 129, "x" * 16 + "\0", "日本語" * 6, KEY[:-1]]
KEYS_AT_THE_LIMITS += [
    KEY[:10] + "\0" + KEY[10:],
    KEY[:9] + "\n" + KEY[9:],
    "2" + KEY[1:],
    KEY + "0",
    "K\u212a" + KEY[2:],
]


@pytest.mark.parametrize("text", KEYS_AT_THE_LIMITS)
def test_keys_at_the_limits_are_judged_as_by_the_server(text: str) -> None:
    assert_agreed(text)


def test_a_fault_says_nothing_of_the_key() -> None:
    assert all(KEY[:4] not in fault for fault in KeyFault)
    assert prefix(KEY) == KEY.replace("-", "")[:8]

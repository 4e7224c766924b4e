"""License keys as text: written, read, mistyped, imported, refused."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.licensing.license_key import KeyFault, LicenseKey, format_key, read_key

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
ENTROPY = st.binary(min_size=17, max_size=17)
SAMPLES = [bytes(17), b"\xff" * 17, bytes(range(17)), bytes.fromhex("a7b3914c5d0e6f28817263544a5b6c7d8e")]
FROZEN = [
    "1000-0000-0000-0000-0000-0000-000B",
    "1ZZZ-ZZZZ-ZZZZ-ZZZZ-ZZZZ-ZZZZ-ZZZW",
    "1000-G40R-40M3-0E20-9185-GR38-E1W3",
    "1MYS-S2K2-X1SQ-JH0B-JCDA-4MPV-CFPA",
]


def written(entropy: bytes) -> str:
    return format_key(entropy).replace("-", "")


def own(text: str) -> LicenseKey:
    key = read_key(text)
    assert isinstance(key, LicenseKey)
    assert not key.imported
    return key


def imported(text: str) -> LicenseKey:
    key = read_key(text)
    assert isinstance(key, LicenseKey)
    assert key.imported
    return key


def test_a_key_is_seven_groups_of_four_beginning_with_the_format_version() -> None:
    groups = format_key(SAMPLES[3]).split("-")
    assert [len(group) for group in groups] == [4] * 7
    assert groups[0][0] == "1"
    assert set("".join(groups)) <= set(ALPHABET)


def test_the_format_of_keys_that_customers_hold_never_changes() -> None:
    assert [format_key(entropy) for entropy in SAMPLES] == FROZEN


@given(ENTROPY)
def test_a_written_key_is_read_back(entropy: bytes) -> None:
    text = format_key(entropy)
    assert own(text) == LicenseKey(canonical=text.replace("-", ""), prefix=text[:4] + text[5:9], imported=False)


@given(ENTROPY, ENTROPY)
def test_different_random_bits_make_different_keys(one: bytes, other: bytes) -> None:
    same_bits = int.from_bytes(one, "big") >> 6 == int.from_bytes(other, "big") >> 6
    assert (format_key(one) == format_key(other)) == same_bits


def test_every_one_of_the_130_random_bits_counts() -> None:
    keys = {format_key((1 << bit).to_bytes(17, "big")) for bit in range(6, 136)}
    assert len(keys) == 130


def test_too_little_entropy_is_an_error() -> None:
    with pytest.raises(ValueError, match="17 bytes"):
        format_key(bytes(16))


@given(ENTROPY, st.data())
def test_case_spaces_hyphens_and_lookalike_letters_do_not_matter(entropy: bytes, data: st.DataObject) -> None:
    spellings = {"1": "1IiLl", "0": "0Oo"}
    typed = ""
    for symbol in written(entropy):
        typed += data.draw(st.sampled_from(spellings.get(symbol, symbol + symbol.lower())))
        typed += data.draw(st.sampled_from(["", "", "-", " ", "\u2013", "\u00a0"]))
    assert own(f" {typed}\r\n").canonical == written(entropy)


@pytest.mark.parametrize("entropy", SAMPLES)
def test_every_substitution_of_one_character_is_detected(entropy: bytes) -> None:
    key = written(entropy)
    for place in range(1, 28):
        for symbol in set(ALPHABET) - {key[place]}:
            assert read_key(key[:place] + symbol + key[place + 1 :]) is KeyFault.CHECK_MISMATCH


@pytest.mark.parametrize("entropy", SAMPLES)
def test_another_format_version_is_not_our_key(entropy: bytes) -> None:
    key = written(entropy)
    for symbol in set(ALPHABET) - {"1"}:
        assert imported(symbol + key[1:])


@pytest.mark.parametrize("entropy", SAMPLES)
def test_every_transposition_of_two_different_characters_is_detected(entropy: bytes) -> None:
    key = written(entropy)
    for one, other in combinations(range(28), 2):
        if key[one] == key[other]:
            continue
        swapped = key[:one] + key[other] + key[one + 1 : other] + key[one] + key[other + 1 :]
        result = read_key(swapped)
        assert result is KeyFault.CHECK_MISMATCH or (swapped[0] != "1" and imported(swapped))


@given(ENTROPY, st.integers(1, 27), st.integers(1, 27))
def test_any_transposition_in_any_key_is_detected(entropy: bytes, one: int, other: int) -> None:
    symbols = list(written(entropy))
    symbols[one], symbols[other] = symbols[other], symbols[one]
    mistyped = "".join(symbols)
    assert (mistyped == written(entropy)) == (read_key(mistyped) is not KeyFault.CHECK_MISMATCH)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", KeyFault.EMPTY),
        (" \t\n", KeyFault.EMPTY),
        ("x" * 15, KeyFault.TOO_SHORT),
        (" " + "x" * 15 + " ", KeyFault.TOO_SHORT),
        ("x" * 129, KeyFault.TOO_LONG),
        ("x" * 16 + "\0", KeyFault.BAD_CHARACTER),
        ("x" * 8 + "\n" + "x" * 8, KeyFault.BAD_CHARACTER),
        ("x" * 16 + "\x7fx", KeyFault.BAD_CHARACTER),
        ("x" * 16 + "\ud800", KeyFault.BAD_CHARACTER),
        ("x" * 16 + "\u202ex", KeyFault.BAD_CHARACTER),
        ("x" * 16 + "\u200bx", KeyFault.BAD_CHARACTER),
    ],
)
def test_a_text_that_can_be_no_key_is_refused_with_the_reason(text: str, fault: KeyFault) -> None:
    assert read_key(text) is fault


def test_a_control_character_inside_our_key_is_refused() -> None:
    key = format_key(SAMPLES[3])
    assert read_key(key[:10] + "\0" + key[10:]) is KeyFault.BAD_CHARACTER


@pytest.mark.parametrize("text", ["x" * 16, "x" * 128, "ACME-Pro-2024-abcdef", "Schlüssel für Müller", "日本語" * 6])
def test_an_imported_key_is_taken_as_it_stands(text: str) -> None:
    assert imported(f"  {text}\n") == LicenseKey(canonical=text, prefix=text[:8], imported=True)


def test_imported_keys_that_differ_in_case_or_hyphens_are_different_keys() -> None:
    texts = ["ACME-0000-1111-2222", "acme-0000-1111-2222", "ACME000011112222", "ACME-OOOO-1111-2222"]
    assert len({imported(text).canonical for text in texts}) == 4


@given(st.text(max_size=150))
def test_any_text_is_read_or_refused_and_reading_again_changes_nothing(text: str) -> None:
    key = read_key(text)
    if isinstance(key, LicenseKey):
        assert read_key(key.canonical) == key


def test_a_key_is_in_no_repr() -> None:
    for key in (own(format_key(SAMPLES[3])), imported("ACME-Pro-2024-abcdef")):
        assert key.canonical not in f"{key!r} {key} {[key]}"
        assert key.prefix in repr(key)

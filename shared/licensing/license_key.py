"""License keys as text: how ours are written, and how what a person typed is read.

- Our key is 28 characters in groups of four: the format version `1`, 26 Crockford base32 characters of 130 random
  bits, and a check character over the 27 before it. Case, spaces and hyphens do not matter; I and L read as 1, O as 0.
- The check character is a linear code over GF(32) (x^5 + x^2 + 1). As the 28 weights are different powers of a
  primitive element, every single substitution and every transposition of two different characters is detected.
- Whatever has the shape of ours must pass the check. Any other text of 16 to 128 printable characters is an imported
  key: case-sensitive and taken as it stands, but for the whitespace around it. The kinds share no canonical form.
- Randomness comes from the caller. A key is a secret: it is in no repr, and a fault says nothing of the text.
"""

from enum import StrEnum

import msgspec

ENTROPY_BYTES = 17
PREFIX_LENGTH = 8
SHORTEST, LONGEST = 16, 128

_FORMAT_VERSION = "1"
_LENGTH = 28
_RANDOM_SYMBOLS = 26
_GROUP = 4

_ALPHABET = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_NO_SYMBOL = 0xFF
_IGNORED = b" -"
# What word processors and web pages make of a space or a hyphen: no-break spaces, dashes, zero-width characters.
_LOOKALIKES = dict.fromkeys(
    [0x00A0, 0x00AD, *range(0x2010, 0x2016), 0x202F, 0x2212, 0x200B, 0x2060, 0xFEFF],
    "-",
)


class KeyFault(StrEnum):
    """Why a text cannot be a license key, in words for a person."""

    EMPTY = "the license key is empty"
    TOO_SHORT = "the license key is too short"
    TOO_LONG = "the license key is too long"
    BAD_CHARACTER = "the license key has a character that cannot be printed"
    CHECK_MISMATCH = "the license key is mistyped: its check character does not match"


class LicenseKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that was read. `canonical` is the secret; `prefix` may be shown and stored."""

    canonical: str
    prefix: str
    imported: bool

    def __repr__(self) -> str:
        return f"LicenseKey(prefix={self.prefix!r}, imported={self.imported})"


def format_key(entropy: bytes) -> str:
    """Write a new key, in groups, from the first 130 bits of `entropy` (at least 17 random bytes, else ValueError)."""
    if len(entropy) < ENTROPY_BYTES:
        raise ValueError(f"a license key needs {ENTROPY_BYTES} bytes of entropy, not {len(entropy)}")
    bits = int.from_bytes(entropy[:ENTROPY_BYTES], "big") >> (8 * ENTROPY_BYTES - 5 * _RANDOM_SYMBOLS)
    values = [int(_FORMAT_VERSION)]
    values += [bits >> (5 * place) & 31 for place in reversed(range(_RANDOM_SYMBOLS))]
    values.append(_TIMES_PRIMITIVE[_syndrome(bytes(values))])
    text = bytes(values).translate(_SYMBOLS).decode()
    return "-".join(text[at : at + _GROUP] for at in range(0, _LENGTH, _GROUP))


def read_key(text: str) -> LicenseKey | KeyFault:
    """Read what was typed, pasted or sent: our key, an imported one, or the reason why it can be neither."""
    stripped = text.strip()
    if not SHORTEST <= len(stripped) <= LONGEST:
        return _length_fault(stripped)
    values = _own_values(stripped)
    if values is not None:
        if _syndrome(values):
            return KeyFault.CHECK_MISMATCH
        own = values.translate(_SYMBOLS).decode()
        return LicenseKey(canonical=own, prefix=own[:PREFIX_LENGTH], imported=False)
    if not stripped.isprintable():
        return KeyFault.BAD_CHARACTER
    return LicenseKey(canonical=stripped, prefix=stripped[:PREFIX_LENGTH], imported=True)


def _length_fault(text: str) -> KeyFault:
    if not text:
        return KeyFault.EMPTY
    return KeyFault.TOO_SHORT if len(text) < SHORTEST else KeyFault.TOO_LONG


def _own_values(text: str) -> bytes | None:
    """The 28 symbols as numbers if the text has the shape of our own keys."""
    plain = text if text.isascii() else text.translate(_LOOKALIKES)
    if not plain.isascii():
        return None
    values = plain.encode().translate(_VALUES, _IGNORED)
    if len(values) != _LENGTH or values[0] != int(_FORMAT_VERSION) or _NO_SYMBOL in values:
        return None
    return values


def _syndrome(values: bytes) -> int:
    """Horner's rule over GF(32); zero for a whole key whose check character is right."""
    state = 0
    for value in values:
        state = _TIMES_PRIMITIVE[state] ^ value
    return state


def _value_table() -> bytes:
    table = bytearray([_NO_SYMBOL] * 256)
    for value, symbol in enumerate(_ALPHABET):
        table[symbol] = table[ord(chr(symbol).lower())] = value
    for looks_like_one in b"ILil":
        table[looks_like_one] = 1
    for looks_like_zero in b"Oo":
        table[looks_like_zero] = 0
    return bytes(table)


_VALUES = _value_table()
_SYMBOLS = _ALPHABET.ljust(256, b"?")
_TIMES_PRIMITIVE = bytes((value << 1) ^ (0b100101 if value & 16 else 0) for value in range(32))

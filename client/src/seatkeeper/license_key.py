"""License keys as a person types them: what is wrong with one is told without asking the server.

- A key of Seatkeeper's own is 28 characters in groups of four: the format version `1`, 26 characters of Crockford
  base32, and a check character over the 27 before it (a linear code over GF(32)), which detects every single wrong
  character and every two that changed places. Case, spaces and hyphens do not matter; I and L read as 1, O as 0.
- Any other text of 16 to 128 printable characters is a key that the vendor brought along, taken as it stands but for
  the whitespace around it.
- A key is a secret: a fault says nothing of the text. Only `prefix` may be shown.
"""

from enum import StrEnum

SHORTEST, LONGEST = 16, 128

_LENGTH = 28
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUES = {
    **{symbol: value for value, symbol in enumerate(_ALPHABET)},
    **{symbol.lower(): value for value, symbol in enumerate(_ALPHABET)},
    **dict.fromkeys("ILil", 1),
    **dict.fromkeys("Oo", 0),
}
# What word processors and web pages make of a space or a hyphen: no-break spaces, dashes, zero-width characters.
_IGNORED = {ord(" "), ord("-"), 0x00A0, 0x00AD, *range(0x2010, 0x2016), 0x202F, 0x2212, 0x200B, 0x2060, 0xFEFF}
_WITHOUT_IGNORED = dict.fromkeys(_IGNORED)


class KeyFault(StrEnum):
    """Why a text cannot be a license key, in words for a person."""

    EMPTY = "the license key is empty"
    TOO_SHORT = "the license key is too short"
    TOO_LONG = "the license key is too long"
    BAD_CHARACTER = "the license key has a character that cannot be printed"
    CHECK_MISMATCH = "the license key is mistyped: its check character does not match"


def check(text: str) -> KeyFault | None:
    """What is wrong with a key, as far as it shows without the server."""
    stripped = text.strip()
    if not stripped:
        return KeyFault.EMPTY
    if not SHORTEST <= len(stripped) <= LONGEST:
        return KeyFault.TOO_SHORT if len(stripped) < SHORTEST else KeyFault.TOO_LONG
    values = _own_values(stripped)
    if values is not None:
        return KeyFault.CHECK_MISMATCH if _syndrome(values) else None
    return None if stripped.isprintable() else KeyFault.BAD_CHARACTER


def canonical(text: str) -> str:
    """The one spelling of a key: 28 plain characters of our own, any other key without the whitespace around it."""
    stripped = text.strip()
    values = _own_values(stripped)
    return stripped if values is None else "".join(_ALPHABET[value] for value in values)


def prefix(text: str) -> str:
    """The part that may be shown: the first 8 characters."""
    return canonical(text)[:8]


def _own_values(text: str) -> list[int] | None:
    """The 28 symbols as numbers if the text has the shape of Seatkeeper's own keys."""
    symbols = text.translate(_WITHOUT_IGNORED)
    values = [_VALUES[symbol] for symbol in symbols if symbol in _VALUES]
    return values if len(symbols) == len(values) == _LENGTH and values[0] == 1 else None


def _syndrome(values: list[int]) -> int:
    """Horner's rule over GF(32) with x^5 + x^2 + 1; zero for a whole key whose check character is right."""
    state = 0
    for value in values:
        state = (state << 1) ^ (0b100101 if state & 16 else 0) ^ value
    return state

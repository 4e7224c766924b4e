"""Base64url without padding (RFC 4648, section 5), read strictly: one text for each value.

Two texts for one value would let a token be altered without being forged, and slip past whatever remembers texts.
So characters of the standard alphabet, padding, whitespace and stray trailing bits are all refused.
"""

import binascii

_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_+/=", b"+/***")


def encode(data: bytes) -> bytes:
    """The unpadded text, as ASCII bytes."""
    return binascii.b2a_base64(data, newline=False).translate(_TO_URL, b"=")


def decode(text: bytes) -> bytes | None:
    """The value, or None unless `text` is exactly what `encode` writes for it."""
    try:
        data = binascii.a2b_base64(text.translate(_FROM_URL) + b"=" * (-len(text) % 4), strict_mode=True)
    except ValueError:
        return None
    # Whole groups of four have no trailing bits, so strict decoding alone leaves them one spelling.
    return data if len(text) % 4 == 0 or encode(data) == text else None

"""Base64url without padding (RFC 4648, section 5), read strictly: one text for each value.

Two texts for one value would let a document be altered without being forged. So characters of the standard alphabet,
padding, whitespace and stray trailing bits are all refused.
"""

import base64


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes | None:
    """The value, or None unless `text` is exactly what `encode` writes for it."""
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return None
    return data if encode(data) == text else None

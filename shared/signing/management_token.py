"""The vendor's bearer token for the management API: 32 random bytes behind a prefix that secret scanners can find.

Shown once; stored only as a digest (`LicenseKeyHasher` with the management-token purpose). Randomness is the caller's.
"""

from shared.signing import base64url

PREFIX = "skm_"
ENTROPY_BYTES = 32


def generate(entropy: bytes) -> str:
    """The token of exactly 32 random bytes; ValueError for another length."""
    if len(entropy) != ENTROPY_BYTES:
        raise ValueError(f"a management token needs {ENTROPY_BYTES} bytes of entropy, not {len(entropy)}")
    return PREFIX + base64url.encode(entropy).decode()

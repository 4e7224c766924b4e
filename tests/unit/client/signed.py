"""What a vendor signs, made by the server's own code, for tests of the client."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.signing import lease, license_file
from shared.signing.keyring import new_account_keys, new_rsa_leaf
from shared.signing.keys import RsaSigningKey, SigningKey

NOW = datetime(2026, 11, 3, 12, tzinfo=UTC)
ACCOUNT, LICENSE, DEVICE = uuid.UUID(int=1), uuid.UUID(int=2), uuid.UUID(int=3)
PRODUCT = "photo-editor"
FINGERPRINT = "0f" * 32
ROOT, LEAF, CERTIFICATE = new_account_keys(ACCOUNT, NOW)
RSA, RSA_CERTIFICATE = new_rsa_leaf(ROOT, ACCOUNT, NOW)
STRANGER, STRANGERS_LEAF, STRANGERS_CERTIFICATE = new_account_keys(ACCOUNT, NOW)


def license_text(key: SigningKey | RsaSigningKey = LEAF, **changes: Any) -> bytes:
    """A license file from now on for a year, unless changed."""
    members: dict[str, Any] = {
        "iss": ACCOUNT,
        "aud": PRODUCT,
        "license": LICENSE,
        "device": DEVICE,
        "generation": 2,
        "fingerprint": FINGERPRINT,
        "issued": NOW,
        "expiry": NOW + timedelta(days=365),
        "leaf": RSA_CERTIFICATE if key is RSA else CERTIFICATE,
        "entitlements": {"export": None, "projects": 25},
    }
    return license_file.sign(key, license_file.LicenseFile(**members | changes))


def lease_text(key: SigningKey = LEAF, **changes: Any) -> str:
    """A lease from now on for seven days, unless changed."""
    at_s = int(NOW.timestamp())
    members: dict[str, Any] = {
        "iss": ACCOUNT,
        "aud": PRODUCT,
        "sub": DEVICE,
        "lic": LICENSE,
        "fp": FINGERPRINT,
        "gen": 2,
        "iat": at_s,
        "nbf": at_s,
        "exp": at_s + 7 * 86_400,
        "lease_expires_at": at_s + 90 * 86_400,
        "leaf": CERTIFICATE,
    }
    return lease.sign_lease(key, lease.LeaseClaims(**members | changes))

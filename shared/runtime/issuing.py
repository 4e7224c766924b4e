"""What a device is given after a commit: its signed lease and its token, and when to be heard again."""

import random
from datetime import datetime

import msgspec

from shared.ledger.connections import UnavailableError
from shared.licensing.leases import valid_until
from shared.licensing.model import Device, License
from shared.runtime.keystore import Keystore
from shared.signing.device_token import DeviceClaims, DeviceTokens
from shared.signing.lease import LeaseClaims, sign_lease

JITTER = 0.2


class IssuedLease(msgspec.Struct, frozen=True, kw_only=True):
    """A signed lease and the end it states."""

    text: str
    valid_until: datetime


class Issuer:
    def __init__(self, keystore: Keystore, tokens: DeviceTokens) -> None:
        self._keystore = keystore
        self._tokens = tokens

    def token(self, device: Device) -> str:
        """The device token of the current generation."""
        return self._tokens.issue(
            DeviceClaims(
                account=device.account_id,
                license=device.license_id,
                device=device.id,
                generation=device.generation,
            )
        )

    async def lease(self, license: License, device: Device, now: datetime) -> IssuedLease:
        """Sign what the ledger holds for an active device. Raises `UnavailableError` when no key can be had."""
        keys = await self._keystore.account(license.account_id)
        if keys is None or device.lease_expires_at is None:
            raise UnavailableError
        until = valid_until(
            lease_expires_at=device.lease_expires_at,
            issued_at=now,
            offline_grace_s=license.terms.offline_grace_s,
            license_expires_at=license.expires_at,
        )
        claims = LeaseClaims(
            iss=license.account_id,
            aud=license.terms.product_code,
            sub=device.id,
            lic=license.id,
            fp=device.fingerprint,
            gen=device.generation,
            iat=int(now.timestamp()),
            nbf=int(now.timestamp()),
            exp=int(until.timestamp()),
            lease_expires_at=int(device.lease_expires_at.timestamp()),
            leaf=keys.certificate,
        )
        return IssuedLease(text=sign_lease(keys.signer, claims), valid_until=until)


def next_heartbeat_s(interval_s: int) -> int:
    """The interval with ±20 % jitter, so that devices which began together do not stay together."""
    return max(1, round(interval_s * random.uniform(1 - JITTER, 1 + JITTER)))  # noqa: S311 - jitter, no secret

"""What a device is given after a commit: its signed lease and its token, and when to be heard again."""

import random

import msgspec

from shared.ledger.connections import UnavailableError
from shared.licensing.leases import hard_end, valid_until_s
from shared.licensing.model import Device, License
from shared.runtime.keystore import Keystore
from shared.signing.device_token import DeviceClaims, DeviceTokens
from shared.signing.lease import LeaseClaims, sign_lease

JITTER = 0.2


class IssuedLease(msgspec.Struct, frozen=True, kw_only=True):
    """A signed lease and the end it states, in seconds since 1970."""

    text: str
    valid_until_s: int


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

    async def lease(self, license: License, device: Device, now_s: float) -> IssuedLease:
        """Sign what the ledger holds for an active device. Raises `UnavailableError` when no key can be had."""
        keys = await self._keystore.account(license.account_id)
        if keys is None or device.lease_expires_at is None:
            raise UnavailableError
        until_s = held_until_s(license, device, now_s)
        claims = LeaseClaims(
            iss=license.account_id,
            aud=license.terms.product_code,
            sub=device.id,
            lic=license.id,
            fp=device.fingerprint,
            gen=device.generation,
            iat=int(now_s),
            nbf=int(now_s),
            exp=until_s,
            lease_expires_at=int(device.lease_expires_at.timestamp()),
            leaf=keys.certificate,
            trial=license.terms.trial or msgspec.UNSET,
            entitlements=license.terms.entitlements or msgspec.UNSET,
        )
        return IssuedLease(text=sign_lease(keys.signer, claims), valid_until_s=until_s)


def held_until_s(license: License, device: Device, now_s: float) -> int:
    """The end of a lease that would be signed now for an active device."""
    assert device.lease_expires_at is not None
    end = hard_end(license)
    return valid_until_s(
        lease_expires_s=int(device.lease_expires_at.timestamp()),
        issued_s=int(now_s),
        offline_grace_s=license.terms.offline_grace_s,
        license_expires_s=int(end.timestamp()) if end else None,
    )


def next_heartbeat_s(interval_s: int) -> int:
    """The interval with ±20 % jitter, so that devices which began together do not stay together."""
    return round(interval_s * (1 - JITTER + 2 * JITTER * random.random())) or 1  # noqa: S311 - jitter, no secret

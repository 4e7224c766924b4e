"""Every key in Redis, and the packed values behind them.

A license's keys share one hash tag, made from account and license, so that Redis Cluster keeps them together.

| key | type | holds |
| --- | --- | --- |
| `sk:{TAG}` | hash | field `h`: the header (`HEADER`); one field of 8 bytes per active device: `SEAT` |
| `sn:{TAG}:DIGEST` | string | a nonce seen within the replay window: the digest of the body it came with |
| `sk:watermark` | string | `EPOCH:RUN_ID:MICROSECONDS` of the last second's pulse |
"""

from base64 import urlsafe_b64encode
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from struct import Struct
from uuid import UUID

from shared.licensing.model import Device, DeviceState, License, LicenseStatus

WATERMARK = b"sk:watermark"
HEADER_FIELD = b"h"

HEADER = Struct("<IQBIIIIIII")
"""epoch, version, status, limit, allowed, used, lease_s, offline_grace_s, heartbeat_interval_s, expires_at (0: never).
Little-endian; the Lua scripts read the first 13 bytes and `lease_s`, `expires_at`."""

SEAT = Struct("<III")
"""generation, floor (the lease's end in Postgres) and last contact, in seconds since 1970. Little-endian."""

STATUSES = (LicenseStatus.ACTIVE, LicenseStatus.SUSPENDED, LicenseStatus.REVOKED)


@lru_cache(maxsize=65_536)
def license_key(account_id: UUID, license_id: UUID) -> bytes:
    return b"sk:{" + _tag(account_id, license_id) + b"}"


def nonce_key(account_id: UUID, license_id: UUID, digest: bytes) -> bytes:
    return b"sn:{" + _tag(account_id, license_id) + b"}:" + digest


def device_field(device_id: UUID) -> bytes:
    """Eight bytes that stand for a device within its license; the id derives from (license, fingerprint)."""
    return device_id.bytes[8:]


def pack_contact(device_id: UUID, generation: int) -> bytes:
    """A device's field with the generation that is meant."""
    return device_id.bytes[8:] + generation.to_bytes(4, "little")


def pack_header(epoch: int, license: License) -> bytes:
    terms = license.terms
    return HEADER.pack(
        epoch,
        license.version,
        STATUSES.index(license.status),
        license.seats_limit,
        license.seats_allowed,
        license.seats_used,
        terms.lease_s,
        terms.offline_grace_s,
        terms.heartbeat_interval_s,
        seconds(license.expires_at),
    )


def pack_seat(device: Device) -> bytes | None:
    """An active device's value; None for a device that holds no seat and so has no field."""
    if device.state is not DeviceState.ACTIVE:
        return None
    return SEAT.pack(device.generation, seconds(device.lease_expires_at), seconds(device.last_contact_at))


def seconds(moment: datetime | None) -> int:
    """Whole seconds since 1970, rounded down so that no floor is later than Postgres's; 0 for none."""
    return 0 if moment is None else min(max(int(moment.timestamp()), 1), 0xFFFFFFFF)


def _tag(account_id: UUID, license_id: UUID) -> bytes:
    return urlsafe_b64encode(blake2b(account_id.bytes + license_id.bytes, digest_size=15).digest())

"""Every key in Redis, and the packed values behind them.

A license's keys share one hash tag, made from account and license, so that Redis Cluster keeps them together. A million
devices are a million fields, so what a header or a key is longer than it must be is paid for in memory: a license of
four devices fills 160 bytes of a listpack, and with one more byte Redis would take 192.

| key | type | holds |
| --- | --- | --- |
| `s{TAG}` | hash | field `0`: the header (`HEADER`); one field of 8 bytes per active device: `SEAT` |
| `n{TAG}:DIGEST` | string | a nonce seen within the replay window: the digest of the body it came with |
| `l{TAG}`, `la{TAG}` | string | a license's or account's rate: the microsecond since 1970 from which it owes nothing |
| `lf:DIGEST` | string | the same of an address, for the failed authentications from it |
| `sk:watermark` | string | `EPOCH:HISTORY:MICROSECONDS` of the last pulse; of a Cluster's primaries `sk:watermark{N}` |
| `sk:reconciler` | string | the process that compares Redis with Postgres just now, for some seconds |
"""

from base64 import urlsafe_b64encode
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from struct import Struct
from uuid import UUID

from shared.licensing.model import Device, DeviceState, License, LicenseStatus, OnExpiry

WATERMARK = b"sk:watermark"
RECONCILER = b"sk:reconciler"
LICENSES = b"s{*"
"""Matches the keys of all licenses."""
HEADER_FIELD = b"0"

HEADER = Struct("<IQBIIIIII")
"""epoch, version, status and flags, limit, used, lease_s, offline_grace_s, heartbeat_interval_s, expires_at (0: never).
Little-endian; the Lua scripts read the first 13 bytes and `lease_s`, `expires_at`. What is allowed is no less than both
limit and used, and no more."""

STATUS_BITS = 0x0F
"""The status, as an index into `STATUSES`; above it the flags."""
EXPIRY_WARNS = 0x10
"""The license's end is no end for active devices: they are only warned."""
VERSIONS_RANGED = 0x20
"""The policy serves some versions of the application alone, so every contact is for the ledger."""

SEAT = Struct("<IIII")
"""generation, floor (the lease's end in Postgres) and last contact in seconds since 1970, and the count that the device
told with it (0: none). Little-endian."""

STATUSES = (LicenseStatus.ACTIVE, LicenseStatus.SUSPENDED, LicenseStatus.REVOKED)

_ASKED = Struct("<II")


def license_key(account_id: UUID, license_id: UUID) -> bytes:
    return license_key_of(account_id.bytes + license_id.bytes)


@lru_cache(maxsize=65_536)
def license_key_of(ids: bytes) -> bytes:
    """The key by the 32 bytes of both ids."""
    return b"s{" + _tag(ids) + b"}"


def nonce_key(account_id: UUID, license_id: UUID, digest: bytes) -> bytes:
    return b"n{" + _tag(account_id.bytes + license_id.bytes) + b"}:" + digest


def license_rate_key(ids: bytes) -> bytes:
    """By the 32 bytes of account and license."""
    return b"l{" + _tag(ids) + b"}"


def account_rate_key(account_id: bytes) -> bytes:
    return b"la{" + _tag(account_id) + b"}"


def address_rate_key(address: bytes) -> bytes:
    """No address rests in Redis, only its digest."""
    return b"lf:" + _tag(address)


def device_field(device_id: UUID) -> bytes:
    """Eight bytes that stand for a device within its license; the id derives from (license, fingerprint)."""
    return device_id.bytes[8:]


def pack_contact(device_id: bytes, generation: int, counter: int) -> bytes:
    """A device's field with the generation that is meant (0: whichever is current) and its count (0: it tells none)."""
    return device_id[8:] + _ASKED.pack(generation, counter)


def pack_header(epoch: int, license: License) -> bytes:
    terms = license.terms
    return HEADER.pack(
        epoch,
        license.version,
        _standing(license),
        license.seats_limit,
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
    return SEAT.pack(
        device.generation, seconds(device.lease_expires_at), seconds(device.last_contact_at), device.counter
    )


def seconds(moment: datetime | None) -> int:
    """Whole seconds since 1970, rounded down so that no floor is later than Postgres's; 0 for none."""
    return 0 if moment is None else min(max(int(moment.timestamp()), 1), 0xFFFFFFFF)


def _standing(license: License) -> int:
    """The header's byte of status and flags."""
    terms = license.terms
    warns = EXPIRY_WARNS if terms.on_expiry is not OnExpiry.REFUSE_ALL else 0
    ranged = VERSIONS_RANGED if terms.min_version is not None or terms.max_version is not None else 0
    return STATUSES.index(license.status) | warns | ranged


def _tag(ids: bytes) -> bytes:
    return urlsafe_b64encode(blake2b(ids, digest_size=12).digest())

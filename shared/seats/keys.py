"""Every key in Redis, and the packed values behind them.

A million devices are a million fields, so what a key or a value is longer than it must be is paid for in memory. So
headers and seats have two forms, told apart by their lengths: the short one where every number fits, else the long one.
A license of four devices in short form is a listpack of 120 bytes; allocators give in steps of 16 (to 120, or to 128).
lua/values.lua reads and writes the same.

| key | type | holds |
| --- | --- | --- |
| `L` and 12 bytes: LICENSE | hash | field `0`: the header; one field of 8 bytes per active device: its seat |
| `n{LICENSE}:DIGEST` | string | a nonce seen within the replay window: the digest of the body it came with |
| `l{LICENSE}`, `la{TAG}` | string | a license's, account's rate: microsecond since 1970 from which it owes nothing |
| `lf:TAG` | string | the same of an address, for the failed authentications from it |
| `sk:watermark` | string | `EPOCH:HISTORY:MICROSECONDS` of the last pulse; of a Cluster's primaries `sk:watermark{N}` |
| `sk:reconciler` | string | the process that compares Redis with Postgres just now, for some seconds |

A license's own key has no braces, so that Redis Cluster hashes it whole; the others of the license have it in braces,
and rest in the same slot. What an older version wrote, under `s{TAG}`, counts as missing, as does this for it.
"""

import struct
from base64 import urlsafe_b64encode
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from struct import Struct
from uuid import UUID

from shared.licensing.model import Device, DeviceState, License, LicenseStatus, OnExpiry

WATERMARK = b"sk:watermark"
RECONCILER = b"sk:reconciler"
LICENSES = b"L*"
"""Matches the keys of all licenses."""
HEADER_FIELD = b"0"

_HEADER, _SHORT_HEADER = Struct("<IQBIIIIII"), Struct("<HIBHHHHHI")
"""epoch, version, status and flags, limit, used, lease_s, offline_grace_s, heartbeat_interval_s, expires_at (0: never).
What is allowed is no less than both limit and used, and no more. The short form tells the three durations in seconds,
from `_HOURS` on in whole hours above it."""
_HOURS = 0x8000

STATUS_BITS = 0x0F
"""The status, as an index into `STATUSES`; above it the flags."""
EXPIRY_WARNS = 0x10
"""The license's end is no end for active devices: they are only warned."""
VERSIONS_RANGED = 0x20
"""The policy serves some versions of the application alone, so every contact is for the ledger."""

_SEAT, _SHORT_SEAT = Struct("<IIII"), Struct("<IIH")
"""generation, floor (the lease's end in Postgres) and last contact in seconds since 1970, and the count that the device
told with it (0: none). The short form: floor; generation (8 bits) and by how much the contact was before the floor (24
bits: half a year); count."""

STATUSES = (LicenseStatus.ACTIVE, LicenseStatus.SUSPENDED, LicenseStatus.REVOKED)

_ASKED = Struct("<II")
_WITHOUT_BRACES = bytes.maketrans(b"{}", b"[]")


def license_key(account_id: UUID, license_id: UUID) -> bytes:
    return license_key_of(account_id.bytes + license_id.bytes)


@lru_cache(maxsize=65_536)
def license_key_of(ids: bytes) -> bytes:
    """The key by the 32 bytes of both ids."""
    return b"L" + _digest(ids).translate(_WITHOUT_BRACES)


def nonce_key(account_id: UUID, license_id: UUID, digest: bytes) -> bytes:
    return b"n{" + license_key(account_id, license_id) + b"}:" + digest


def license_rate_key(ids: bytes) -> bytes:
    """By the 32 bytes of account and license."""
    return b"l{" + license_key_of(ids) + b"}"


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
    numbers = epoch, license.version, _standing(license), license.seats_limit, license.seats_used
    durations = terms.lease_s, terms.offline_grace_s, terms.heartbeat_interval_s
    expires_s = seconds(license.expires_at)
    try:
        return _SHORT_HEADER.pack(*numbers, *map(_shortened, durations), expires_s)
    except struct.error:
        return _HEADER.pack(*numbers, *durations, expires_s)


def unpack_header(header: bytes) -> tuple[int, ...]:
    """Its numbers, in their order. Raises `ValueError` for what is no header."""
    if len(header) == _SHORT_HEADER.size:
        epoch, version, standing, limit, used, lease, grace, interval, expires_s = _SHORT_HEADER.unpack(header)
        lease_s = lease if lease < _HOURS else (lease - _HOURS) * 3600
        grace_s = grace if grace < _HOURS else (grace - _HOURS) * 3600
        interval_s = interval if interval < _HOURS else (interval - _HOURS) * 3600
        return epoch, version, standing, limit, used, lease_s, grace_s, interval_s, expires_s
    if len(header) != _HEADER.size:
        raise ValueError(f"{len(header)} bytes")
    return _HEADER.unpack(header)


def header_size(value: bytes) -> int:
    """The length of the header that `value` begins with, and nothing of that length or more follows."""
    return _SHORT_HEADER.size if len(value) < _HEADER.size else _HEADER.size


def pack_seat(device: Device) -> bytes | None:
    """An active device's value; None for a device that holds no seat and so has no field."""
    if device.state is not DeviceState.ACTIVE:
        return None
    floor_s, heard_s = seconds(device.lease_expires_at), seconds(device.last_contact_at)
    return pack_numbers_of_seat(device.generation, floor_s, heard_s, device.counter)


def pack_numbers_of_seat(generation: int, floor_s: int, heard_s: int, counter: int) -> bytes:
    if generation < 0x100:
        with suppress(struct.error):
            return _SHORT_SEAT.pack(floor_s, (floor_s - heard_s) << 8 | generation, counter)
    return _SEAT.pack(generation, floor_s, heard_s, counter)


def unpack_seat(seat: bytes) -> tuple[int, int, int, int]:
    """Its numbers, in their order. Raises `ValueError` for what is no seat."""
    if len(seat) == _SHORT_SEAT.size:
        floor_s, before, counter = _SHORT_SEAT.unpack(seat)
        return before & 0xFF, floor_s, floor_s - (before >> 8), counter
    if len(seat) != _SEAT.size:
        raise ValueError(f"{len(seat)} bytes")
    generation, floor_s, heard_s, counter = _SEAT.unpack(seat)
    return generation, floor_s, heard_s, counter


def seconds(moment: datetime | None) -> int:
    """Whole seconds since 1970, rounded down so that no floor is later than Postgres's; 0 for none."""
    return 0 if moment is None else min(max(int(moment.timestamp()), 1), 0xFFFFFFFF)


def _standing(license: License) -> int:
    """The header's byte of status and flags."""
    terms = license.terms
    warns = EXPIRY_WARNS if terms.on_expiry is not OnExpiry.REFUSE_ALL else 0
    ranged = VERSIONS_RANGED if terms.min_version is not None or terms.max_version is not None else 0
    return STATUSES.index(license.status) | warns | ranged


def _shortened(duration_s: int) -> int:
    """A duration in 16 bits; more than these hold where that cannot be."""
    if duration_s < _HOURS:
        return duration_s
    hours, rest = divmod(duration_s, 3600)
    return 0x10000 if rest else _HOURS + hours


def _digest(of: bytes) -> bytes:
    return blake2b(of, digest_size=12).digest()


def _tag(of: bytes) -> bytes:
    return urlsafe_b64encode(_digest(of))

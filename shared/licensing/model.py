"""The vocabulary: licenses, devices, commands, and what a decision says.

Rules of this room: frozen data only; no I/O, no clock, no randomness. Times are aware UTC datetimes,
lengths of time are whole seconds and say so in their names (`lease_s`).
"""

from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from uuid import UUID

import msgspec

from shared.licensing.codes import Code


class LicenseStatus(StrEnum):
    ACTIVE = "active"
    SUSPENDED = "suspended"
    REVOKED = "revoked"


class DeviceState(StrEnum):
    PENDING = "pending"
    ACTIVE = "active"
    RELEASED = "released"
    BLOCKED = "blocked"


class Kind(StrEnum):
    NODE_LOCKED = "node_locked"
    FLOATING = "floating"


class Approval(StrEnum):
    AUTOMATIC = "automatic"
    ALLOW_LIST = "allow_list"


class Reason(StrEnum):
    """Why a seat ended, as the trail and the device are told."""

    USER = "user"
    ADMIN = "admin"
    IDLE = "idle"
    LEASE_EXPIRED = "lease_expired"
    RESET = "reset"
    BLOCKED = "blocked"
    FORCED = "forced"
    SUPERSEDED = "superseded"


class EventKind(StrEnum):
    """A change that is audited and told as a fact of the same name."""

    LICENSE_CREATED = "license.created"
    LICENSE_SUSPENDED = "license.suspended"
    LICENSE_REINSTATED = "license.reinstated"
    LICENSE_REVOKED = "license.revoked"
    LICENSE_RESIZED = "license.resized"
    DEVICE_PENDING = "device.pending"
    DEVICE_APPROVED = "device.approved"
    DEVICE_ACTIVATED = "device.activated"
    DEVICE_RELEASED = "device.released"
    DEVICE_BLOCKED = "device.blocked"
    DEVICE_UNBLOCKED = "device.unblocked"
    DEVICE_RESET = "device.reset"
    LEASE_EXPIRING = "lease.expiring"


class Terms(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the policy grants to every license under it.

    `offline_grace_s` is how long a signed lease may outlive its issue; a floating license's equals its lease.
    """

    kind: Kind
    lease_s: int
    offline_grace_s: int
    heartbeat_interval_s: int
    approval: Approval
    product_code: str


class License(msgspec.Struct, frozen=True, kw_only=True):
    """One customer's grant as the ledger reads it under its lock. `version` rises by one with each event."""

    account_id: UUID
    id: UUID
    status: LicenseStatus
    seats_limit: int
    seats_allowed: int
    seats_used: int
    devices_pending: int
    version: int
    expires_at: datetime | None
    terms: Terms

    @property
    def full(self) -> bool:
        return self.seats_used >= self.seats_limit


class Device(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One fingerprint under one license. Each activation raises `generation`; `nonce` made the current one."""

    account_id: UUID
    license_id: UUID
    id: UUID
    fingerprint: str
    name: str
    state: DeviceState
    generation: int
    approved: bool
    activated_at: datetime | None
    last_contact_at: datetime | None
    lease_expires_at: datetime | None
    announced_lease_end: datetime | None
    ended_at: datetime | None
    ended_reason: Reason | None
    reset_at: datetime | None
    nonce: bytes | None


class ActivationToken(msgspec.Struct, frozen=True, kw_only=True):
    """A vendor's token for one license as the ledger reads it under the license's lock."""

    id: UUID
    expires_at: datetime
    max_uses: int
    uses: int
    revoked_at: datetime | None


def device_id(license_id: UUID, fingerprint: str) -> UUID:
    """The one identity of a fingerprint under a license: an RFC 9562 version 8 UUID from their SHA-256.

    Being derived, it makes a second active device per (license, fingerprint) impossible by primary key.
    """
    digest = bytearray(sha256(license_id.bytes + fingerprint.encode()).digest()[:16])
    digest[6] = (digest[6] & 0x0F) | 0x80
    digest[8] = (digest[8] & 0x3F) | 0x80
    return UUID(bytes=bytes(digest))


# --- Commands -------------------------------------------------------------------------------------------------


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody asks of one license. `actor` says who, for the trail: `device`, `holder`, `admin`, `reaper`."""

    account_id: UUID
    license_id: UUID
    actor: str


class DeviceCommand(Command, frozen=True, kw_only=True):
    """A command about one device. Without `generation` it means the current one."""

    device_id: UUID
    generation: int | None = None


class Activate(DeviceCommand, frozen=True, kw_only=True):
    fingerprint: str
    name: str = ""
    nonce: bytes | None = None
    token_id: UUID | None = None


class Extend(DeviceCommand, frozen=True, kw_only=True):
    """A contact: heartbeat, or validate with a fingerprint."""


class Release(DeviceCommand, frozen=True, kw_only=True):
    reason: Reason = Reason.USER


class Reset(DeviceCommand, frozen=True, kw_only=True):
    """Give the seat back and note when the device's state was cleared."""


class Expire(DeviceCommand, frozen=True, kw_only=True):
    """The reaper's claim that a lease is past its end; decided again under the lock."""


class Announce(DeviceCommand, frozen=True, kw_only=True):
    """The reaper's claim that a lease is about to end."""


class Block(DeviceCommand, frozen=True, kw_only=True):
    pass


class Unblock(DeviceCommand, frozen=True, kw_only=True):
    pass


class Approve(DeviceCommand, frozen=True, kw_only=True):
    """Put a fingerprint on the license's allow-list, whether or not it has asked yet."""

    fingerprint: str


class Suspend(Command, frozen=True, kw_only=True):
    pass


class Reinstate(Command, frozen=True, kw_only=True):
    pass


class Revoke(Command, frozen=True, kw_only=True):
    pass


class Resize(Command, frozen=True, kw_only=True):
    seats: int


# --- Decisions ------------------------------------------------------------------------------------------------


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One audited change. The counts are those after it, so that the trail alone can recompute the allowance."""

    kind: EventKind
    version: int
    seats_used: int
    seats_allowed: int
    device: Device | None = None
    reason: Reason | None = None


class Granted(msgspec.Struct, frozen=True, kw_only=True):
    """Yes. `changed` tells whether this very command moved something: a new seat, a freed one, a new status."""

    changed: bool
    device: Device | None = None


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """No, and why. `device` is given where the refusal is about one that is known."""

    code: Code
    reason: Reason | None = None
    device: Device | None = None


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The answer, and what the ledger has to write for it: the license and devices as they are afterwards."""

    answer: Granted | Refused
    license: License
    devices: tuple[Device, ...] = ()
    events: tuple[Event, ...] = ()
    token_used: UUID | None = None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A license and some of its devices as they are at `license.version`, for the projection.

    `base_version` is the version that the devices' changes start from; equal to the license's when none was made.
    """

    license: License
    base_version: int
    devices: tuple[Device, ...] = ()

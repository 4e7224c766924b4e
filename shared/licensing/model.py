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


class Overage(StrEnum):
    """Whether a license may hold more devices than its seats: such seats are marked."""

    NONE = "none"
    UNLIMITED = "unlimited"


class OnExpiry(StrEnum):
    """What the end of a license means: nothing goes on, no new device, or only a warning in each answer."""

    REFUSE_ALL = "refuse_all"
    REFUSE_NEW = "refuse_new"
    WARN = "warn"


class OnClone(StrEnum):
    """What a device whose counter went back meets: a mark in the trail, or a refusal as well."""

    MARK = "mark"
    REFUSE = "refuse"


class OfflineAlgorithm(StrEnum):
    """By what an offline file is signed: RSA-3072 (PS256), which old systems verify too, or Ed25519."""

    RSA = "rsa"
    ED25519 = "ed25519"


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
    DEVICE_RESUMED = "device.resumed"
    DEVICE_HELD_OFFLINE = "device.held_offline"
    DEVICE_RENEWED = "device.renewed"
    CLONE_SUSPECTED = "device.clone_suspected"
    LEASE_EXPIRING = "lease.expiring"


class Rules(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The part of a policy's terms that most policies leave as it is.

    - `expires_at` is the end that licenses are granted with; `valid_s` the length from a license's first activation.
    - Versions are those of the application, both ends included: see `versions.py`.
    - Activations are counted per hour and license, releases by device or holder, offline files that are given back
      among them, per year of 365 days and license.
    - `offline_max_days` 0 allows no offline file.
    - `entitlements` are codes with an optional limit each, which the application reads in its lease.
    - `show_holders`: a device for which there is no seat is told who holds them.
    """

    overage: Overage = Overage.NONE
    expires_at: datetime | None = None
    valid_s: int | None = None
    on_expiry: OnExpiry = OnExpiry.REFUSE_ALL
    trial: bool = False
    min_version: str | None = None
    max_version: str | None = None
    activations_per_hour: int | None = None
    releases_per_year: int | None = None
    offline_max_days: int = 0
    offline_algorithm: OfflineAlgorithm = OfflineAlgorithm.RSA
    entitlements: dict[str, int | None] = msgspec.field(default_factory=dict)
    on_clone: OnClone = OnClone.MARK
    show_holders: bool = False


class Terms(Rules, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What the policy grants to every license under it.

    `offline_grace_s` is how long a signed lease may outlive its issue; a floating license's equals its lease.
    """

    kind: Kind
    lease_s: int
    offline_grace_s: int
    heartbeat_interval_s: int
    approval: Approval
    product_code: str


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """What was counted since a window of time began; it ends its length later, and the next begins when needed."""

    began_at: datetime | None = None
    count: int = 0


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
    activations: Window = Window()
    releases: Window = Window()

    @property
    def full(self) -> bool:
        return self.seats_used >= self.seats_limit

    @property
    def admits(self) -> bool:
        """Whether one more device may take a seat."""
        return not self.full or self.terms.overage is Overage.UNLIMITED


class Device(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One fingerprint under one license. Each activation raises `generation`; `nonces` made the last ones,
    the latest first.

    `counter` is the highest that the device counted its heartbeats to, as far as Postgres was told (0: it counts none).
    Until `offline_until` an offline file lives, and with it the seat.
    """

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
    nonces: tuple[bytes, ...] = ()
    counter: int = 0
    clone_suspected_at: datetime | None = None
    offline_until: datetime | None = None


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
    return UUID(bytes=device_id_of(license_id.bytes, fingerprint))


def device_id_of(license_id: bytes, fingerprint: str) -> bytes:
    """The same, each id by its 16 bytes."""
    digest = bytearray(sha256(license_id + fingerprint.encode()).digest()[:16])
    digest[6] = (digest[6] & 0x0F) | 0x80
    digest[8] = (digest[8] & 0x3F) | 0x80
    return bytes(digest)


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
    """`version` is the application's; `entitlements` are the codes without which it is of no use."""

    fingerprint: str
    name: str = ""
    nonce: bytes | None = None
    token_id: UUID | None = None
    version: str | None = None
    entitlements: tuple[str, ...] = ()


class Extend(DeviceCommand, frozen=True, kw_only=True):
    """A contact: heartbeat, or validate with a fingerprint.

    `counter` is what the device counted to, `counter_seen` the highest that Redis saw. With `resumes`, a floating
    device whose lease ended unheard takes a seat again if there is one.
    """

    resumes: bool = False
    counter: int | None = None
    counter_seen: int = 0
    version: str | None = None
    entitlements: tuple[str, ...] = ()


class Release(DeviceCommand, frozen=True, kw_only=True):
    reason: Reason = Reason.USER


class Reset(DeviceCommand, frozen=True, kw_only=True):
    """Give the seat back and note when the device's state was cleared."""


class Expire(DeviceCommand, frozen=True, kw_only=True):
    """The reaper's claim that a lease is past its end; decided again under the lock."""


class Announce(DeviceCommand, frozen=True, kw_only=True):
    """The reaper's claim that a lease is about to end."""


class HoldOffline(DeviceCommand, frozen=True, kw_only=True):
    """An offline file for an active device: its seat is held until the file's end."""

    until: datetime


class ReturnOffline(DeviceCommand, frozen=True, kw_only=True):
    """The device's own receipt: its offline file is gone, and its seat is free.

    With `keeps_seat` the device goes on: its seat begins anew, under the next generation, and was never anyone else's.
    """

    generation: int
    keeps_seat: bool = False


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
    seats_limit: int
    seats_used: int
    seats_allowed: int
    device: Device | None = None
    reason: Reason | None = None


class Granted(msgspec.Struct, frozen=True, kw_only=True):
    """Yes. `changed` tells whether this very command moved something: a new seat, a freed one, a new status.

    `warning` is what would have been a refusal under a stricter policy.
    """

    changed: bool
    device: Device | None = None
    warning: Code | None = None


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """No, and why. `device` is given where the refusal is about one that is known; `until` where it ends by itself."""

    code: Code
    reason: Reason | None = None
    device: Device | None = None
    until: datetime | None = None


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

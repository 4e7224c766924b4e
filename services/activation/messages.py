"""What goes over the wire: the bodies that activation reads and the answers that it gives."""

from typing import Annotated, Literal, TypedDict
from uuid import UUID

import msgspec

from shared.licensing.codes import Code
from shared.licensing.model import DeviceState
from shared.signing.keys import PublicJwk
from shared.web.answers import Answer, Time
from shared.web.bodies import KeyText, LongText, ShortText, Text, Timestamp

Codes = Annotated[tuple[ShortText, ...], msgspec.Meta(max_length=100)]
"""Entitlements without which the application is of no use."""


class ActivateBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    fingerprint: Text
    timestamp: Timestamp
    license_key: str | None = None
    token: LongText | None = None
    nonce: ShortText | None = None
    name: Text | None = None
    version: ShortText | None = None
    entitlements: Codes = ()


class ValidateBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    key: str
    fingerprint: Text | None = None
    version: ShortText | None = None
    entitlements: Codes = ()


class ReleaseBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    device_id: Text
    license_key: KeyText
    generation: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] | None = None


class DevicesQuery(msgspec.Struct, frozen=True, kw_only=True):
    """`state` may be repeated; the default are the states that hold or ask for a seat."""

    state: tuple[DeviceState, ...] = (DeviceState.ACTIVE, DeviceState.PENDING)
    after: UUID = UUID(int=0)
    limit: Annotated[int, msgspec.Meta(ge=1, le=500)] = 100


class ActivatedAnswer(Answer, frozen=True, kw_only=True):
    device_id: UUID
    state: DeviceState
    generation: int
    lease: str
    valid_until: Time
    lease_expires_at: Time | None
    device_token: str
    next_heartbeat_in: int
    limit: int
    used: int
    expires_at: Time | None = None
    overage: bool = False
    trial: bool = False
    entitlements: dict[str, int | None] | None = None
    warning: Code | None = None


class PendingAnswer(Answer, frozen=True, kw_only=True):
    device_id: UUID
    state: DeviceState
    retry_after: int


class ValidAnswer(Answer, frozen=True, kw_only=True):
    valid: bool
    code: str
    full: bool | None = None
    limit: int | None = None
    used: int | None = None
    overage: bool = False
    warning: Code | None = None


class ReleasedAnswer(Answer, frozen=True, kw_only=True):
    success: Literal[True]


class ResetAnswer(Answer, frozen=True, kw_only=True):
    activated: bool
    last_reset_time: Time


class DeviceAnswer(Answer, frozen=True, kw_only=True):
    device_id: UUID
    name: str
    fingerprint: str
    state: DeviceState
    generation: int
    activated_at: Time | None = None
    last_contact_at: Time | None = None
    lease_expires_at: Time | None = None
    ended_at: Time | None = None
    ended_reason: str | None = None


class DevicesAnswer(Answer, frozen=True, kw_only=True):
    limit: int
    used: int
    devices: list[DeviceAnswer]
    next: UUID | None = None


class KeySetAnswer(TypedDict):
    keys: list[PublicJwk]

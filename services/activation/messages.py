"""What goes over the wire: the bodies that activation reads and the answers that it gives."""

from datetime import datetime
from typing import Annotated, Literal, TypedDict
from uuid import UUID

import msgspec

from shared.licensing.codes import Code
from shared.licensing.model import DeviceState
from shared.signing.keys import PublicJwk
from shared.web.answers import Answer, Time
from shared.web.bodies import KeyText, LongText, ShortText, Text, Timestamp
from shared.web.openapi import any_of

Codes = Annotated[tuple[ShortText, ...], msgspec.Meta(max_length=100)]
"""Entitlements without which the application is of no use."""

Generation = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Days = Annotated[int, msgspec.Meta(ge=1, le=3650)]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]


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
    generation: Generation | None = None


class DeviceKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A public key of Ed25519 as a JWK (RFC 8037)."""

    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    x: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{43}(?![\s\S])")]


class OfflineRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a device signs that asks for an offline license file; `id` is random, 16 bytes in base64url.

    `receipt` is that of the file which the device gave back last: it goes on in the same seat.
    """

    form: Literal["seatkeeper-offline-request/1"]
    product: ShortText
    fingerprint: Text
    device_key: DeviceKey
    id: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{22}(?![\s\S])")]
    created: Moment
    name: Text | None = None
    version: ShortText | None = None
    days: Days | None = None
    receipt: Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema={"type": "object"})] = msgspec.field(
        default_factory=msgspec.Raw
    )


class OfflineRequestFile(OfflineRequest, frozen=True, kw_only=True, rename="camel"):
    """`signature` is a detached JWS over the RFC 8785 form of all else, by `deviceKey`."""

    signature: LongText


class OfflineReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """What a device signs that gives its offline license file back."""

    form: Literal["seatkeeper-offline-receipt/1"]
    account: UUID
    license: UUID
    device: UUID
    generation: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
    created: Moment


class OfflineReceiptFile(OfflineReceipt, frozen=True, kw_only=True):
    """`signature` is a detached JWS over the RFC 8785 form of all else, by the device's key."""

    signature: LongText


class OfflineActivateBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`days` is how long the file is to last; without it what the request says, or else the policy's most."""

    license_key: KeyText
    request: Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema=any_of(OfflineRequestFile))]
    days: Days | None = None


class OfflineReturnBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """With `keepSeat` the device goes on without the file, in the same seat, under its next generation."""

    receipt: Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema=any_of(OfflineReceiptFile))]
    keep_seat: bool = False


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


class LicenseFileAnswer(Answer, frozen=True, kw_only=True):
    """An offline license file: see docs/api.md for how to verify it."""

    iss: UUID
    aud: str
    license: UUID
    device: UUID
    generation: int
    fingerprint: str
    issued: Time
    expiry: Time
    leaf: str
    signature: str
    trial: bool = False
    entitlements: dict[str, int | None] | None = None


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

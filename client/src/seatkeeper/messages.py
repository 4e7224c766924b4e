"""The answers of the API as this client reads them. Members that are not listed are ignored, so servers may grow.

Times on the wire are RFC 3339 in UTC.
"""

from datetime import datetime
from typing import Annotated, Any

import msgspec

Time = Annotated[datetime, msgspec.Meta(tz=True)]


class Answer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    pass


class Activated(Answer, frozen=True, kw_only=True):
    """200 or 201 of `POST /v1/activate`: a seat is held, `created` now or before. `entitlements` are codes, each with
    its limit or None."""

    device_id: str
    state: str
    generation: int
    lease: str
    valid_until: Time
    lease_expires_at: Time | None = None
    device_token: str
    next_heartbeat_in: float
    limit: int
    used: int
    expires_at: Time | None = None
    overage: bool = False
    trial: bool = False
    entitlements: dict[str, int | None] | None = None
    warning: str | None = None
    created: bool = False

    def __repr__(self) -> str:
        return f"Activated(device_id={self.device_id}, generation={self.generation})"


class Waiting(Answer, frozen=True, kw_only=True):
    """202 of `POST /v1/activate`: the vendor has to approve the device first."""

    device_id: str
    state: str
    retry_after: float


class Alive(Answer, frozen=True, kw_only=True):
    """200 of `POST /v1/heartbeat`. `lease` is a new signed lease where the old one is past half of its life."""

    device_id: str
    state: str
    generation: int
    server_time: str
    mac: str
    lease_expires_at: str | None = None
    valid_until: str | None = None
    next_heartbeat_in: float | None = None
    nonce: str | None = None
    lease: str | None = None
    warning: str | None = None
    overage: bool = False


class Validity(Answer, frozen=True, kw_only=True):
    """`POST /v1/validate`: `valid` is the server's word; a missing answer is never a no."""

    valid: bool
    code: str
    full: bool | None = None
    limit: int | None = None
    used: int | None = None
    overage: bool = False
    warning: str | None = None


class Device(Answer, frozen=True, kw_only=True):
    device_id: str
    name: str
    fingerprint: str
    state: str
    generation: int
    activated_at: Time | None = None
    last_contact_at: Time | None = None
    lease_expires_at: Time | None = None
    ended_at: Time | None = None
    ended_reason: str | None = None


class Devices(Answer, frozen=True, kw_only=True):
    """A page of `GET /v1/devices`; `next` is the `after` of the page that follows."""

    limit: int
    used: int
    devices: list[Device]
    next: str | None = None


class ResetDone(Answer, frozen=True, kw_only=True):
    activated: bool
    last_reset_time: Time


class Problem(Answer, frozen=True, kw_only=True):
    """A problem document (RFC 9457). What else it holds is read from the same text as a plain mapping."""

    code: str
    title: str = ""
    detail: str = ""
    retryable: bool
    retry_after: float | None = None


Members = dict[str, Any]
"""A JSON object as it came."""

"""What goes over the wire: the bodies that heartbeat reads and the answers that it gives."""

from typing import Annotated, Any, Literal

import msgspec

from shared.licensing.codes import Code
from shared.web.answers import Answer, Time
from shared.web.bodies import ShortText, Timestamp
from shared.web.openapi import Problem, any_of

MOST_AT_ONCE = 1000
MAX_FLEET_BYTES = 512 * 1024

Nonce = Annotated[str, msgspec.Meta(max_length=64)]
"""Only given back, so it may hold anything."""

Counter = Annotated[int, msgspec.Meta(ge=1, le=2**32 - 1)]


class HeartbeatBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    device_token: str | None = None
    valid_until: Timestamp | None = None
    nonce: Nonce | None = None
    leave: bool = False
    counter: Counter | None = None
    version: ShortText | None = None


class FleetItem(HeartbeatBody, frozen=True, kw_only=True, rename="camel"):
    """One of many: it has no header to bring its token."""

    device_token: str


class FleetBody(msgspec.Struct, frozen=True, kw_only=True):
    """Items are decoded one by one, so that a bad one fails alone."""

    heartbeats: Annotated[
        list[Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema=any_of(FleetItem))]],
        msgspec.Meta(max_length=MOST_AT_ONCE),
    ]


class AliveAnswer(Answer, frozen=True, kw_only=True):
    status: int | None = None
    device_id: str
    state: Literal["active"]
    generation: int
    lease_expires_at: Time
    valid_until: Time | None = None
    next_heartbeat_in: int
    server_time: Time
    nonce: str | None = None
    lease: str | None = None
    warning: Code | None = None
    overage: bool = False
    mac: str


class LeftAnswer(Answer, frozen=True, kw_only=True):
    status: int | None = None
    device_id: str
    state: Literal["released"]
    generation: int
    server_time: Time
    nonce: str | None = None
    mac: str


class FleetAnswer(Answer, frozen=True, kw_only=True):
    answers: Annotated[list[Any], msgspec.Meta(extra_json_schema={"items": any_of(AliveAnswer, LeftAnswer, Problem)})]

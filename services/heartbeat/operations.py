"""The operations of heartbeat: who may call each, what it reads, and what it may answer."""

from services.heartbeat.messages import (
    MAX_FLEET_BYTES,
    AliveAnswer,
    FleetAnswer,
    FleetBody,
    FleetItem,
    HeartbeatBody,
    LeftAnswer,
)
from shared.licensing.codes import Code
from shared.web.routes import Body, Caller, Operation

HEARTBEAT_BODY = Body(HeartbeatBody)
FLEET_BODY = Body(FleetBody, max_bytes=MAX_FLEET_BYTES)

HEARTBEAT = Operation(
    "POST",
    "/v1/heartbeat",
    "heartbeat",
    "Keep the seat, or with `leave` give it back.",
    caller=Caller.DEVICE,
    body=HEARTBEAT_BODY,
    answers={200: (AliveAnswer, LeftAnswer)},
    refusals=(
        Code.TOKEN_INVALID,
        Code.LEASE_LOST,
        Code.LICENSE_SUSPENDED,
        Code.LICENSE_EXPIRED,
        Code.LICENSE_REVOKED,
        Code.VERSION_NOT_SUPPORTED,
        Code.CLONE_SUSPECTED,
        Code.DEVICE_NOT_FOUND,
        Code.OFFLINE_HELD,
        Code.RELEASE_LIMIT_EXCEEDED,
    ),
)

HEARTBEATS = Operation(
    "POST",
    "/v1/heartbeats",
    "heartbeats",
    "Up to 1,000 heartbeats at once, each answered by itself, in the same order.",
    caller=Caller.FLEET,
    body=FLEET_BODY,
    answers={200: FleetAnswer},
    parts=(FleetItem, AliveAnswer, LeftAnswer),
)

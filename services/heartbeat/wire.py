"""Between the wire and the use case: a body as the beat that it is, an outcome as it is told.

Every answer about a token that was verified carries a MAC under it, refusals too.
"""

from typing import Any

from services.heartbeat.heartbeat import Alive, Beat, Left, Lost
from services.heartbeat.messages import AliveAnswer, HeartbeatBody, LeftAnswer
from shared.licensing.codes import Code
from shared.runtime.issuing import next_heartbeat_s
from shared.signing.answer_mac import answer_mac
from shared.web.answers import rfc3339
from shared.web.bodies import parse_timestamp
from shared.web.problems import ProblemError
from shared.web.texts import Fault


def beat_of(body: HeartbeatBody, token: str) -> Beat:
    """Raises `ProblemError` for a `validUntil` that is no time."""
    return Beat(
        token=token,
        held_until=_held_until(body),
        leave=body.leave,
        counter=body.counter,
        version=body.version,
    )


def told(
    outcome: Alive | Left, token: str, nonce: str | None, now_s: float, *, status: int | None = None
) -> AliveAnswer | LeftAnswer:
    """The answer; among others with its `status` as a member."""
    if isinstance(outcome, Left):
        return _left(outcome, token, nonce, now_s, status)
    return _alive(outcome, token, nonce, now_s, status)


def members(lost: Lost, token: str, nonce: str | None, now_s: float) -> dict[str, Any]:
    """What a refusal tells besides its code; nothing to a token that was not verified."""
    if lost.claims is None:
        return {}
    server_time = rfc3339(now_s)
    return {
        "reason": lost.reason,
        "until": rfc3339(lost.until) if lost.until is not None else None,
        "limit": lost.license.seats_limit if lost.license is not None else None,
        "used": lost.license.seats_used if lost.license is not None else None,
        "holders": lost.holders,
        "deviceId": lost.claims.device_text,
        "generation": lost.claims.generation,
        "serverTime": server_time,
        "nonce": nonce,
        "mac": answer_mac(
            token,
            outcome=lost.code,
            device_id=lost.claims.device_text,
            generation=lost.claims.generation,
            server_time=server_time,
            nonce=nonce,
        ),
    }


def _alive(alive: Alive, token: str, nonce: str | None, now_s: float, status: int | None) -> AliveAnswer:
    device_id = alive.claims.device_text
    generation = alive.claims.generation
    lease_expires_at = rfc3339(alive.lease_expires_s)
    valid_until = rfc3339(alive.valid_until_s) if alive.valid_until_s is not None else None
    next_heartbeat_in = next_heartbeat_s(alive.interval_s)
    server_time = rfc3339(now_s)
    return AliveAnswer(
        status=status,
        device_id=device_id,
        state="active",
        generation=generation,
        lease_expires_at=lease_expires_at,
        valid_until=valid_until,
        next_heartbeat_in=next_heartbeat_in,
        server_time=server_time,
        nonce=nonce,
        lease=alive.lease.text if alive.lease is not None else None,
        warning=alive.warning,
        overage=alive.overage,
        mac=answer_mac(
            token,
            outcome="active",
            device_id=device_id,
            generation=generation,
            lease_expires_at=lease_expires_at,
            valid_until=valid_until,
            next_heartbeat_in=next_heartbeat_in,
            server_time=server_time,
            nonce=nonce,
        ),
    )


def _left(left: Left, token: str, nonce: str | None, now_s: float, status: int | None) -> LeftAnswer:
    server_time = rfc3339(now_s)
    return LeftAnswer(
        status=status,
        device_id=left.claims.device_text,
        state="released",
        generation=left.claims.generation,
        server_time=server_time,
        nonce=nonce,
        mac=answer_mac(
            token,
            outcome="released",
            device_id=left.claims.device_text,
            generation=left.claims.generation,
            server_time=server_time,
            nonce=nonce,
        ),
    )


def _held_until(body: HeartbeatBody) -> float | None:
    if body.valid_until is None:
        return None
    held_until = parse_timestamp(body.valid_until)
    if held_until is None:
        raise ProblemError(Code.REQUEST_INVALID, fault=Fault.FIELD_VALUE, field="validUntil")
    return held_until

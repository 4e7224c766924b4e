"""Heartbeats over HTTP. The device token comes in the body, or as `Authorization: Bearer TOKEN`."""

from typing import Annotated
from uuid import UUID

import msgspec
from aiohttp import web

from services.heartbeat.heartbeat import Alive, Heartbeat, Left, Lost
from shared.ledger.clock import Clock
from shared.licensing.codes import Code
from shared.runtime.issuing import next_heartbeat_s
from shared.web.answers import Answer, reply, rfc3339
from shared.web.bodies import Timestamp, parse_timestamp, read_json
from shared.web.endpoints import Route
from shared.web.problems import ProblemError, problem
from shared.web.texts import Fault

Nonce = Annotated[str, msgspec.Meta(max_length=64)]
"""Only given back, so it may hold anything."""


class HeartbeatBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    device_token: str | None = None
    valid_until: Timestamp | None = None
    nonce: Nonce | None = None
    leave: bool = False


class AliveAnswer(Answer, frozen=True, kw_only=True):
    device_id: UUID
    state: str
    generation: int
    lease_expires_at: str
    valid_until: str | None = None
    next_heartbeat_in: int
    server_time: str
    nonce: str | None = None
    lease: str | None = None


class LeftAnswer(Answer, frozen=True, kw_only=True):
    device_id: UUID
    state: str
    nonce: str | None = None


_body = msgspec.json.Decoder(HeartbeatBody)


class Handlers:
    def __init__(self, heartbeat: Heartbeat, clock: Clock) -> None:
        self._heartbeat = heartbeat
        self._clock = clock

    def routes(self) -> list[Route]:
        return [("POST", "/v1/heartbeat", "heartbeat", self.heartbeat)]

    async def heartbeat(self, request: web.Request) -> web.Response:
        body = await read_json(request, _body)
        token = body.device_token if body.device_token is not None else _bearer(request)
        outcome = await self._heartbeat(token, _held_until(body), leave=body.leave)
        if isinstance(outcome, Lost):
            return problem(request, outcome.code, reason=outcome.reason)
        if isinstance(outcome, Left):
            return reply(LeftAnswer(device_id=outcome.device_id, state="released", nonce=body.nonce))
        return reply(self._alive(outcome, body.nonce))

    def _alive(self, alive: Alive, nonce: str | None) -> AliveAnswer:
        return AliveAnswer(
            device_id=alive.device_id,
            state="active",
            generation=alive.generation,
            lease_expires_at=rfc3339(alive.lease_expires_s),
            valid_until=rfc3339(alive.valid_until_s) if alive.valid_until_s is not None else None,
            next_heartbeat_in=next_heartbeat_s(alive.interval_s),
            server_time=rfc3339(self._clock.now_s()),
            nonce=nonce,
            lease=alive.lease.text if alive.lease is not None else None,
        )


def _bearer(request: web.Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise ProblemError(Code.TOKEN_INVALID, fault=Fault.BEARER_NOT_SENT)
    return token.strip()


def _held_until(body: HeartbeatBody) -> float | None:
    if body.valid_until is None:
        return None
    held_until = parse_timestamp(body.valid_until)
    if held_until is None:
        raise ProblemError(Code.REQUEST_INVALID, fault=Fault.FIELD_VALUE, field="validUntil")
    return held_until

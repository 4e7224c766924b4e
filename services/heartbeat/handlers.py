"""Heartbeats over HTTP. The device token comes in the body, or as `Authorization: Bearer TOKEN`.

Those of a fleet go through the same use case, all at once; each has its own answer, whatever becomes of the others.
Every answer about a token that was verified carries a MAC under it, refusals too.
"""

import asyncio
import secrets
from typing import Any

import msgspec
import structlog
from aiohttp import web

from services.heartbeat import operations
from services.heartbeat.heartbeat import Alive, Beat, Heartbeat, Left, Lost
from services.heartbeat.messages import AliveAnswer, FleetAnswer, FleetItem, HeartbeatBody, LeftAnswer
from shared.batching import OverloadedError
from shared.ledger.clock import Clock
from shared.ledger.connections import UnavailableError
from shared.ledger.transaction import OutcomeUnknownError
from shared.licensing.codes import Code
from shared.runtime.issuing import next_heartbeat_s
from shared.signing.answer_mac import answer_mac
from shared.web.answers import reply, rfc3339
from shared.web.bodies import decode_json, parse_timestamp
from shared.web.limits import Limits, ThrottledError
from shared.web.problems import ProblemError, document, language_of, problem
from shared.web.routes import Route
from shared.web.texts import Fault

_item = msgspec.json.Decoder(FleetItem)
_log = structlog.stdlib.get_logger(__name__)


class Handlers:
    def __init__(self, heartbeat: Heartbeat, clock: Clock, limits: Limits) -> None:
        self._heartbeat = heartbeat
        self._clock = clock
        self._failures = limits.failures
        self._address_of = limits.address_of

    def routes(self) -> list[Route]:
        return [
            Route(operations.HEARTBEAT, self.heartbeat),
            Route(operations.HEARTBEATS, self.heartbeats),
        ]

    async def heartbeat(self, request: web.Request) -> web.Response:
        body = await operations.HEARTBEAT_BODY.read(request)
        token = body.device_token if body.device_token is not None else _bearer(request)
        outcome = await self._heartbeat(_beat(body, token))
        if isinstance(outcome, Lost):
            if outcome.claims is None:
                await self._failures.seen(self._address_of(request))
            return problem(request, outcome.code, **self._members(outcome, token, body.nonce))
        return reply(self._told(outcome, token, body.nonce))

    async def heartbeats(self, request: web.Request) -> web.Response:
        body = await operations.FLEET_BODY.read(request)
        language, address = language_of(request), self._address_of(request)
        answers = await asyncio.gather(*(self._one(bytes(item), language, address) for item in body.heartbeats))
        return reply(FleetAnswer(answers=list(answers)))

    async def _one(self, item: bytes, language: str, address: bytes) -> object:
        """One heartbeat of a fleet: what it would have been answered alone, with the status as a member."""
        try:
            body = decode_json(item, _item)
            outcome = await self._heartbeat(_beat(body, body.device_token))
            if isinstance(outcome, Lost):
                if outcome.claims is None:
                    await self._failures.seen(address)
                return document(language, outcome.code, **self._members(outcome, body.device_token, body.nonce))
            return self._told(outcome, body.device_token, body.nonce, status=200)
        except ProblemError as error:
            return document(language, error.code, fault=error.fault, **error.members)
        except (UnavailableError, OverloadedError):
            return document(language, Code.OVERLOADED)
        except OutcomeUnknownError:
            return document(language, Code.OUTCOME_UNKNOWN)
        except ThrottledError as error:
            return document(language, Code.TOO_MANY_REQUESTS, fault=error.fault, retryAfter=error.retry_after_s)
        except Exception:
            failure_id = secrets.token_hex(8)
            _log.exception("heartbeat failed", id=failure_id)
            return document(language, Code.INTERNAL, id=failure_id)

    def _told(
        self, outcome: Alive | Left, token: str, nonce: str | None, *, status: int | None = None
    ) -> AliveAnswer | LeftAnswer:
        return (
            self._left(outcome, token, nonce, status)
            if isinstance(outcome, Left)
            else self._alive(outcome, token, nonce, status)
        )

    def _alive(self, alive: Alive, token: str, nonce: str | None, status: int | None) -> AliveAnswer:
        device_id = alive.claims.device_text
        lease_expires_at = rfc3339(alive.lease_expires_s)
        valid_until = rfc3339(alive.valid_until_s) if alive.valid_until_s is not None else None
        next_heartbeat_in = next_heartbeat_s(alive.interval_s)
        server_time = rfc3339(self._clock.now_s())
        return AliveAnswer(
            status=status,
            device_id=device_id,
            state="active",
            generation=alive.claims.generation,
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
                generation=alive.claims.generation,
                lease_expires_at=lease_expires_at,
                valid_until=valid_until,
                next_heartbeat_in=next_heartbeat_in,
                server_time=server_time,
                nonce=nonce,
            ),
        )

    def _left(self, left: Left, token: str, nonce: str | None, status: int | None) -> LeftAnswer:
        server_time = rfc3339(self._clock.now_s())
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

    def _members(self, lost: Lost, token: str, nonce: str | None) -> dict[str, Any]:
        """What a refusal tells besides its code; nothing to a token that was not verified."""
        if lost.claims is None:
            return {}
        server_time = rfc3339(self._clock.now_s())
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


def _beat(body: HeartbeatBody, token: str) -> Beat:
    return Beat(
        token=token,
        held_until=_held_until(body),
        leave=body.leave,
        counter=body.counter,
        version=body.version,
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

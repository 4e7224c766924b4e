"""Heartbeats over HTTP. The device token comes in the body, or as `Authorization: Bearer TOKEN`.

Those of a fleet go through the same use case, all at once.
"""

from aiohttp import web

from services.heartbeat import operations
from services.heartbeat.fleet import Fleet
from services.heartbeat.heartbeat import Heartbeat, Lost
from services.heartbeat.messages import FleetAnswer
from services.heartbeat.wire import beat_of, members, told
from shared.ledger.clock import Clock
from shared.licensing.codes import Code
from shared.web.answers import reply
from shared.web.limits import Limits
from shared.web.problems import ProblemError, language_of, problem
from shared.web.routes import Route
from shared.web.texts import Fault


class Handlers:
    def __init__(self, heartbeat: Heartbeat, clock: Clock, limits: Limits) -> None:
        self._heartbeat = heartbeat
        self._fleet = Fleet(heartbeat, clock, limits.failures)
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
        outcome = await self._heartbeat(beat_of(body, token))
        if isinstance(outcome, Lost):
            if outcome.claims is None:
                await self._failures.seen(self._address_of(request))
                return problem(request, outcome.code)
            return problem(request, outcome.code, **members(outcome, token, body.nonce, self._clock.now_s()))
        return reply(told(outcome, token, body.nonce, self._clock.now_s()))

    async def heartbeats(self, request: web.Request) -> web.Response:
        body = await operations.FLEET_BODY.read(request)
        answers = await self._fleet(body.heartbeats, language_of(request), self._address_of(request))
        return reply(FleetAnswer(answers=answers))


def _bearer(request: web.Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise ProblemError(Code.TOKEN_INVALID, fault=Fault.BEARER_NOT_SENT)
    return token.strip()

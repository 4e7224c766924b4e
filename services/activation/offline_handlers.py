"""Offline license files over HTTP: a request in, a file out; a receipt in, a seat free. And the page that does both."""

from aiohttp import web

from services.activation import offline_page, operations
from services.activation.messages import ReleasedAnswer
from services.activation.offline import Issuing, NotIssued, Returning
from services.activation.offline_documents import read_receipt, read_request
from services.activation.refusals import denied_problem, refused_problem
from shared.ledger.clock import Clock
from shared.licensing.codes import Code
from shared.web.addresses import Addresses
from shared.web.answers import license_problem, reply, rfc3339
from shared.web.endpoints import json_response
from shared.web.problems import problem
from shared.web.routes import Route
from shared.web.texts import Fault

_AS_DOWNLOAD = {"Content-Disposition": 'attachment; filename="seatkeeper-license.json"'}
_SUCCESS = ReleasedAnswer(success=True)


class OfflineHandlers:
    """One method for each route; `routes` lists them."""

    def __init__(self, *, issuing: Issuing, returning: Returning, clock: Clock, address_of: Addresses) -> None:
        self._issuing = issuing
        self._returning = returning
        self._clock = clock
        self._address_of = address_of

    def routes(self) -> list[Route]:
        return [
            Route(operations.OFFLINE_ACTIVATE, self.activate),
            Route(operations.OFFLINE_RETURN, self.give_back),
            Route(operations.OFFLINE_PAGE, offline_page.serve),
        ]

    async def activate(self, request: web.Request) -> web.Response:
        body = await operations.OFFLINE_ACTIVATE_BODY.read(request)
        asked = read_request(bytes(body.request))
        outcome = await self._issuing(asked, body.license_key, body.days, self._address_of(request))
        if isinstance(outcome, NotIssued):
            return self._not_issued(request, outcome)
        return json_response(outcome.file, 201 if outcome.created else 200, _AS_DOWNLOAD)

    async def give_back(self, request: web.Request) -> web.Response:
        body = await operations.OFFLINE_RETURN_BODY.read(request)
        outcome = await self._returning(
            read_receipt(bytes(body.receipt)), self._address_of(request), keeps_seat=body.keep_seat
        )
        if isinstance(outcome, Fault):
            return problem(request, Code.REQUEST_INVALID, fault=outcome, field="receipt")
        return reply(_SUCCESS) if outcome is None else refused_problem(request, outcome)

    def _not_issued(self, request: web.Request, outcome: NotIssued) -> web.Response:
        if outcome.denied is not None:
            return denied_problem(request, outcome.denied)
        until = outcome.refused.until if outcome.refused is not None else None
        members: dict[str, object] = {"until": rfc3339(until) if until is not None else None}
        if outcome.code is Code.TOO_MANY_REQUESTS and until is not None:
            members = {"retryAfter": until.timestamp() - self._clock.now_s()}
        return license_problem(request, outcome.code, outcome.license, fault=outcome.fault, **members)

"""Refusals of activation's use cases as problem documents, where several handlers answer with them."""

from typing import Any

from aiohttp import web

from services.activation.access import Denied
from shared.licensing.model import Refused
from shared.web.answers import rfc3339
from shared.web.problems import problem
from shared.web.texts import Fault


def denied_problem(request: web.Request, denied: Denied, **members: Any) -> web.Response:
    """Nobody we know."""
    fault = Fault.KEY_MISTYPED if denied.fault is not None else None
    return problem(request, denied.code, fault=fault, **members)


def refused_problem(request: web.Request, refused: Refused) -> web.Response:
    """What the ledger refused, and until when."""
    return problem(request, refused.code, until=rfc3339(refused.until) if refused.until is not None else None)

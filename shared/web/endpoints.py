"""Routes: the wrapper around every handler, and the answers for paths and methods that do not exist.

Rules: the wrapper is made once, at registration; there is no middleware. A handler returns a response or raises; a
`ProblemError` becomes its problem document, a limit that was passed a 429, the ledger's trouble a 503 that asks for
another try, and any other failure an opaque 500 whose `id` is in the log beside the traceback. Cancellation passes
through. The fallback for unknown paths is added when the application starts, after every route, so that it never
shadows one. GET serves HEAD too; OPTIONS tells the methods of a path.
"""

import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from time import perf_counter

import structlog
from aiohttp import HttpVersion11, hdrs, web

from shared.batching import OverloadedError
from shared.ledger.connections import UnavailableError
from shared.ledger.transaction import OutcomeUnknownError
from shared.licensing.codes import Code
from shared.runtime.metrics import Metrics
from shared.web.limits import ThrottledError
from shared.web.problems import ProblemError, answer, problem
from shared.web.responses import EncodedResponse
from shared.web.routes import Handler, Route

UNMATCHED = "unmatched"
_FALLBACK = web.AppKey("fallback", bool)
_JSON = (("Content-Type", "application/json"), ("Cache-Control", "no-store"), ("Server", "seatkeeper"))
_log = structlog.stdlib.get_logger(__name__)


def endpoint(metrics: Metrics, route_name: str, handler: Handler) -> Handler:
    """Wrap a handler: measured under `route_name`, its failures answered."""
    observe = metrics.route(route_name).observe

    async def measured(request: web.Request) -> web.StreamResponse:
        start = perf_counter()
        try:
            response = await handler(request)
        except ProblemError as error:
            response = answer(request, error)
        except (UnavailableError, OverloadedError):
            response = problem(request, Code.OVERLOADED)
        except OutcomeUnknownError:
            response = problem(request, Code.OUTCOME_UNKNOWN)
        except ThrottledError as error:
            response = problem(request, Code.TOO_MANY_REQUESTS, fault=error.fault, retryAfter=error.retry_after_s)
        except web.HTTPException as error:
            observe(error.status, perf_counter() - start)
            raise
        except Exception:
            response = _failed(request, route_name)
        observe(response.status, perf_counter() - start)
        return response

    return measured


def json_response(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON answer from bytes that are encoded already. `headers` come on top of the usual ones."""
    return EncodedResponse(body, status, tuple({**dict(_JSON), **headers}.items()) if headers else _JSON)


def add_routes(app: web.Application, metrics: Metrics, routes: Iterable[Route]) -> None:
    """Register each route behind `endpoint`. May be called several times for one app."""
    for operation, handler in routes:
        wrapped = endpoint(metrics, operation.name, handler)
        if operation.method == hdrs.METH_GET:
            app.router.add_get(operation.path, wrapped, expect_handler=_go_on)
        else:
            app.router.add_route(operation.method, operation.path, wrapped, expect_handler=_go_on)
    if _FALLBACK not in app:
        app[_FALLBACK] = True
        app.on_startup.append(_with_fallback(metrics))


def _with_fallback(metrics: Metrics) -> Callable[[web.Application], Awaitable[None]]:
    async def add_fallback(app: web.Application) -> None:
        known = list(app.router.resources())

        async def unmatched(request: web.Request) -> web.StreamResponse:
            return _no_such_route(request, await _allowed(request, known))

        app.router.add_route(
            hdrs.METH_ANY, "/{tail:.*}", endpoint(metrics, UNMATCHED, unmatched), expect_handler=_go_on
        )

    return add_fallback


async def _go_on(request: web.Request) -> None:
    """Ask for the body of a client that waits for that; what else is expected is ignored, as RFC 9110 allows."""
    if request.headers[hdrs.EXPECT].lower() == "100-continue" and request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer itself has not begun


async def _allowed(request: web.Request, known: list[web.AbstractResource]) -> set[str]:
    methods: set[str] = set()
    for resource in known:
        _, allowed = await resource.resolve(request)
        methods |= allowed
    return methods


def _no_such_route(request: web.Request, methods: set[str]) -> web.Response:
    if not methods:
        return problem(request, Code.NOT_FOUND)
    allow = {"Allow": ", ".join(sorted(methods | {hdrs.METH_OPTIONS}))}
    if request.method == hdrs.METH_OPTIONS:
        return web.Response(status=204, headers={**allow, "Server": "seatkeeper"})
    return problem(request, Code.METHOD_NOT_ALLOWED, headers=allow)


def _failed(request: web.Request, route_name: str) -> web.Response:
    failure_id = secrets.token_hex(8)
    _log.exception("request failed", id=failure_id, route=route_name, method=request.method)
    return problem(request, Code.INTERNAL, id=failure_id)

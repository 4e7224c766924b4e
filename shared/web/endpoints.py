"""Routes: the wrapper around every handler, and the answers for paths and methods that do not exist.

Rules: the wrapper is made once, at registration; there is no middleware. A handler returns a response or raises; a
`ProblemError` becomes its problem document, the ledger's trouble a 503 that asks for another try, and any other failure
an opaque 500 whose `id` is in the log beside the traceback. Cancellation passes through. The fallback for unknown paths
is added when the application starts, after every route, so that it never shadows one. GET serves HEAD too; OPTIONS
tells the methods of a path.
"""

import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from time import perf_counter

import structlog
from aiohttp import hdrs, web
from multidict import CIMultiDict

from shared.batching import OverloadedError
from shared.ledger.connections import UnavailableError
from shared.ledger.transaction import OutcomeUnknownError
from shared.licensing.codes import Code
from shared.runtime.metrics import Metrics
from shared.web.problems import ProblemError, answer, problem

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Route = tuple[str, str, str, Handler]

UNMATCHED = "unmatched"
_FALLBACK = web.AppKey("fallback", bool)
_JSON = CIMultiDict({"Content-Type": "application/json", "Cache-Control": "no-store", "Server": "seatkeeper"})
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
    if headers is None:
        return web.Response(body=body, status=status, headers=_JSON)
    return web.Response(body=body, status=status, headers={**_JSON, **headers})


def add_routes(app: web.Application, metrics: Metrics, routes: Iterable[Route]) -> None:
    """Register (method, path, name, handler) each behind `endpoint`. May be called several times for one app."""
    for method, path, name, handler in routes:
        wrapped = endpoint(metrics, name, handler)
        if method == hdrs.METH_GET:
            app.router.add_get(path, wrapped)
        else:
            app.router.add_route(method, path, wrapped)
    if _FALLBACK not in app:
        app[_FALLBACK] = True
        app.on_startup.append(_with_fallback(metrics))


def _with_fallback(metrics: Metrics) -> Callable[[web.Application], Awaitable[None]]:
    async def add_fallback(app: web.Application) -> None:
        known = list(app.router.resources())

        async def unmatched(request: web.Request) -> web.StreamResponse:
            return _no_such_route(request, await _allowed(request, known))

        app.router.add_route(hdrs.METH_ANY, "/{tail:.*}", endpoint(metrics, UNMATCHED, unmatched))

    return add_fallback


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

"""Probes and metrics, on a port of their own.

Rules: `/healthz` says only that the loop runs: it never looks at a dependency, or an outage of the database would
restart every pod. `/readyz` runs the checks at once, each with a time limit, and is 503 while starting or draining.
A check answers None when all is well, else one short text; what it raises is told by its type alone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import msgspec
import structlog
from aiohttp import web

from shared.runtime.lifecycle import READINESS, Readiness
from shared.runtime.metrics import CONTENT_TYPE, Metrics
from shared.web.endpoints import json_response

Check = Callable[[], Awaitable[str | None]]
CHECK_TIMEOUT_S = 2.0
_encode = msgspec.json.Encoder().encode
_log = structlog.stdlib.get_logger(__name__)


def health_app(metrics: Metrics, checks: Mapping[str, Check], state: Readiness) -> web.Application:
    """The application for the health port; `lifecycle.serve` moves `state` along."""
    app = web.Application()
    app[READINESS] = state

    async def healthz(_request: web.Request) -> web.Response:
        return json_response(b'{"status":"alive"}')

    async def readyz(_request: web.Request) -> web.Response:
        results = await _run_all(checks)
        ready = state.phase == "serving" and all(result == "ok" for result in results.values())
        status = "ready" if ready else "not ready" if state.phase == "serving" else state.phase
        return json_response(_encode({"status": status, "checks": results}), 200 if ready else 503)

    async def render(_request: web.Request) -> web.Response:
        return web.Response(body=metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", render)
    return app


async def _run_all(checks: Mapping[str, Check]) -> dict[str, str]:
    results = await asyncio.gather(*(_run(name, check) for name, check in checks.items()))
    return dict(zip(checks, results, strict=True))


async def _run(name: str, check: Check) -> str:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return await check() or "ok"
    except TimeoutError:
        return "timeout"
    except Exception as error:
        _log.warning("health check failed", check=name, exc_info=True)
        return f"failed: {type(error).__name__}"

"""A web application under a license: it is up at once, and answers 402 or 403 while the license is not in force.

    python web_app.py            # on PORT (8000)

One client serves all requests. A request reads its state, which costs nothing and never touches the network; what the
server says later, a suspension or its end, shows in the next request.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

import seatkeeper

# The first three are constants of a real program: the root key is what makes a forged server useless.
URL = os.environ.get("SEATKEEPER_URL", "http://127.0.0.1:8080")
PRODUCT = os.environ.get("SEATKEEPER_PRODUCT", "demo-app")
ROOT_KEY = os.environ["SEATKEEPER_ROOT_KEY"]
LICENSE_KEY = os.environ.get("SEATKEEPER_LICENSE_KEY")

RETRY_S = 30.0
A_MATTER_OF_MONEY = {"LICENSE_EXPIRED", "DEVICE_LIMIT_EXCEEDED", "ENTITLEMENT_MISSING"}
NOBODY_REFUSED = {"STARTING", "UNREACHABLE", "LEASE_ENDED", "WAITING_FOR_APPROVAL"}

LICENSE = web.AppKey("LICENSE", seatkeeper.Client)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def license_of(app: web.Application) -> AsyncIterator[None]:
    """Beside the application, which serves meanwhile: opening takes up to a minute where the network is bad."""
    app[LICENSE] = seatkeeper.Client(URL, product=PRODUCT, root_key=ROOT_KEY, license_key=LICENSE_KEY)
    held = asyncio.create_task(_hold(app[LICENSE]))
    yield
    held.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await held


async def _hold(client: seatkeeper.Client) -> None:
    while True:
        try:
            async with client:
                await asyncio.Event().wait()  # until the application stops
        except (seatkeeper.Refused, seatkeeper.Unreachable) as error:
            logging.warning("no license yet: %s", error)
        await asyncio.sleep(RETRY_S)  # somebody may have renewed it, or mended the network


@web.middleware
async def licensed(request: web.Request, handler: Handler) -> web.StreamResponse:
    state = request.app[LICENSE].state
    if state.usable or request.path == "/license":
        return await handler(request)
    status = 402 if state.reason in A_MATTER_OF_MONEY else 503 if state.reason in NOBODY_REFUSED else 403
    return web.json_response({"reason": state.reason, "detail": state.detail}, status=status)


async def greet(_request: web.Request) -> web.Response:
    return web.json_response({"greeting": "hello"})


async def export(request: web.Request) -> web.Response:
    """What only some licenses cover."""
    try:
        limit = request.app[LICENSE].require("export")
    except seatkeeper.EntitlementMissing as missing:
        return web.json_response({"reason": "ENTITLEMENT_MISSING", "detail": str(missing)}, status=402)
    return web.json_response({"limit": limit})


async def license_state(request: web.Request) -> web.Response:
    """For the page on which administrators see how it stands."""
    state = request.app[LICENSE].state
    return web.json_response({"state": state.name, "reason": state.reason, "detail": state.detail})


def application() -> web.Application:
    app = web.Application(middlewares=[licensed])
    app.cleanup_ctx.append(license_of)
    app.add_routes([web.get("/", greet), web.get("/export", export), web.get("/license", license_state)])
    return app


if __name__ == "__main__":
    web.run_app(application(), host="127.0.0.1", port=int(os.environ.get("PORT", "8000")))

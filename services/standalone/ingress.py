"""One port before several services, as a Kubernetes ingress would route them: by path, to each replica in turn.

It tells the client's address in `X-Forwarded-For`, and passes on nothing that a client said there itself.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle

import aiohttp
from aiohttp import hdrs, web

from shared.licensing.codes import Code
from shared.web.problems import problem

HEARTBEAT_PATHS = ("/v1/heartbeat", "/v1/heartbeats")
_HOP_BY_HOP = {hdrs.CONNECTION, hdrs.TRANSFER_ENCODING, hdrs.CONTENT_LENGTH, hdrs.HOST, hdrs.KEEP_ALIVE}
_NOT_PASSED_ON = _HOP_BY_HOP | {hdrs.X_FORWARDED_FOR}


def service_of(path: str) -> str:
    """Which service answers a path; the same rule as in deploy/kubernetes/overlays/example/ingress.yaml."""
    return "heartbeat" if path in HEARTBEAT_PATHS else "activation"


def ingress(replicas: Mapping[str, Sequence[str]]) -> web.Application:
    """An application that passes requests on; `replicas` are the addresses of each service."""
    turns = {service: cycle(addresses) for service, addresses in replicas.items()}
    app = web.Application()
    session = web.AppKey("session", aiohttp.ClientSession)

    async def open_session(app: web.Application) -> None:
        app[session] = aiohttp.ClientSession(auto_decompress=False)

    async def close_session(app: web.Application) -> None:
        await app[session].close()

    async def pass_on(request: web.Request) -> web.StreamResponse:
        address = next(turns[service_of(request.path)])
        headers = [(name, value) for name, value in request.headers.items() if name.title() not in _NOT_PASSED_ON]
        headers.append((hdrs.X_FORWARDED_FOR, request.remote or ""))
        body = await request.read()
        try:
            async with request.app[session].request(
                request.method, address + request.raw_path, headers=headers, data=body or None, allow_redirects=False
            ) as answer:
                kept = [(name, value) for name, value in answer.headers.items() if name.title() not in _HOP_BY_HOP]
                return web.Response(status=answer.status, headers=dict(kept), body=await answer.read())
        except (aiohttp.ClientError, TimeoutError):
            return problem(request, Code.OVERLOADED)

    app.on_startup.append(open_session)
    app.on_cleanup.append(close_session)
    app.router.add_route("*", "/{path:.*}", pass_on)
    return app

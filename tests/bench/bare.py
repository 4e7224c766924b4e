"""The yardstick: aiohttp and uvloop with one handler that decodes the same body and answers fixed bytes."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import uvloop
from aiohttp import web

from services.activation.messages import ActivateBody, ValidateBody
from services.heartbeat.messages import HeartbeatBody
from shared.runtime.lifecycle import PROTOCOL_OPTIONS

ROUTES = {"/v1/activate": ActivateBody, "/v1/heartbeat": HeartbeatBody, "/v1/validate": ValidateBody}
ANSWER = b'{"valid":true,"code":"VALID","full":false,"limit":100000,"used":1}'


def main(port: int) -> None:
    app = web.Application()
    for path, body in ROUTES.items():
        app.router.add_post(path, _handler(msgspec.json.Decoder(body)))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(app, port))


def _handler(decoder: msgspec.json.Decoder[Any]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        decoder.decode(await request.read())
        return web.Response(body=ANSWER, content_type="application/json")

    return handle


async def _serve(app: web.Application, port: int) -> None:
    runner = web.AppRunner(app, **PROTOCOL_OPTIONS)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    main(int(sys.argv[1]))

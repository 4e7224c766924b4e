"""Calls that go wrong on purpose, so that whoever builds on the API meets in development what networks do to it.

Rules:
- Of the calls to `/v1` and `/api` a share each is rejected, delayed, cut off, answered twice; `Chaos` says how many.
  Draws are independent of each other; what is cut off is not rejected as well. Nothing else is touched.
- A rejection is one that the API documents as `retryable`, with Retry-After: before the work (429, 500 and 503
  OVERLOADED), or after it (503 OUTCOME_UNKNOWN). A connection is reset before the work, or after it, when only its
  answer is lost.
- What is answered twice is done twice, one after the other, and the last answer's bytes are sent twice on the
  connection.
- Production has none of this: its settings refuse the switch.
"""

import asyncio
import socket
import struct
from collections.abc import Iterable
from random import Random

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from shared.licensing.codes import Code
from shared.runtime.sections import Chaos
from shared.web.problems import problem
from shared.web.responses import EncodedResponse
from shared.web.routes import Handler, Route

PATHS = ("/v1/", "/api/")
BEFORE = (Code.OVERLOADED, Code.TOO_MANY_REQUESTS, Code.INTERNAL)
REJECTIONS = (*BEFORE, Code.OUTCOME_UNKNOWN)
RETRY_AFTER_S = 1

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: what is closed is reset."""


def chaotic(routes: Iterable[Route], chaos: bool | Chaos) -> list[Route]:
    """These routes with calls that go wrong, or as they are where no chaos is wanted."""
    if chaos is False:
        return list(routes)
    plan = _Plan(Chaos() if chaos is True else chaos)
    return [
        Route(operation, plan.wrap(handler)) if operation.path.startswith(PATHS) else Route(operation, handler)
        for operation, handler in routes
    ]


class _Plan:
    def __init__(self, chaos: Chaos) -> None:
        self._chaos = chaos
        self._random = Random(chaos.seed)  # noqa: S311 - no secret  # nosec B311

    def wrap(self, handler: Handler) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            if self._happens(self._chaos.delay):
                await asyncio.sleep(self._random.uniform(0, self._chaos.delay_s))
            if self._happens(self._chaos.reset):
                return await self._cut_off(request, handler)
            if self._happens(self._chaos.reject):
                return await self._reject(request, handler)
            return await (_twice(request, handler) if self._happens(self._chaos.twice) else handler(request))

        return handle

    def _happens(self, share: float) -> bool:
        return self._random.random() < share

    async def _reject(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        code = self._random.choice(REJECTIONS)
        if code not in BEFORE:
            await handler(request)
        return problem(request, code, retryAfter=RETRY_AFTER_S, id="chaos" if code is Code.INTERNAL else None)

    async def _cut_off(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request) if self._happens(0.5) else problem(request, Code.OVERLOADED)
        finally:  # so whatever the answer is, nobody reads it
            if (transport := request.transport) is not None:
                transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                transport.abort()


async def _twice(request: web.Request, handler: Handler) -> web.StreamResponse:
    if not request.content.is_eof():
        return await handler(request)  # a body that is still on its way can be read but once
    body = request.content.read_nowait()
    request.content.unread_data(body)
    await handler(request)
    request.content.unread_data(body)
    answer = await handler(request)
    return _SentTwice(answer) if isinstance(answer, EncodedResponse) else answer


class _SentTwice(EncodedResponse):
    def __init__(self, answer: EncodedResponse) -> None:
        super().__init__(answer._body, answer.status, answer._fields)

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        self._transport = request.transport
        return await super().prepare(request)

    async def write_eof(self, data: bytes = b"") -> None:
        await super().write_eof(data)
        if self._transport is not None:
            self._transport.write(self.message(*(() if self.keep_alive else (("Connection", "close"),))))

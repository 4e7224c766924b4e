"""Connections: how long each may take, how many there may be, and what is told to those that speak no HTTP.

Rules: a head has `header_timeout_s` from its first byte, however slowly its bytes come (a body is timed by its reader);
a connection without a request may idle for `idle_timeout_s`. Past `max_connections` those that idle longest are closed,
and those that take no answer: so who fills them with idle ones closes his own, and nobody waits to be accepted.
What is no HTTP is answered with a problem document and the end of the connection, and not logged.
"""

import asyncio
from collections.abc import Callable, Coroutine
from heapq import nsmallest
from http import HTTPStatus
from typing import Any

from aiohttp import web

from shared.licensing.codes import Code
from shared.runtime.sections import Server
from shared.web.dispatch import dispatcher
from shared.web.problems import problem
from shared.web.texts import Fault

STUCK_S = 60.0
"""What is left to a request beside its head and body, when its place is wanted."""

# Nothing is inflated. An unread body is lingered on briefly, so that the client can read its refusal. A client that
# goes away cancels nothing.
PROTOCOL_OPTIONS: dict[str, Any] = {
    "access_log": None,
    "keepalive_timeout": Server().idle_timeout_s,
    "lingering_time": 2.0,
    "auto_decompress": False,
    "max_line_size": 8190,
    "max_field_size": 8190,
    "max_headers": 64,
}


class Connection(web.RequestHandler):
    """One connection. aiohttp times one that idles from its last answer, whatever arrives; here a head is timed too."""

    __slots__ = ("_all", "_head_timer", "_header_timeout_s", "body_timeout_s")

    def __init__(self, manager: "Connections", *, server: Server, **options: Any) -> None:
        super().__init__(manager, **options)
        self._all = manager
        self._header_timeout_s = server.header_timeout_s
        self.body_timeout_s = server.body_timeout_s
        self._head_timer: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.waits_for_request:  # so what came is part of a head
            if self._head_timer is None:
                self._head_timer = self._loop.call_later(self._header_timeout_s, self._end_head)
        elif self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        super().connection_lost(exc)

    def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Coroutine[Any, Any, tuple[web.StreamResponse, bool]]:
        """While the service ends, each answer says that it was its connection's last."""
        if self._all.ending:
            resp.force_close()
        return super().finish_response(request, resp, start_time)

    def resume_reading(self, resume_parser: bool = True) -> None:
        """aiohttp asks for this twice a request, to no purpose unless a long body was paused."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    @property
    def waits_for_request(self) -> bool:
        return self._waiter is not None and not self._waiter.done()

    @property
    def is_closing(self) -> bool:
        return self._force_close

    @property
    def idle_since(self) -> float:
        """By the loop's time: when it was made, or gave its last answer."""
        return self._next_keepalive_close_time - self._keepalive_timeout

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status != HTTPStatus.BAD_REQUEST:
            return super().handle_error(request, status, exc, message)
        refusal = problem(request, Code.REQUEST_INVALID, fault=Fault.NOT_HTTP)
        refusal.force_close()
        return refusal

    def _end_head(self) -> None:
        self._head_timer = None
        if self.waits_for_request:
            self.force_close()


class Connections(web.Server):
    """All connections of one listening application."""

    def __init__(self, handler: Callable[..., Any], *, server: Server, **options: Any) -> None:
        super().__init__(handler, **options)
        self._settings = server
        self._making_room = False
        self.ending = False
        """Set before the connections are closed."""

    def __call__(self) -> web.RequestHandler:
        return Connection(self, loop=self._loop, server=self._settings, **self._kwargs)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if len(self._connections) > self._settings.max_connections and not self._making_room:
            self._making_room = True
            self._loop.call_soon(self._make_room)

    def _make_room(self) -> None:
        """Some more than is needed, so that it is not looked for at each new one."""
        self._making_room = False
        alive = [one for one in self._connections if isinstance(one, Connection) and not one.is_closing]
        excess = len(alive) - self._settings.max_connections
        if excess > 0:
            settings = self._settings
            longest_s = settings.idle_timeout_s + settings.header_timeout_s + settings.body_timeout_s + STUCK_S
            stuck_from = self._loop.time() - longest_s
            spare = [one for one in alive if one.waits_for_request or one.idle_since < stuck_from]
            for one in nsmallest(excess + settings.max_connections // 64, spare, key=lambda one: one.idle_since):
                one.force_close()


class Runner(web.AppRunner):
    """An application served as all of ours are."""

    def __init__(self, app: web.Application, server: Server, *, shutdown_timeout_s: float) -> None:
        super().__init__(app, shutdown_timeout=shutdown_timeout_s, **PROTOCOL_OPTIONS)
        self._settings = server

    @property
    def connections(self) -> Connections | None:
        """None before `setup` and after `cleanup`."""
        return self.server if isinstance(self.server, Connections) else None

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        options = PROTOCOL_OPTIONS | {"keepalive_timeout": self._settings.idle_timeout_s}
        handler = dispatcher(self.app, made.request_handler)
        return Connections(handler, request_factory=made.request_factory, server=self._settings, **options)

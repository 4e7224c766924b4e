"""Answers that are bytes already: on the wire they are what aiohttp would have written, in one write."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer

from shared.runtime.sections import Server
from shared.web.connections import Runner
from shared.web.responses import EncodedResponse, Fields
from tests.serving import Served, exchange

FIELDS: Fields = (("Content-Type", "application/json"), ("Cache-Control", "no-store"), ("X-A", "b"))
BODY = b'{"hello":"you"}'
LONG = b"x" * 1_000_000
STATUSES = (200, 201, 403, 503)
CLOSE = "Connection: close\r\n"
REQUESTS = {
    "of a connection that goes on": ("GET", "1.1", ""),
    "of one that ends": ("GET", "1.1", CLOSE),
    "of an old client": ("GET", "1.0", ""),
    "of an old client that goes on": ("GET", "1.0", "Connection: keep-alive\r\n"),
    "for the head alone": ("HEAD", "1.1", ""),
}
asked_long = 0


async def encoded(request: web.Request) -> web.Response:
    return EncodedResponse(BODY, int(request.match_info["status"]), FIELDS)


async def plain(request: web.Request) -> web.Response:
    return web.Response(body=BODY, status=int(request.match_info["status"]), headers=dict(FIELDS))


async def ended(_request: web.Request) -> web.Response:
    response = EncodedResponse(BODY, 200, FIELDS)
    response.force_close()
    return response


async def changed(_request: web.Request) -> web.Response:
    response = EncodedResponse(BODY, 200, FIELDS)
    response.headers["X-A"] = "c"
    return response


async def injected(_request: web.Request) -> web.Response:
    return EncodedResponse(BODY, 200, (*FIELDS, ("X-B", "c\r\nX-C: d")))


async def long(_request: web.Request) -> web.Response:
    global asked_long
    asked_long += 1
    return EncodedResponse(LONG, 200, FIELDS)


def application() -> web.Application:
    app = web.Application()
    app.router.add_get("/encoded/{status}", encoded)
    app.router.add_get("/plain/{status}", plain)
    for handler in (ended, changed, injected, long):
        app.router.add_get(f"/{handler.__name__}", handler)
    return app


@pytest.fixture
async def server() -> AsyncIterator[BaseTestServer]:
    async with Served(application()) as opened:
        yield opened


def head(path: str, method: str = "GET", version: str = "1.1", more: str = "") -> bytes:
    return f"{method} {path} HTTP/{version}\r\nHost: h\r\n{more}\r\n".encode()


def told(answer: bytes) -> tuple[str, dict[str, str], bytes]:
    """The status line, the fields and the body."""
    top, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = top.decode().split("\r\n")
    return first, dict(line.split(": ", 1) for line in lines), body


class Recorded(asyncio.Transport):
    """A connection's other end that keeps each write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))

    def close(self) -> None:
        pass


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize(("method", "version", "more"), REQUESTS.values(), ids=list(REQUESTS))
async def test_an_answer_is_what_aiohttp_would_have_written(
    server: BaseTestServer, status: int, method: str, version: str, more: str
) -> None:
    async def answers(path: str) -> tuple[bytes, int]:
        """Without what differs from second to second, and who wrote it."""
        whole = await exchange(server, head(path, method, version, more) + head("/ended"))
        return re.subn(rb"Date: ..., .. ... .... ..:..:.. GMT\r\n", b"", re.sub(rb"Server: .*\r\n", b"", whole))

    assert await answers(f"/encoded/{status}") == await answers(f"/plain/{status}")


async def test_an_answer_leaves_in_one_write() -> None:
    runner = Runner(application(), Server(), shutdown_timeout_s=0.1)
    await runner.setup()
    connections, transport = runner.connections, Recorded()
    assert connections is not None
    connection = connections()
    connection.connection_made(transport)
    for _ in range(3):
        connection.data_received(head("/encoded/201"))
        await asyncio.sleep(0.02)
    connection.connection_lost(None)
    await runner.cleanup()

    assert [told(write)[2] for write in transport.writes] == [BODY] * 3


async def test_pipelined_requests_are_answered_in_their_order(server: BaseTestServer) -> None:
    asked = b"".join(head(f"/encoded/{status}") for status in STATUSES)

    answers = (await exchange(server, asked + head("/encoded/200", more=CLOSE))).split(b"HTTP/1.1 ")[1:]

    assert [int(answer[:3]) for answer in answers] == [*STATUSES, 200]


async def test_an_answer_may_end_its_connection(server: BaseTestServer) -> None:
    first, fields, body = told(await exchange(server, head("/ended")))

    assert (first, fields["Connection"], body) == ("HTTP/1.1 200 OK", "close", BODY)


async def test_headers_that_a_handler_changes_are_those_that_are_sent(server: BaseTestServer) -> None:
    assert told(await exchange(server, head("/changed") + head("/ended")))[1]["X-A"] == "c"


async def test_no_field_brings_another(server: BaseTestServer) -> None:
    assert b"X-C" not in await exchange(server, head("/injected") + head("/ended"))


async def test_who_takes_no_answer_gets_no_more_of_them(server: BaseTestServer) -> None:
    global asked_long
    asked_long = 0
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(head("/long") * 30 + head("/ended"))
    await asyncio.sleep(0.5)
    assert asked_long < 15

    async with asyncio.timeout(10):
        assert (await reader.read()).count(LONG) == 30
    writer.close()
    assert asked_long == 30

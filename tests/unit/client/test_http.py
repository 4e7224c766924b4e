"""One try of the transport against servers that misbehave, each a few lines over a socket of this machine."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from seatkeeper.errors import ConfigurationError, TransportError
from seatkeeper.http import HttpTransport, read_url
from seatkeeper.transport import LONGEST_ANSWER, Request, Response

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

GET = Request(method="GET", path="/v1/devices?after=a%2Fb", timeout_s=5)
POST = Request(method="POST", path="/v1/activate", body=b"{}", headers={"Authorization": "License sesame"}, timeout_s=5)


def answering(head: str, body: bytes = b"", *, length: int | None = None) -> Handler:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        sent = len(body) if length is None else length
        writer.write(f"HTTP/1.1 {head}\r\nContent-Length: {sent}\r\n\r\n".encode() + body)
        await writer.drain()

    return answer


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def hanging_up_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.transport.abort()


async def answering_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"220 mail.example ESMTP\r\n")
    await writer.drain()


async def hanging_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.abort()


@asynccontextmanager
async def served(
    handler: Handler, host: str = "127.0.0.1", *, by_line: bool = True
) -> AsyncIterator[tuple[HttpTransport, list[bytes]]]:
    """A transport to a server that counts connections by the first line that each of them brought."""
    lines: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append(b"")
        if by_line:
            lines[-1] = (await reader.readline()).strip()
        try:
            await handler(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    transport = HttpTransport(f"http://{host}:{server.sockets[0].getsockname()[1]}/below/", environ={})
    try:
        yield transport, lines
    finally:
        await transport.close()
        server.close()


async def failure(handler: Handler, request: Request = POST) -> tuple[str, bool]:
    async with served(handler) as (transport, lines):
        with pytest.raises(TransportError) as raised:
            await transport.send(request)
        assert len(lines) == 1
    assert "sesame" not in repr(raised.value)
    assert raised.value.__context__ is None
    assert raised.value.__cause__ is None
    return raised.value.kind, raised.value.sent


async def test_an_answer_comes_as_it_was_sent() -> None:
    async with served(answering("202 Accepted\r\nX-Some: Thing", b'{"a":1}')) as (transport, lines):
        response = await transport.send(GET)
    headers = {"x-some": "Thing", "content-length": "7"}
    assert response == Response(status=202, headers=headers, body=b'{"a":1}')
    assert lines[0].startswith(b"GET /below/v1/devices?after=a")


async def test_each_try_has_a_connection_of_its_own_and_nothing_is_remembered() -> None:
    seen: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n")
        await writer.drain()
        await reader.read()

    async with served(handler, "localhost") as (transport, lines):
        for _ in range(2):
            assert (await transport.send(GET)).status == 200
        assert len(lines) == 2
    assert not any(b"cookie" in headers.lower() for headers in seen)
    assert all(b"Accept-Encoding: identity" in headers for headers in seen)


async def test_a_redirect_is_an_answer() -> None:
    async with served(answering("302 Found\r\nLocation: /elsewhere")) as (transport, lines):
        assert (await transport.send(GET)).status == 302
        assert len(lines) == 1


@pytest.mark.parametrize("request_", [GET, POST], ids=["GET", "POST"])
async def test_a_lost_connection_is_no_second_try(request_: Request) -> None:
    assert await failure(hanging_up, request_) == ("reset", True)


async def test_silence_ends_with_the_time() -> None:
    request = Request(method="POST", path="/", body=b"{}", timeout_s=0.05)
    assert await failure(silent, request) == ("timeout", True)


async def test_half_an_answer_is_none() -> None:
    assert await failure(answering("200 OK", b"{", length=10)) == ("reset", True)


async def test_what_is_not_http_is_told() -> None:
    async def babbling(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()

    assert await failure(babbling) == ("malformed", True)


async def test_an_endless_answer_is_cut() -> None:
    assert await failure(answering("200 OK", b" " * (LONGEST_ANSWER + 1))) == ("malformed", True)
    async with served(answering("200 OK", b" " * LONGEST_ANSWER)) as (transport, _):
        assert len((await transport.send(GET)).body) == LONGEST_ANSWER


async def test_compression_that_was_not_asked_for_is_not_undone() -> None:
    answer = answering("200 OK\r\nContent-Encoding: gzip", gzip.compress(b"{}"))
    assert await failure(answer) == ("malformed", True)


async def test_a_port_where_nobody_listens_had_nothing_of_it() -> None:
    async with served(silent) as (transport, _):
        pass
    with pytest.raises(TransportError) as raised:
        await transport.send(POST)
    await transport.close()
    assert (raised.value.kind, raised.value.sent) == ("connect", False)
    assert "(connection refused)" in str(raised.value)


async def test_a_name_that_does_not_resolve_had_nothing_of_it() -> None:
    for host in ("seats.invalid", "a" * 64 + ".example"):
        transport = HttpTransport(f"https://{host}", environ={})
        with pytest.raises(TransportError) as raised:
            await transport.send(POST)
        await transport.close()
        assert (raised.value.kind, raised.value.sent) == ("dns", False)


@pytest.mark.parametrize("scheme", ["http", "https", "socks5"])
async def test_a_proxy_that_is_silent_hangs_up_or_is_none_is_told(scheme: str) -> None:
    for handler, kind, words in [
        (silent, "timeout", "check the proxy"),
        (hanging_up_at_once, "proxy", "check"),
        (answering_at_once, "tls" if scheme == "https" else "proxy", "check"),
    ]:
        async with served(handler, by_line=False) as (to_the_proxy, _):
            proxy = to_the_proxy.url.replace("http:", f"{scheme}:").removesuffix("/below")
            transport = HttpTransport("https://seats.example.com", proxy=proxy, environ={})
            with pytest.raises(TransportError) as raised:
                await transport.send(Request(method="POST", path="/", body=b"{}", timeout_s=0.2))
            await transport.close()
        assert (raised.value.kind, raised.value.sent) == (kind, False), (handler, raised.value)
        assert words in str(raised.value)


async def test_a_caller_that_is_cancelled_is_not_told_of_a_failure() -> None:
    heard = asyncio.Event()

    async def listening(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.set()
        await reader.read()

    async with served(listening) as (transport, _):
        task = asyncio.create_task(transport.send(POST))
        await heard.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize(
    "url",
    [
        "",
        "seats.example.com",
        "ftp://seats",
        "https://",
        "https://a:b@seats",
        "https://s?x",
        "https://s#x",
        "https://s:x",
    ],
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="url"):
        read_url(url)


def test_a_url_loses_the_slash_at_its_end() -> None:
    assert read_url(" https://seats.example.com/below// ") == "https://seats.example.com/below"


@pytest.mark.parametrize(
    ("url", "environ", "proxy", "allowed"),
    [
        ("http://127.0.0.1:8080", {}, None, True),
        ("http://[::1]", {}, None, True),
        ("http://localhost", {}, None, True),
        ("http://seats.example.com", {}, None, False),
        ("http://192.168.0.1", {}, None, False),
        ("http://localhost.example.com", {}, None, False),
        ("http://seats.example.com", {"SEATKEEPER_INSECURE_HTTP": "1"}, None, True),
        ("http://seats.example.com", {"SEATKEEPER_INSECURE_HTTP": "0"}, None, False),
        ("http://localhost", {"http_proxy": "http://proxy"}, None, True),
        ("http://localhost", {}, "http://proxy", False),
        ("http://localhost", {}, "socks5://localhost", True),
        ("http://seats.example.com", {}, "socks5://localhost", False),
    ],
)
def test_keys_leave_the_machine_in_clear_only_where_that_is_asked_for(
    url: str, environ: dict[str, str], proxy: str | None, allowed: bool
) -> None:
    if allowed:
        assert HttpTransport(url, proxy=proxy, environ=environ).url == url
        return
    with pytest.raises(ConfigurationError, match="SEATKEEPER_INSECURE_HTTP"):
        HttpTransport(url, proxy=proxy, environ=environ)
    assert HttpTransport(url, proxy=proxy, environ=environ, insecure=True).url == url


def test_a_transport_does_not_show_its_credentials() -> None:
    shown = repr(HttpTransport("https://seats", proxy="http://ada:sesame@proxy", environ={}))
    assert shown == "HttpTransport('https://seats', proxy=Proxy(http://proxy:80, with credentials))"

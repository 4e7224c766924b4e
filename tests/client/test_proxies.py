"""The transport through real proxies, to a real platform, in clear and behind TLS."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from seatkeeper.errors import TransportError
from seatkeeper.http import HttpTransport
from seatkeeper.transport import Request, Response
from services.standalone.embedded import free_port
from tests import servers
from tests.client.conftest import Application
from tests.client.proxy_servers import ProxyServer, microsocks, tinyproxy
from tests.client.tls_servers import LOOPBACK, Authority, TlsFront
from tests.platform import Platform

pytest_plugins = ["tests.platform"]

USER, PASSWORD = "ada", "open.sesame"
CREDENTIALS = "ada:open%2Esesame"
SOCKS_PASSWORD = "p@ss:/w0rd"  # tinyproxy takes no special characters
SOCKS_CREDENTIALS = "ada:p%40ss%3A%2Fw0rd"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
async def front(platform: Platform, authority: Authority) -> AsyncIterator[TlsFront]:
    """The platform behind TLS, on IPv4 and IPv6."""
    pair = authority.issue("localhost", LOOPBACK, "::1")
    async with TlsFront(pair, urlsplit(platform.api.url).port or 0).open() as opened:
        yield opened


@pytest.fixture
def http_proxy(tmp_path: Path) -> Iterator[ProxyServer]:
    with _installed(), tinyproxy(tmp_path) as server:
        yield server


@pytest.fixture
def closed_http_proxy(tmp_path: Path) -> Iterator[ProxyServer]:
    with _installed(), tinyproxy(tmp_path, user=USER, password=PASSWORD) as server:
        yield server


@pytest.fixture
def socks_proxy(tmp_path: Path) -> Iterator[ProxyServer]:
    with _installed(), microsocks(tmp_path, user=USER, password=SOCKS_PASSWORD) as server:
        yield server


@pytest.fixture
def names_do_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process; the proxies are others."""

    def only_addresses(host: str, *arguments: Any, **options: Any) -> Any:
        if not host[0].isdecimal():
            raise socket.gaierror(socket.EAI_NONAME, "a name was looked up here")
        return resolve(host, *arguments, **options)

    resolve = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", only_addresses)


class _installed:  # noqa: N801 - reads as a condition
    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, servers.ServersMissingError):
            pytest.exit(str(error), returncode=3)


async def validity(transport: HttpTransport, key: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads((await validate(transport, key)).body)
    return answer


async def validate(transport: HttpTransport, key: str) -> Response:
    try:
        body = json.dumps({"key": key}).encode()
        return await transport.send(Request(method="POST", path="/v1/validate", body=body))
    finally:
        await transport.close()


async def failure(transport: HttpTransport) -> TransportError:
    with pytest.raises(TransportError) as raised:
        await validate(transport, "any")
    text = f"{raised.value} {raised.value!r} {transport!r}"
    assert not any(secret in text for secret in ("sesame", "w0rd", "ada:"))
    assert raised.value.__context__ is None
    return raised.value


async def test_plain_requests_go_through_the_proxy_of_the_environment(
    platform: Platform, http_proxy: ProxyServer
) -> None:
    key = (await (await platform.vendor()).license()).key
    transport = HttpTransport(platform.api.url, environ={"http_proxy": http_proxy.url})
    assert (await validity(transport, key))["valid"] is True
    (asked,) = http_proxy.asked()
    assert f"POST {platform.api.url}/v1/validate HTTP" in asked


async def test_tls_goes_through_a_tunnel_that_asks_for_credentials(
    platform: Platform, front: TlsFront, authority: Authority, closed_http_proxy: ProxyServer
) -> None:
    key = (await (await platform.vendor()).license()).key
    environ = {"HTTPS_PROXY": closed_http_proxy.url_for(CREDENTIALS), "https_proxy": ""}
    transport = HttpTransport(f"https://localhost:{front.port}", ca_file=authority.root, environ=environ)
    assert (await validity(transport, key))["valid"] is True
    (asked,) = closed_http_proxy.asked()
    assert f"CONNECT localhost:{front.port} HTTP" in asked


@pytest.mark.parametrize("credentials", ["", "ada:guessed", "eve:open%2Esesame"])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_asks_for_other_credentials_says_so(
    credentials: str,
    scheme: str,
    platform: Platform,
    front: TlsFront,
    authority: Authority,
    closed_http_proxy: ProxyServer,
) -> None:
    proxy = closed_http_proxy.url_for(credentials)
    url = platform.api.url if scheme == "http" else f"https://localhost:{front.port}"
    error = await failure(HttpTransport(url, proxy=proxy, ca_file=authority.root, environ={}))
    # tinyproxy answers 401, not 407, to wrong ones: in clear, that may as well be a server behind it
    assert (error.kind, error.sent) == ("proxy", scheme == "http" and credentials != "")
    assert "asks for other credentials" in str(error)
    assert "guessed" not in str(error)


async def test_plain_requests_carry_credentials_too(platform: Platform, closed_http_proxy: ProxyServer) -> None:
    key = (await (await platform.vendor()).license()).key
    transport = HttpTransport(platform.api.url, proxy=closed_http_proxy.url_for(CREDENTIALS), environ={})
    assert (await validity(transport, key))["valid"] is True


async def test_a_proxy_may_be_spoken_to_over_tls(
    platform: Platform, front: TlsFront, authority: Authority, closed_http_proxy: ProxyServer
) -> None:
    key = (await (await platform.vendor()).license()).key
    pair = authority.issue("localhost")
    async with TlsFront(pair, closed_http_proxy.port).open() as before_the_proxy:
        proxy = f"https://{CREDENTIALS}@localhost:{before_the_proxy.port}"
        for url in (platform.api.url, f"https://{LOOPBACK}:{front.port}"):
            transport = HttpTransport(url, proxy=proxy, ca_file=authority.root, environ={})
            assert (await validity(transport, key))["valid"] is True
        assert before_the_proxy.connections == 2
        error = await failure(HttpTransport(platform.api.url, proxy=proxy, environ={}))
        assert (error.kind, error.sent) == ("tls", False)


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
async def test_socks_proxies_resolve_the_names(
    scheme: str,
    platform: Platform,
    front: TlsFront,
    authority: Authority,
    socks_proxy: ProxyServer,
    names_do_not_resolve: None,
) -> None:
    key = (await (await platform.vendor()).license()).key
    proxy = socks_proxy.url_for(SOCKS_CREDENTIALS).replace("socks5", scheme)
    port = urlsplit(platform.api.url).port
    for url in (f"http://localhost:{port}", f"https://localhost:{front.port}"):
        transport = HttpTransport(url, ca_file=authority.root, environ={"all_proxy": proxy})
        assert (await validity(transport, key))["valid"] is True
    told = [line.rpartition(" ")[2] for line in socks_proxy.asked()]
    assert told == [f"localhost:{port}", f"localhost:{front.port}"]


@pytest.mark.parametrize("credentials", ["", "ada:guessed"])
async def test_a_socks_proxy_that_asks_for_other_credentials_says_so(
    credentials: str, platform: Platform, socks_proxy: ProxyServer
) -> None:
    transport = HttpTransport(platform.api.url, proxy=socks_proxy.url_for(credentials), environ={})
    error = await failure(transport)
    assert (error.kind, error.sent) == ("proxy", False)
    assert "does not accept the credentials" in str(error)
    assert socks_proxy.asked() == []


async def test_an_application_behind_a_socks_proxy_holds_its_seat(
    applications: Callable[..., Awaitable[Application]],
    front: TlsFront,
    authority: Authority,
    socks_proxy: ProxyServer,
    names_do_not_resolve: None,
) -> None:
    application = await applications()
    proxy = socks_proxy.url_for(SOCKS_CREDENTIALS)
    url = f"https://localhost:{front.port}"
    async with application.client(url=url, proxy=proxy, ca_file=authority.root) as client:
        await client.heartbeat()
        assert client.state.usable
        assert await application.seats_used() == 1
        await client.release()
    assert await application.seats_used() == 0
    assert len(socks_proxy.asked()) >= 3


async def test_what_no_proxy_lists_is_reached_without_one(
    platform: Platform, front: TlsFront, authority: Authority, http_proxy: ProxyServer
) -> None:
    key = (await (await platform.vendor()).license()).key
    environ = {"http_proxy": http_proxy.url, "https_proxy": http_proxy.url}
    for url, no_proxy in [
        (platform.api.url, "127.0.0.0/8"),
        (platform.api.url, f"example.com,127.0.0.1:{urlsplit(platform.api.url).port}"),
        (f"https://localhost:{front.port}", ".localhost"),
        (f"https://localhost:{front.port}", "*"),
    ]:
        transport = HttpTransport(url, ca_file=authority.root, environ=environ | {"no_proxy": no_proxy})
        assert (await validity(transport, key))["valid"] is True
    assert http_proxy.asked() == []


async def test_an_explicit_choice_wins_over_the_environment(platform: Platform, http_proxy: ProxyServer) -> None:
    key = (await (await platform.vendor()).license()).key
    elsewhere = {"http_proxy": f"http://{LOOPBACK}:{free_port()}", "no_proxy": "*"}
    assert (await validity(HttpTransport(platform.api.url, proxy=http_proxy.url, environ=elsewhere), key))["valid"]
    assert len(http_proxy.asked()) == 1
    through = {"http_proxy": http_proxy.url}
    assert (await validity(HttpTransport(platform.api.url, proxy="direct", environ=through), key))["valid"]
    assert len(http_proxy.asked()) == 1


@pytest.mark.parametrize("scheme", ["http", "socks5"])
@pytest.mark.parametrize("host", [LOOPBACK, "no-such-proxy.invalid"])
async def test_a_proxy_that_is_not_there_is_told_from_a_server_that_is_not(
    scheme: str, host: str, authority: Authority
) -> None:
    proxy = f"{scheme}://{CREDENTIALS}@{host}:{free_port()}"
    for url in ("https://localhost", "https://seats.example.com"):
        error = await failure(HttpTransport(url, proxy=proxy, environ={}))
        assert (error.kind, error.sent) == ("proxy", False)
        assert f"{scheme}://{host}:" in str(error)


async def test_a_server_that_the_proxy_does_not_reach_is_the_proxys_word(
    http_proxy: ProxyServer, socks_proxy: ProxyServer
) -> None:
    for proxy in (http_proxy.url, socks_proxy.url_for(SOCKS_CREDENTIALS)):
        error = await failure(HttpTransport(f"https://localhost:{free_port()}", proxy=proxy, environ={}))
        assert (error.kind, error.sent) == ("proxy", False)
    error = await failure(HttpTransport(f"http://localhost:{free_port()}", proxy=http_proxy.url, environ={}))
    assert (error.kind, error.sent) == ("proxy", True)


async def test_a_handshake_that_ends_behind_the_proxy_is_no_matter_of_the_proxy(
    http_proxy: ProxyServer, socks_proxy: ProxyServer
) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    async with await asyncio.start_server(hang_up, LOOPBACK, 0) as server:
        url = f"https://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
        for proxy in (http_proxy.url, socks_proxy.url_for(SOCKS_CREDENTIALS)):
            error = await failure(HttpTransport(url, proxy=proxy, environ={}))
            assert (error.kind, error.sent) == ("tls", False)


async def test_a_server_that_the_proxy_does_not_allow_is_named(tmp_path: Path) -> None:
    (tmp_path / "allowed").write_text("^allowed\\.example$\n")
    lines = [f'Filter "{tmp_path / "allowed"}"', "FilterDefaultDeny Yes"]
    with _installed(), tinyproxy(tmp_path, lines=lines) as server:
        for url in ("https://seats.example.com", "http://localhost:9"):
            error = await failure(HttpTransport(url, proxy=server.url, environ={}))
            assert error.kind == "proxy"
            assert "does not allow this server" in str(error)
            assert (urlsplit(url).hostname or "") in str(error)


async def test_names_in_other_scripts_reach_the_proxy_as_dns_knows_them(http_proxy: ProxyServer) -> None:
    await failure(HttpTransport("https://bücher.invalid", proxy=http_proxy.url, environ={}))
    (asked,) = http_proxy.asked()
    assert "CONNECT xn--bcher-kva.invalid:443 HTTP" in asked


async def test_addresses_of_ipv6_pass_both_kinds(
    platform: Platform, authority: Authority, http_proxy: ProxyServer, socks_proxy: ProxyServer
) -> None:
    key = (await (await platform.vendor()).license()).key
    front = TlsFront(authority.issue("::1"), urlsplit(platform.api.url).port or 0)
    try:
        opened = front.open(hosts=["::1"])
        await opened.__aenter__()
    except OSError:
        pytest.skip("this machine has no IPv6")
    for proxy in ("direct", http_proxy.url, socks_proxy.url_for(SOCKS_CREDENTIALS)):
        transport = HttpTransport(f"https://[::1]:{front.port}", proxy=proxy, ca_file=authority.root, environ={})
        assert (await validity(transport, key))["valid"] is True
    await opened.__aexit__(None, None, None)

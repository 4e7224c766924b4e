"""Whom the transport trusts, how it shows itself, and what it says when that fails: a real platform behind TLS."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from seatkeeper.errors import TransportError
from seatkeeper.http import HttpTransport
from seatkeeper.transport import Request
from tests.client.tls_servers import LOOPBACK, Authority, TlsFront, server_context, telling_handshakes
from tests.platform import Platform

pytest_plugins = ["tests.platform"]

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
async def key(platform: Platform) -> str:
    return (await (await platform.vendor()).license()).key


@pytest.fixture
async def closed_front(platform: Platform, authority: Authority) -> AsyncIterator[TlsFront]:
    """Lets in who shows a certificate of `authority`."""
    front = TlsFront(authority.issue("localhost"), port_of(platform), clients_root=authority.root)
    async with front.open() as opened:
        yield opened


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["TLS 1.2", "TLS 1.3"])
def strict_port(authority: Authority, request: pytest.FixtureRequest) -> Iterator[int]:
    """The same, and says why it lets nobody in; asyncio's servers hang up without a word."""
    context = server_context(authority.issue("localhost"), clients_root=authority.root)
    context.maximum_version = request.param
    with telling_handshakes(context) as port:
        yield port


def port_of(platform: Platform) -> int:
    return urlsplit(platform.api.url).port or 0


async def validity(url: str, key: str, **options: Any) -> bool:
    transport = HttpTransport(url, environ={}, **options)
    try:
        body = json.dumps({"key": key}).encode()
        answer = await transport.send(Request(method="POST", path="/v1/validate", body=body))
        return json.loads(answer.body)["valid"] is True
    finally:
        await transport.close()


async def refused(url: str, **options: Any) -> TransportError:
    with pytest.raises(TransportError) as raised:
        await validity(url, "any", **options)
    assert raised.value.kind == "tls"
    return raised.value


async def test_an_authority_of_ones_own_is_trusted_where_it_is_named(
    platform: Platform, authority: Authority, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with TlsFront(authority.issue("localhost"), port_of(platform)).open() as front:
        url = f"https://localhost:{front.port}"
        assert await validity(url, key, ca_file=authority.root)
        error = await refused(url)
        assert not error.sent
        assert "the certificate of localhost is by an unknown issuer: name the file of its root in ca_file" in str(
            error
        )
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.root))
        assert await validity(url, key)


@pytest.mark.parametrize(
    ("names", "since", "until", "words"),
    [
        (["localhost"], -2 * DAY, -DAY, "has expired: set this machine's clock right, or have the operator renew it"),
        (["localhost"], DAY, 2 * DAY, "is not valid yet: set this machine's clock right"),
        (["seats.example.com", LOOPBACK], -DAY, DAY, "is for another name: use the name that it was made for"),
    ],
)
async def test_what_is_wrong_with_a_certificate_is_said_with_what_to_do(
    names: list[str], since: timedelta, until: timedelta, words: str, platform: Platform, authority: Authority
) -> None:
    pair = authority.issue(*names, since=since, until=until)
    async with TlsFront(pair, port_of(platform)).open() as front:
        error = await refused(f"https://localhost:{front.port}", ca_file=authority.root)
        assert f"the certificate of localhost {words}" in str(error)
        assert not error.sent
        assert front.connections == 0


async def test_a_certificate_for_another_address_is_refused(platform: Platform, authority: Authority) -> None:
    async with TlsFront(authority.issue("127.0.0.2", "localhost"), port_of(platform)).open() as front:
        error = await refused(f"https://{LOOPBACK}:{front.port}", ca_file=authority.root)
    assert "is for another address" in str(error)


async def test_a_port_without_tls_is_told(platform: Platform) -> None:
    error = await refused(platform.api.url.replace("http:", "https:"))
    assert "does not speak TLS on this port" in str(error)


async def test_a_client_certificate_lets_in(closed_front: TlsFront, authority: Authority, key: str) -> None:
    own = authority.issue("device.example")
    url = f"https://localhost:{closed_front.port}"
    assert await validity(url, key, ca_file=authority.root, client_cert=own.certificate, client_key=own.key)
    both = own.certificate.with_suffix(".both")
    both.write_bytes(own.certificate.read_bytes() + own.key.read_bytes())
    assert await validity(url, key, ca_file=authority.root, client_cert=both)


async def test_a_missing_client_certificate_is_asked_for(strict_port: int, authority: Authority) -> None:
    error = await refused(f"https://localhost:{strict_port}", ca_file=authority.root)
    assert "localhost " in str(error)
    assert "asks for a client certificate" in str(error)
    assert "set client_cert and client_key" in str(error)


async def test_a_client_certificate_of_others_is_refused(
    strict_port: int, authority: Authority, tmp_path: Path
) -> None:
    foreign = Authority(tmp_path, "others").issue("device.example")
    shown = {"client_cert": foreign.certificate, "client_key": foreign.key}
    error = await refused(f"https://localhost:{strict_port}", ca_file=authority.root, **shown)
    assert "does not know the issuer of the client certificate" in str(error)


async def test_a_handshake_that_is_hung_up_on_is_no_matter_of_the_port(authority: Authority) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.transport.abort()

    async with await asyncio.start_server(hang_up, LOOPBACK, 0) as server:
        error = await refused(f"https://{LOOPBACK}:{server.sockets[0].getsockname()[1]}")
    assert "hung up in the TLS handshake" in str(error)
    assert not error.sent

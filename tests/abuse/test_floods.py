"""Floods, and HTTP that two readers would read differently: refused, answered once, and without a word in the log."""

import asyncio
import os
import ssl
from collections.abc import Mapping

import pytest

from tests.abuse.conftest import WHOLE, Table
from tests.abuse.target import SLACK_S, Ground, Target, Wire, latencies, statuses
from tests.platform import Api, open_api

pytest_plugins = ["tests.platform", "tests.abuse.target"]

POST = b"POST /v1/validate HTTP/1.1\r\nHost: a\r\n"
HIDDEN = b"GET /v1/hidden HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED_END = b"0\r\n\r\n"

SMUGGLING = {
    "Content-Length and chunked": POST
    + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
    + CHUNKED_END
    + HIDDEN,
    "chunked and Content-Length": POST
    + b"Transfer-Encoding: chunked\r\nContent-Length: 50\r\n\r\n"
    + CHUNKED_END
    + HIDDEN,
    "two different Content-Lengths": POST + b"Content-Length: 2\r\nContent-Length: 40\r\n\r\n{}" + HIDDEN,
    "two same Content-Lengths": POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}" + HIDDEN,
    "a list of Content-Lengths": POST + b"Content-Length: 2, 40\r\n\r\n{}" + HIDDEN,
    "a signed Content-Length": POST + b"Content-Length: +2\r\n\r\n{}" + HIDDEN,
    "a negative Content-Length": POST + b"Content-Length: -2\r\n\r\n{}" + HIDDEN,
    "a hexadecimal Content-Length": POST + b"Content-Length: 0x2\r\n\r\n{}" + HIDDEN,
    "an underscored Content-Length": POST + b"Content-Length: 1_0\r\n\r\n{}" + HIDDEN,
    "an endless Content-Length": POST + b"Content-Length: " + b"9" * 400 + b"\r\n\r\n{}" + HIDDEN,
    "a folded header": POST + b"X-A: b\r\n Content-Length: 40\r\n\r\n{}" + HIDDEN,
    "a folded Transfer-Encoding": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + CHUNKED_END + HIDDEN,
    "a space before the colon": POST + b"Content-Length : 40\r\n\r\n{}" + HIDDEN,
    "a space before the name": POST + b" Content-Length: 40\r\n\r\n{}" + HIDDEN,
    "a tab for the space": POST + b"Transfer-Encoding\t: chunked\r\n\r\n" + CHUNKED_END + HIDDEN,
    "a NUL in a value": POST + b"X-A: b\x00c\r\n\r\n" + HIDDEN,
    "a lone carriage return": POST + b"X-A: b\rTransfer-Encoding: chunked\r\n\r\n" + CHUNKED_END + HIDDEN,
    "a header without a name": POST + b": b\r\n\r\n" + HIDDEN,
    "a header without a colon": POST + b"chunked\r\n\r\n" + HIDDEN,
    "chunked twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED_END + HIDDEN,
    "chunked, and then not": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n" + CHUNKED_END + HIDDEN,
    "xchunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNKED_END + HIDDEN,
    "chunked after a control character": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + CHUNKED_END + HIDDEN,
    "a chunk of a signed size": POST + b"Transfer-Encoding: chunked\r\n\r\n+2\r\n{}\r\n" + CHUNKED_END + HIDDEN,
    "a chunk of 0x size": POST + b"Transfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n" + CHUNKED_END + HIDDEN,
    "a chunk that runs over": POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}xx\r\n" + CHUNKED_END + HIDDEN,
    "a chunk of endless size": POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 400 + b"\r\n{}\r\n" + HIDDEN,
    "chunked in HTTP/1.0": (
        b"POST /v1/validate HTTP/1.0\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + CHUNKED_END + HIDDEN
    ),
    "two Hosts": b"GET /v1/hidden HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
}
"""A request, and behind it one that only another reader would have seen."""

NO_HTTP = {
    "random bytes": os.urandom(200) + b"\r\n\r\n",
    "a TLS greeting": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x55" * 200,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/9.9": b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
    "no version": b"GET / \r\n\r\n",
    "Redis": b"*1\r\n$4\r\nPING\r\n",
    "a line of 10 KiB": b"GET /" + b"a" * 10_240 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "a header of 10 KiB": b"GET / HTTP/1.1\r\nHost: a\r\nX-A: " + b"a" * 10_240 + b"\r\n\r\n",
    "a header's name of 10 KiB": b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a" * 10_240 + b": b\r\n\r\n",
    "a thousand headers": b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-A: b\r\n" * 1000 + b"\r\n",
    "a megabyte of headers": b"GET / HTTP/1.1\r\nHost: a\r\n" + (b"X-A: " + b"a" * 8000 + b"\r\n") * 130 + b"\r\n",
    "a space in the path": b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    "a method of signs": b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
}


async def answered(port: int, sent: bytes) -> bytes | None:
    async with await Wire.open(port) as wire:
        await wire.send(sent)
        return await wire.rest(5)


async def taken_of(target: Target, attacks: Mapping[str, bytes]) -> list[str]:
    """Those that were not refused once and for all."""
    received = await asyncio.gather(*(answered(target.port, sent) for sent in attacks.values()))
    return [f"{name}: {one!r}" for name, one in zip(attacks, received, strict=True) if not is_one_refusal(one)]


def is_one_refusal(received: bytes | None) -> bool:
    """Closed, after one 400 that is a problem document."""
    return (
        received is not None
        and statuses(received) == [400]
        and b"application/problem+json" in received
        and b'"code":"REQUEST_INVALID"' in received
        and b"Server: seatkeeper" in received
    )


async def test_requests_that_could_smuggle_another_are_refused_and_the_other_is_not_seen(
    target: Target, table: Table
) -> None:
    through = await taken_of(target, SMUGGLING)
    table.row("request smuggling", tried=len(SMUGGLING), got_through=len(through), note="; ".join(through))


async def test_what_is_no_http_is_told_so_with_a_problem_document(target: Target, table: Table) -> None:
    logged = len(target.service.log())
    through = await taken_of(target, NO_HTTP)
    table.row("no HTTP at all", tried=len(NO_HTTP), got_through=len(through), note="; ".join(through))
    assert len(target.service.log()) == logged


@pytest.mark.parametrize("expectation", ["100-continue", "200-maybe", "<script>"])
async def test_an_expectation_is_met_or_ignored(target: Target, expectation: str) -> None:
    received = await answered(
        target.port,
        f"GET /nowhere HTTP/1.1\r\nHost: a\r\nExpect: {expectation}\r\nConnection: close\r\n\r\n".encode(),
    )
    assert received is not None
    assert statuses(received)[-1] == 404
    assert b"<script>" not in received


@pytest.mark.parametrize("protocol", ["websocket", "h2c", "TLS/1.0"])
async def test_no_other_protocol_is_switched_to(target: Target, protocol: str) -> None:
    head = f"GET /nowhere HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, close\r\nUpgrade: {protocol}\r\n\r\n".encode()
    received = await answered(target.port, head)
    assert received is not None
    assert statuses(received) == [404]


async def test_a_flood_of_connections_and_requests_leaves_others_served(target: Target, table: Table) -> None:
    grant = await target.vendor.license()
    size = 5000 if WHOLE else 1000
    pipelined = HIDDEN * 20

    async def flood() -> None:
        for _ in range(size // 20):
            async with await Wire.open(target.port) as wire:
                await wire.send(pipelined)
                await wire.reader.read(1)

    _, p99 = await latencies(lambda: target.api.validate(grant.key), times=100)
    flooding = [asyncio.create_task(flood()) for _ in range(4)]
    unserved = 0
    _, p99_beside = await latencies(lambda: served(target.api, grant.key), times=100)
    await asyncio.gather(*flooding)
    unserved += (await target.api.validate(grant.key)).status != 200
    note = f"{4 * size} requests; p99 {p99:.1f} -> {p99_beside:.1f} ms"
    table.row("flood of requests", tried=4 * size, got_through=unserved + (p99_beside > 1000), note=note)


async def served(api: Api, key: str) -> None:
    assert (await api.validate(key)).status == 200


async def test_a_flood_on_one_license_leaves_the_others_their_seats(ground: Ground, table: Table) -> None:
    limits = {"license_requests_per_s": 50, "burst_s": 2}
    service = await ground.start("activation", limits=limits)
    hot, calm = await ground.vendor.license(seats=10_000), await ground.vendor.license(seats=1000)
    size = 5000 if WHOLE else 600
    began = asyncio.get_running_loop().time()
    async with open_api(service.url) as api:
        flood = asyncio.gather(*(api.activate(hot.key, f"{number}") for number in range(size)))
        others = [(await api.activate(calm.key, f"{number}")).status for number in range(20)]
        answers = [answer.status for answer in await flood]
        allowed = 100 + 50 * (asyncio.get_running_loop().time() - began) + 100 / 32 + 1
        metrics = await text_of(service.health_url)
    taken, throttled = answers.count(201), answers.count(429)
    wrong = (taken > allowed) + (taken + throttled != size) + (others != [201] * 20)
    wrong += f'seatkeeper_throttled_total{{side="license"}} {float(throttled)}' not in metrics
    table.row("flood on one license", tried=size, got_through=wrong, note=f"{taken} taken, {throttled} told to wait")
    assert await service.stop() == 0


async def text_of(health_url: str) -> str:
    async with open_api(health_url) as api:
        return (await api.ask("GET", "/metrics")).body.decode()


async def test_a_tls_client_is_turned_away_at_once(target: Target) -> None:
    context = ssl.create_default_context()
    with pytest.raises((ssl.SSLError, ConnectionError)):
        async with asyncio.timeout(SLACK_S):
            await asyncio.open_connection("127.0.0.1", target.port, ssl=context)

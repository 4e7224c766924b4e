"""Clients that send slowly, or nothing: they are cut off in time, and nobody else waits for them."""

import asyncio
import time

from tests.abuse.conftest import WHOLE, Table
from tests.abuse.target import (
    BODY_TIMEOUT_S,
    HEADER_TIMEOUT_S,
    LINGER_S,
    SLACK_S,
    Ground,
    Target,
    Wire,
    crowd,
    latencies,
    statuses,
)
from tests.platform import open_api

pytest_plugins = ["tests.platform", "tests.abuse.target"]

SLOW = 500 if WHOLE else 100
IDLE = 5000 if WHOLE else 2000
SAMPLES = 2000 if WHOLE else 300
HEAD = b"POST /v1/validate HTTP/1.1\r\nHost: a\r\nX-Slow: " + b"a" * 4000
BODY = b"POST /v1/validate HTTP/1.1\r\nHost: a\r\nContent-Length: 4000\r\n\r\n" + b" " * 100


async def test_a_head_that_comes_a_byte_at_a_time_is_cut_off(target: Target, table: Table) -> None:
    async with crowd(target.port, SLOW) as wires:
        began = time.monotonic()
        trickles = [asyncio.create_task(wire.trickle(HEAD, 0.1)) for wire in wires]
        ends = await asyncio.gather(*(wire.rest(HEADER_TIMEOUT_S + SLACK_S) for wire in wires))
        took_s = time.monotonic() - began
        for trickle in trickles:
            trickle.cancel()
    assert took_s >= HEADER_TIMEOUT_S * 0.9
    table.row("slow heads", tried=SLOW, got_through=sum(end is None for end in ends), note=f"closed in {took_s:.1f} s")


async def test_a_slow_head_after_an_answered_request_is_cut_off_too(target: Target, table: Table) -> None:
    async with crowd(target.port, SLOW, b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n") as wires:
        await asyncio.gather(*(wire.reader.readuntil(b"}") for wire in wires))
        trickles = [asyncio.create_task(wire.trickle(HEAD, 0.1)) for wire in wires]
        ends = await asyncio.gather(*(wire.rest(HEADER_TIMEOUT_S + SLACK_S) for wire in wires))
        for trickle in trickles:
            trickle.cancel()
    table.row("slow heads, second request", tried=SLOW, got_through=sum(end is None for end in ends))


async def test_a_connection_that_is_only_idle_is_not_cut_off_with_them(target: Target) -> None:
    request = b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n"
    async with crowd(target.port, 5, request) as wires:
        await asyncio.gather(*(wire.reader.readuntil(b"}") for wire in wires))
        await asyncio.sleep(HEADER_TIMEOUT_S + 0.5)
        for wire in wires:
            assert await wire.send(request)
            assert statuses(await wire.reader.readuntil(b"}")) == [404]


async def test_a_body_that_comes_a_byte_at_a_time_is_refused(target: Target, table: Table) -> None:
    async with crowd(target.port, SLOW, BODY) as wires:
        trickles = [asyncio.create_task(wire.trickle(b" " * 4000, 0.1)) for wire in wires]
        ends = await asyncio.gather(*(wire.rest(BODY_TIMEOUT_S + LINGER_S + SLACK_S) for wire in wires))
        for trickle in trickles:
            trickle.cancel()
    answered = [end is not None and statuses(end) == [400] for end in ends]
    table.row("slow bodies", tried=SLOW, got_through=answered.count(False), note="each told 400")


async def test_thousands_of_idle_sockets_cost_others_no_latency(target: Target, table: Table) -> None:
    grant = await target.vendor.license()

    async def measured() -> tuple[float, float]:
        return min([await latencies(lambda: target.api.validate(grant.key), times=SAMPLES) for _ in range(2)])

    median, p99 = await measured()
    before_kb = target.resident_kb
    async with crowd(target.port, IDLE):
        kb_each = (target.resident_kb - before_kb) / IDLE
        median_beside, p99_beside = await measured()
    slower = median_beside > 2 * median + 2 or p99_beside > 3 * p99 + 25
    figures = (
        f"median {median:.1f} -> {median_beside:.1f} ms, p99 {p99:.1f} -> {p99_beside:.1f} ms, {kb_each:.1f} KiB each"
    )
    table.row("idle sockets", tried=IDLE, got_through=int(slower), note=figures)


async def test_more_connections_than_are_allowed_close_those_that_idle_longest(ground: Ground, table: Table) -> None:
    most, tries = 100, 1000 if WHOLE else 300
    service = await ground.start("activation", server={"max_connections": most})
    grant = await ground.vendor.license()
    unserved = 0
    async with open_api(service.url) as api, crowd(service.port, tries) as wires:
        for _ in range(20):
            unserved += (await api.validate(grant.key)).status != 200
            fresh = await Wire.open(service.port)
            await fresh.send(b"GET /nowhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            unserved += statuses(await fresh.rest(5) or b"") != [404]
        await asyncio.sleep(0.2)
        left = sum(not wire.reader.at_eof() for wire in wires)
        unserved += left > most
    table.row(
        "more sockets than allowed", tried=tries, got_through=unserved, note=f"{left} of at most {most} left open"
    )
    assert await service.stop() == 0

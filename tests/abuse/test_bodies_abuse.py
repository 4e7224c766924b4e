"""Bodies made to exhaust a server: enormous, compressed, nested, malformed. Each is refused, and memory stays flat."""

import asyncio
import gzip
import json
import time
import zlib
from collections.abc import AsyncIterator
from typing import Any

import brotli  # type: ignore[import-untyped]
import pytest
from backports import zstd

from tests.abuse.conftest import WHOLE, Table
from tests.abuse.target import LINGER_S, SLACK_S, UNKNOWN_KEY, Ground, Target, Wire, crowd, resident_kb, statuses
from tests.platform import Answer, Api, Service, open_api

pytest_plugins = ["tests.platform", "tests.abuse.target"]

GIGABYTE = 2**30
CHUNK = b"x" * 65_536
MOST_GROWTH_KB = 20 * 1024
LIMITS = {
    "/v1/activate": 64,
    "/v1/validate": 64,
    "/v1/deactivate": 64,
    "/v1/reset": 64,
    "/v1/heartbeat": 64,
    "/v1/heartbeats": 512,
}
"""Every route that reads a body, and its KiB."""

MEMBER = {
    "/v1/activate": "fingerprint",
    "/v1/validate": "key",
    "/v1/deactivate": "deviceId",
    "/v1/reset": "deviceId",
    "/v1/heartbeat": "deviceToken",
    "/v1/heartbeats": "heartbeats",
}
GOOD: dict[str, dict[str, Any]] = {
    "/v1/activate": {"licenseKey": UNKNOWN_KEY, "fingerprint": "a", "timestamp": 1},
    "/v1/validate": {"key": UNKNOWN_KEY},
    "/v1/deactivate": {"licenseKey": UNKNOWN_KEY, "deviceId": "a"},
    "/v1/reset": {"licenseKey": UNKNOWN_KEY, "deviceId": "a"},
    "/v1/heartbeat": {"deviceToken": "a"},
    "/v1/heartbeats": {"heartbeats": [{"deviceToken": "a"}]},
}
"""A body of each route that is well-formed, and opens nothing."""


@pytest.fixture(scope="module")
async def heartbeat(ground: Ground) -> AsyncIterator[tuple[Service, Api]]:
    service = await ground.start("heartbeat", reconciliation={"licenses_per_s": 0})
    async with open_api(service.url) as api:
        yield service, api


class Routes:
    """Each route at the service that has it."""

    def __init__(self, target: Target, heartbeat: tuple[Service, Api]) -> None:
        self._activation = target.service, target.api
        self._heartbeat = heartbeat

    def __call__(self, path: str) -> tuple[Service, Api]:
        return self._heartbeat if path.startswith("/v1/heartbeat") else self._activation

    @property
    def resident_kb(self) -> int:
        return max(resident_kb(self._activation[0]), resident_kb(self._heartbeat[0]))


@pytest.fixture(scope="module")
async def routes(target: Target, heartbeat: tuple[Service, Api]) -> Routes:
    made = Routes(target, heartbeat)
    for path, body in GOOD.items():
        for _ in range(20):
            await made(path)[1].post(path, body)
    return made


def is_refused(answer: Answer) -> bool:
    return 400 <= answer.refusal[0] < 500


@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
async def test_a_gigabyte_is_refused_while_memory_stays_flat(routes: Routes, table: Table, chunked: bool) -> None:
    before_kb, most_kb, unrefused, sent = routes.resident_kb, 0, 0, 0
    wires = []
    for path in LIMITS:
        wire = await Wire.open(routes(path)[0].port)
        framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {GIGABYTE}"
        await wire.send(f"POST {path} HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n".encode())
        wires.append(wire)

    async def pour(wire: Wire) -> None:
        nonlocal sent, most_kb
        part = b"%x\r\n%s\r\n" % (len(CHUNK), CHUNK) if chunked else CHUNK
        poured = 0
        while poured < GIGABYTE and await wire.send(part):
            poured += len(CHUNK)
            if poured % (64 * len(CHUNK)) == 0:
                most_kb = max(most_kb, routes.resident_kb)
        sent += poured

    pouring = [asyncio.create_task(pour(wire)) for wire in wires]
    for end in await asyncio.gather(*(wire.rest(LINGER_S + 2 * SLACK_S) for wire in wires)):
        unrefused += end is None or 413 not in statuses(end)
    await asyncio.gather(*pouring)
    for wire in wires:
        wire.cut()
    grown_kb = max(most_kb, routes.resident_kb) - before_kb
    note = f"{sent / 2**20:.0f} MiB poured, {grown_kb} KiB grown"
    unrefused += grown_kb > MOST_GROWTH_KB
    table.row(
        f"a gigabyte, {'chunked' if chunked else 'declared'}", tried=len(LIMITS), got_through=unrefused, note=note
    )


async def test_nothing_compressed_is_inflated(routes: Routes, table: Table) -> None:
    zeros = b" " * (100 * 2**20 if WHOLE else 50 * 2**20)
    deflate = zlib.compressobj(9, wbits=-15)
    once = gzip.compress(zeros)
    bombs = {
        "gzip": [once, gzip.compress(once)],
        "x-gzip": [once],
        "deflate": [zlib.compress(zeros), deflate.compress(zeros) + deflate.flush()],
        "br": [brotli.compress(zeros)],
        "zstd": [zstd.compress(zeros)],
        "gzip, gzip": [gzip.compress(once)],
        "identity, gzip": [once],
        "GZip": [once],
    }
    before_kb, unrefused, tried = routes.resident_kb, 0, 0
    for path in LIMITS:
        api = routes(path)[1]
        for encoding, bodies in bombs.items():
            for body in bodies:
                small = body[:60_000]
                for data in (body, small) if len(body) > len(small) else (body,):
                    tried += 1
                    answer = await api.post(path, data=data, headers={"Content-Encoding": encoding})
                    unrefused += answer.refusal != (400, "REQUEST_INVALID")
                    unrefused += "Content-Encoding" not in answer.json["detail"]
        tried += 1
        hidden = await api.post(path, data=once[:60_000])
        unrefused += hidden.refusal != (400, "REQUEST_INVALID")
        raw = (
            f"POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: gzip, chunked\r\n\r\n".encode()
        )
        async with await Wire.open(routes(path)[0].port) as wire:
            tried += 1
            await wire.send(raw + b"%x\r\n%s\r\n0\r\n\r\n" % (len(small), small))
            unrefused += set(statuses(await wire.rest(LINGER_S + SLACK_S) or b"")) != {400}
    grown_kb = routes.resident_kb - before_kb
    unrefused += grown_kb > MOST_GROWTH_KB
    table.row("compressed bombs", tried=tried, got_through=unrefused, note=f"{grown_kb} KiB grown")


def bombs_for(path: str) -> dict[str, bytes]:
    """JSON that is hard on a parser; none of it may be taken."""
    good, member, digits = json.dumps(GOOD[path]), MEMBER[path], "9" * 20_000
    head = good[:-1] + ', "x": '

    def named(value: str) -> bytes:
        return json.dumps({**GOOD[path], member: "@"}).replace('"@"', value).encode()

    return {
        "arrays, ten thousand deep": b"[" * 10_000 + b"]" * 10_000,
        "arrays, unclosed": b"[" * 60_000,
        "objects, ten thousand deep": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        "deep in an unknown member": (head + "[" * 10_000 + "]" * 10_000 + "}").encode(),
        "deep in a known member": named("[" * 10_000 + "]" * 10_000),
        "deep, mixed": (head + '[{"a":' * 7_000 + "1" + "}]" * 7_000 + "}").encode(),
        "a number for a text": named(digits),
        "a float for a text": named(f"{digits}.{digits}e{digits}"),
        "1e309": named("1e309"),
        "-0": named("-0"),
        "NaN": named("NaN"),
        "Infinity": named("Infinity"),
        "a text too long": named('"' + "a" * 60_000 + '"'),
        "a megabyte of text": named('"' + "a" * 2**20 + '"'),
        "a text of escapes": named('"' + "\\u0000" * 8_000 + '"'),
        "a lone surrogate": named('"\\ud800"'),
        "NUL": named('"\\u0000"'),
        "raw NUL": named('"\0"'),
        "raw newline": named('"\n"'),
        "not UTF-8": good.encode()[:-1] + b', "x": "\xff\xfe"}',
        "UTF-16": good.encode("utf-16"),
        "a byte order mark": b"\xef\xbb\xbf" + good.encode(),
        "a member twice": (good[:-1] + f', "{member}": ' + json.dumps(GOOD[path][member]) + "}").encode(),
        "a member twice, once escaped": (
            good[:-1] + f', "\\u{ord(member[0]):04x}{member[1:]}": ' + json.dumps(GOOD[path][member]) + "}"
        ).encode(),
        "an unknown member twice": (good[:-1] + ', "x": 1, "y": "a:b", "x": 2}').encode(),
        "thousands of members": ("{" + ", ".join(f'"{number}": 1' for number in range(4_000)) + "}").encode(),
        "two documents": (good + good).encode(),
        "a trailing comma": (good[:-1] + ",}").encode(),
        "a comment": (good[:-1] + "/* */}").encode(),
        "half of it": good.encode()[: len(good) // 2],
        "nothing": b"",
        "spaces": b" " * 60_000,
        "null": b"null",
        "a text": b'"a"',
        "a list": b"[1]",
        "a form": b"licenseKey=a&fingerprint=b",
        "XML": b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
    }


async def test_hostile_json_is_refused_by_every_route(routes: Routes, table: Table) -> None:
    before_kb, began, tried = routes.resident_kb, time.monotonic(), 0
    through: list[str] = []
    for path in LIMITS:
        api = routes(path)[1]
        for name, data in bombs_for(path).items():
            for _ in range(20 if WHOLE else 1):
                tried += 1
                answer = await api.post(path, data=data)
                if not is_refused(answer):
                    through.append(f"{path}: {name}: {answer.status}")
    grown_kb = routes.resident_kb - before_kb
    assert grown_kb < MOST_GROWTH_KB
    table.row(
        "hostile JSON",
        tried=tried,
        got_through=len(through),
        note=f"{1000 * (time.monotonic() - began) / tried:.1f} ms each, {grown_kb} KiB grown {through or ''}",
    )


async def test_hostile_items_of_a_fleet_are_refused_alone(routes: Routes, table: Table) -> None:
    api = routes("/v1/heartbeats")[1]
    hostile = [
        b"[" * 10_000 + b"]" * 10_000,
        b'{"deviceToken": "a", "deviceToken": "b"}',
        b'{"deviceToken": "a", "x": ' + b"[" * 5_000 + b"]" * 5_000 + b"}",
        b'{"deviceToken": 1e999}',
        b"1",
        b"null",
    ]
    wrong = 0
    for item in hostile:
        answer = await api.post("/v1/heartbeats", data=b'{"heartbeats": [{"deviceToken": "a"}, ' + item + b"]}")
        told = [one["status"] for one in answer.json.get("answers", [answer.json, answer.json])]
        wrong += told not in ([401, 400], [400, 400])
    table.row("hostile items of a fleet", tried=len(hostile), got_through=wrong)


async def test_clients_that_read_no_answers_fill_no_memory(target: Target, table: Table) -> None:
    grant = await target.vendor.license()
    line = b"GET /v1/devices HTTP/1.1\r\nHost: a\r\nAuthorization: License " + grant.key.encode() + b"\r\n\r\n"
    clients = 50 if WHOLE else 10
    before_kb = target.resident_kb
    async with crowd(target.port, clients) as wires:
        for wire in wires:
            wire.reader._limit = 1024  # type: ignore[attr-defined] # the client's own buffer
            wire.writer.write(line * 20_000)
        await asyncio.sleep(1)
        grown_kb = target.resident_kb - before_kb
        grant = await target.vendor.license()
        assert (await target.api.validate(grant.key)).status == 200
    table.row(
        "answers that nobody reads",
        tried=clients,
        got_through=int(grown_kb > MOST_GROWTH_KB),
        note=f"{grown_kb} KiB grown",
    )

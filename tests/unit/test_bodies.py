"""Request bodies over real HTTP: whatever is sent, the answer is the value or a clear refusal, and nothing crashes."""

import asyncio
import gzip
import json
import math
import re
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from shared.runtime.lifecycle import PROTOCOL_OPTIONS
from shared.runtime.metrics import Metrics
from shared.web import bodies
from shared.web.bodies import MAX_BODY_BYTES, ShortText, Text, Timestamp, decode_json, parse_timestamp, read_json
from shared.web.endpoints import add_routes, json_response
from shared.web.problems import ProblemError
from shared.web.routes import Operation, Route
from tests.serving import Served, exchange

Client = TestClient[web.Request, web.Application]


class Place(msgspec.Struct, frozen=True, kw_only=True):
    city: str


class Activate(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    finger_print: Text
    nonce: ShortText | None = None
    timestamp: Timestamp = 0
    count: int = 0
    ratio: float = 0.0
    tags: dict[str, int] = {}
    place: Place | None = None


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    a: int = 0


CHARACTERS = st.characters(exclude_categories=["Cs"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(CHARACTERS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(CHARACTERS), inner, max_size=3),
    max_leaves=8,
)
DECODER = msgspec.json.Decoder(Activate)
STRICT = msgspec.json.Decoder(Strict)


async def echo(request: web.Request) -> web.Response:
    return json_response(msgspec.json.encode(await read_json(request, DECODER)))


async def strict(request: web.Request) -> web.Response:
    return json_response(msgspec.json.encode(await read_json(request, STRICT)))


def application() -> web.Application:
    app = web.Application(handler_args=PROTOCOL_OPTIONS)
    metrics = Metrics(CollectorRegistry())
    add_routes(app, metrics, [Route(Operation("POST", "/echo", "echo"), echo)])
    add_routes(app, metrics, [Route(Operation("POST", "/strict", "strict"), strict)])
    return app


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with TestClient(TestServer(application())) as opened:
        yield opened


async def refusal(client: Client, data: Any, **headers: str) -> tuple[int, str, str]:
    async with client.post("/echo", data=data, headers=headers) as response:
        document = await response.json(content_type="application/problem+json")
        return response.status, document["code"], document["detail"]


async def slices(data: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]
        await asyncio.sleep(0)


async def test_a_sound_body_is_decoded_whatever_its_content_type(client: Client) -> None:
    data = b'{"fingerPrint":"caf\xc3\xa9 \\ud83d\\ude00","unknown":[1]}'
    for content_type in ("application/json", "text/plain", "application/x-www-form-urlencoded"):
        async with client.post("/echo", data=data, headers={"Content-Type": content_type}) as response:
            assert response.status == 200
            assert (await response.json())["fingerPrint"] == "café 😀"


async def test_a_body_that_arrives_in_pieces_is_decoded(client: Client) -> None:
    data = json.dumps({"fingerPrint": "f", "unknown": "x" * 50_000}).encode()

    async with client.post("/echo", data=slices(data)) as response:
        assert response.status == 200


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (b"", "The body is empty."),
        (b" \n", "The body is empty."),
        (b"{", "not well-formed JSON"),
        (b'{"fingerPrint":"f"', "not well-formed JSON"),
        (b'{"fingerPrint":"f"} trailing', "not well-formed JSON"),
        (b"{'fingerPrint':'f'}", "not well-formed JSON"),
        (b'\xef\xbb\xbf{"fingerPrint":"f"}', "not well-formed JSON"),
        (b'{"fingerPrint":"f","ratio":NaN}', "not well-formed JSON"),
        (b'{"fingerPrint":"f","ratio":-Infinity}', "not well-formed JSON"),
        (b'{"fingerPrint":"raw\x00nul"}', "not well-formed JSON"),
        (b'{"fingerPrint":"\\ud800"}', "not well-formed JSON"),
        (b'{"fingerPrint":"\\udc00x"}', "not well-formed JSON"),
        (b'{"fingerPrint":"\\ud800\\ud800"}', "not well-formed JSON"),
        (b'{"fingerPrint":"f","tags":{"\\ud800":1}}', "not well-formed JSON"),
        (b'{"fingerPrint":"\xff"}', "not valid UTF-8"),
        (b'{"fingerPrint":"\xed\xa0\x80"}', "not valid UTF-8"),
        (b'{"fingerPrint":"f","unknown":"\xff"}', "not valid UTF-8"),
        (b"\xff\xfe{\x00}\x00", "not valid UTF-8"),
        (b"[]", "not a JSON object"),
        (b"1", "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"true", "not a JSON object"),
        (b"[" * 10_000, "not a JSON object"),
        (b'{"fingerPrint":"f","unknown":' + b"[" * 10_000 + b"]" * 10_000 + b"}", "nested too deeply"),
        (b'{"fingerPrint":"f","unknown":' + b'{"a":' * 10_000, "nested too deeply"),
        (b"{}", "The field `fingerPrint` is missing."),
        (b'{"fingerPrint":"f","place":{}}', "The field `place.city` is missing."),
        (b'{"fingerPrint":7}', "The field `fingerPrint` has the wrong type."),
        (b'{"fingerPrint":null}', "The field `fingerPrint` has the wrong type."),
        (b'{"fingerPrint":"f","count":"7"}', "The field `count` has the wrong type."),
        (b'{"fingerPrint":"f","count":1.5}', "The field `count` has the wrong type."),
        (b'{"fingerPrint":"f","timestamp":true}', "The field `timestamp` has the wrong type."),
        (b'{"fingerPrint":"f","tags":{"SECRET":"x"}}', "The field `tags[...]` has the wrong type."),
        (b'{"fingerPrint":"f","place":{"city":[]}}', "The field `place.city` has the wrong type."),
        (b'{"fingerPrint":""}', "The value of the field `fingerPrint` is not accepted."),
        (b'{"fingerPrint":"a\\u0000"}', "The value of the field `fingerPrint` is not accepted."),
        (b'{"fingerPrint":"SECRET\\n"}', "The value of the field `fingerPrint` is not accepted."),
        (b'{"fingerPrint":"\xc2\x85"}', "The value of the field `fingerPrint` is not accepted."),
        (b'{"fingerPrint":"' + b"x" * 257 + b'"}', "The value of the field `fingerPrint` is not accepted."),
        (b'{"fingerPrint":"f","nonce":"' + b"x" * 65 + b'"}', "The value of the field `nonce` is not accepted."),
        (b'{"fingerPrint":"f","count":' + b"9" * 60_000 + b"}", "The value of the field `count` is not accepted."),
        (b'{"fingerPrint":"f","count":1e999}', "The value of the field `count` is not accepted."),
        (b'{"fingerPrint":"f","ratio":1e999}', "The value of the field `ratio` is not accepted."),
        (b'{"fingerPrint":"f","timestamp":' + b"9" * 6_000 + b"}", "The value of the field `timestamp` is not acc"),
    ],
)
async def test_a_bad_body_is_refused_with_what_is_wrong(client: Client, data: bytes, detail: str) -> None:
    status, code, told = await refusal(client, data)

    assert (status, code) == (400, "REQUEST_INVALID")
    assert detail in told
    assert "SECRET" not in told


async def test_an_unknown_field_that_is_forbidden_is_refused_without_repeating_its_name(client: Client) -> None:
    async with client.post("/strict", data=b'{"SECRET":1}') as response:
        document = await response.json(content_type="application/problem+json")

    assert (response.status, document["code"]) == (400, "REQUEST_INVALID")
    assert document["detail"].startswith("The body has a field that is not known.")


def padded(size: int) -> bytes:
    head, tail = b'{"fingerPrint":"f","pad":"', b'"}'
    return head + b"x" * (size - len(head) - len(tail)) + tail


@pytest.mark.parametrize(
    "data",
    [
        b'{"fingerPrint":"a","fingerPrint":"b"}',
        b'{"fingerPrint":"a" , "fingerPrint" : "a"}',
        b'{"fingerPrint":"a","\\u0066ingerPrint":"b"}',
        b'{"fingerPrint":"a:b","count":1,"count":2}',
        b'{"fingerPrint":"a","x":{"y":":"},"x":null}',
        b'{"fingerPrint":"a\\"","x":1,"x":1}',
        b'{"":1,"fingerPrint":"a:","":1}',
    ],
)
async def test_a_field_that_stands_there_twice_is_refused(client: Client, data: bytes) -> None:
    status, code, detail = await refusal(client, data)

    assert (status, code) == (400, "REQUEST_INVALID")
    assert "twice" in detail


@given(st.dictionaries(st.text(CHARACTERS), JSON, max_size=5), st.booleans(), st.sampled_from([None, 2]))
def test_no_field_is_taken_for_another(members: dict[str, Any], ascii: bool, indent: int | None) -> None:
    """Bodies as `json.dumps` writes them, names and values of any characters; then with one of their fields again."""
    body = {"fingerPrint": "a", **members, "nonce": None, "timestamp": 0, "count": 0, "ratio": 0, "tags": {}}
    body |= {"place": None, "fingerPrint": "a"}
    text = json.dumps(body, ensure_ascii=ascii, indent=indent)
    assert decode_json(text.encode(), DECODER).finger_print == "a"
    for name in members:
        again = f"{text.rstrip()[:-1]}, {json.dumps(name)}: {json.dumps(body[name])}}}"
        with pytest.raises(ProblemError):
            decode_json(again.encode(), DECODER)


async def test_64_kib_are_read_and_one_byte_more_is_not(client: Client) -> None:
    async with client.post("/echo", data=padded(MAX_BODY_BYTES)) as response:
        assert response.status == 200
    status, code, detail = await refusal(client, padded(MAX_BODY_BYTES + 1))

    assert (status, code) == (413, "REQUEST_TOO_LARGE")
    assert str(MAX_BODY_BYTES) in detail


async def test_a_stream_of_unknown_length_is_cut_at_the_same_size(client: Client) -> None:
    async with client.post("/echo", data=slices(padded(MAX_BODY_BYTES))) as response:
        assert response.status == 200

    assert (await refusal(client, slices(padded(MAX_BODY_BYTES + 1))))[0] == 413


async def test_a_declared_size_alone_is_enough_to_be_refused(client: Client) -> None:
    answered = await raw(client, b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999\r\n\r\n{")

    assert answered.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "GZIP", "unheard-of"])
async def test_a_compressed_body_is_refused_and_never_inflated(client: Client, encoding: str) -> None:
    bomb = gzip.compress(b" " * 50_000_000)

    status, code, detail = await refusal(client, bomb, **{"Content-Encoding": encoding})

    assert (status, code) == (400, "REQUEST_INVALID")
    assert "Content-Encoding" in detail


async def test_the_identity_encoding_is_no_encoding(client: Client) -> None:
    async with client.post("/echo", data=b'{"fingerPrint":"f"}', headers={"Content-Encoding": "identity"}) as response:
        assert response.status == 200


async def test_a_body_that_does_not_arrive_is_refused_in_time(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_TIMEOUT_S", 0.05)

    answered = await raw(client, b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 20\r\n\r\n{")

    assert answered.startswith(b"HTTP/1.1 400 ")
    assert b"did not arrive" in answered


@pytest.mark.parametrize("pause_s", [0.0, 0.1])
async def test_a_broken_chunk_is_refused(client: Client, monkeypatch: pytest.MonkeyPatch, pause_s: float) -> None:
    monkeypatch.setattr(bodies, "BODY_TIMEOUT_S", 0.5)
    head = b"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"

    assert b" 400 " in (await raw(client, head, b"zz\r\n", pause_s=pause_s)).splitlines()[0]


async def test_a_client_that_leaves_in_the_middle_of_its_body_harms_nobody(client: Client) -> None:
    _, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 20\r\n\r\n{")
    await asyncio.sleep(0.05)
    writer.transport.abort()

    async with client.post("/echo", data=b'{"fingerPrint":"f"}') as response:
        assert response.status == 200


async def test_a_long_body_that_waits_for_its_reader_is_read_whole_and_so_is_what_follows() -> None:
    """The connection takes no more than it may keep, and goes on when it is read."""
    size = 4_000_000
    head = f"POST /slow HTTP/1.1\r\nHost: h\r\nContent-Length: {size}\r\n".encode()

    async with slow_reader(size) as server:
        answered = await exchange(
            server, head + b"\r\n" + padded(size) + head + b"Connection: close\r\n\r\n" + padded(size)
        )

    assert answered.count(b"HTTP/1.1 200 OK") == answered.count(f"[{size},true]".encode()) == 2


async def test_bodies_that_come_all_at_once_are_answered_in_their_order() -> None:
    """More of them than a connection keeps."""
    count = 200
    bodies = [b'{"fingerPrint":"f%d"}' % number for number in range(count)]
    heads = [b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n" % len(body) for body in bodies]
    heads[-1] += b"Connection: close\r\n"

    async with Served(application()) as server:
        answered = await exchange(server, b"".join(b"%b\r\n%b" % one for one in zip(heads, bodies, strict=True)))

    assert re.findall(rb'"fingerPrint":"f(\d+)"', answered) == [b"%d" % number for number in range(count)]


def slow_reader(size: int) -> Served:
    """Reads a body of that size only when much of it has come; tells how long it was, and if it was kept waiting."""

    async def slow(request: web.Request) -> web.Response:
        await asyncio.sleep(0.3)
        waits = request.protocol._reading_paused
        data = await bodies._read_stream(request, size)
        return json_response(msgspec.json.encode([len(data), waits]))

    app = web.Application()
    app.router.add_post("/slow", slow)
    return Served(app)


async def raw(client: Client, *pieces: bytes, pause_s: float = 0.0) -> bytes:
    reader, writer = await asyncio.open_connection(client.host, client.port)
    try:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(pause_s)
        return await asyncio.wait_for(reader.read(4096), 5)
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (1_790_000_000, 1_790_000_000.0),
        (1_790_000_000.25, 1_790_000_000.25),
        (1_790_000_000_250, 1_790_000_000.25),
        (100_000_000_000, 100_000_000.0),
        (99_999_999_999, 99_999_999_999.0),
        (0, 0.0),
        ("2026-09-21T14:13:20Z", 1_790_000_000.0),
        ("2026-09-21t14:13:20.250z", 1_790_000_000.25),
        ("2026-09-21 16:13:20+02:00", 1_790_000_000.0),
        ("2026-09-21T14:13:20.123456789Z", 1_790_000_000.123456),
        ("2016-12-31T23:59:60Z", 1_483_228_799.0),
    ],
)
def test_a_timestamp_is_seconds_milliseconds_or_rfc_3339(value: float | str, seconds: float) -> None:
    assert parse_timestamp(value) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        -math.inf,
        -1,
        1e300,
        10**400,
        -(10**400),
        1_790_000_000_000_000,
        True,
        "",
        "1790000000",
        "2026-09-21",
        "2026-09-21T14:13:20",
        "2026-02-30T00:00:00Z",
        "2026-09-21T24:13:20Z",
        "2026-09-21T14:13:20+99:00",
        "0001-01-01T00:00:00+14:00",
        "２０２６-09-21T14:13:20Z",
        "2026-09-21T14:13:20Z\n",
        "20260921T141320Z",
    ],
)
def test_what_is_no_timestamp_is_none(value: float | str) -> None:
    assert parse_timestamp(value) is None

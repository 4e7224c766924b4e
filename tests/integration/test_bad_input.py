"""Bad input to every endpoint: a problem document that says what to mend, never a 5xx, and nothing changes."""

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest

from tests.platform import Answer, Grant, Platform, license_header, snapshot

pytest_plugins = ["tests.platform"]

Body = dict[str, Any]
INVALID = (400, "REQUEST_INVALID")
TOO_LARGE = (413, "REQUEST_TOO_LARGE")
KEY_INVALID = (401, "LICENSE_KEY_INVALID")
TOKEN_INVALID = (401, "TOKEN_INVALID")
NOT_FOUND = (404, "DEVICE_NOT_FOUND")
SKEWED = (401, "TIMESTAMP_SKEWED")

PATHS = ["/v1/activate", "/v1/validate", "/v1/deactivate", "/api/deactivate", "/v1/reset", "/v1/heartbeat"]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A license with a seat taken and one free, and for each path a body that would change something, or be a yes."""

    platform: Platform
    grant: Grant
    bodies: dict[str, Body]


@pytest.fixture(scope="module")
async def lasting_stage(platform: Platform) -> Stage:
    vendor = await platform.vendor()
    grant = await vendor.license(seats=2)
    seat = (await platform.api.activate(grant.key)).ok(201)
    release = {"deviceId": seat["deviceId"], "licenseKey": grant.key, "generation": 1}
    bodies: dict[str, Body] = {
        "/v1/activate": {
            "licenseKey": grant.key,
            "fingerprint": "another",
            "timestamp": int(time.time()),
            "nonce": "n",
            "name": "a name",
        },
        "/v1/validate": {"key": grant.key, "fingerprint": "laptop"},
        "/v1/deactivate": release,
        "/api/deactivate": release,
        "/v1/reset": release,
        "/v1/heartbeat": {"deviceToken": seat["deviceToken"], "nonce": "n", "validUntil": 0, "leave": True},
    }
    return Stage(platform=platform, grant=grant, bodies=bodies)


@pytest.fixture
async def stage(lasting_stage: Stage) -> AsyncIterator[Stage]:
    """The stage, for a test that has to leave it as it was."""
    before = await snapshot(lasting_stage.platform.database)
    yield lasting_stage
    assert await snapshot(lasting_stage.platform.database) == before


async def refused(stage: Stage, path: str, data: bytes, headers: dict[str, str] | None = None) -> tuple[int, str]:
    """How the request was refused. The stage's end shows that it changed nothing."""
    return (await stage.platform.api.post(path, data=data, headers=headers)).refusal


# --- Bodies that are no JSON object -----------------------------------------------------------------------------

NO_OBJECT: dict[str, tuple[bytes, tuple[int, str]]] = {
    "empty": (b"", INVALID),
    "blank": (b" \r\n\t", INVALID),
    "text": (b"hello", INVALID),
    "cut off": (b'{"licenseKey": "', INVALID),
    "a comma too many": (b'{"a": 1,}', INVALID),
    "two objects": (b"{}{}", INVALID),
    "single quotes": (b"{'a': 1}", INVALID),
    "a form": (b"licenseKey=x&fingerprint=y", INVALID),
    "null": (b"null", INVALID),
    "true": (b"true", INVALID),
    "a number": (b"7", INVALID),
    "a text": (b'"text"', INVALID),
    "an array": (b"[]", INVALID),
    "an array with an object": (b"[{}]", INVALID),
    "NaN": (b'{"timestamp": NaN}', INVALID),
    "Infinity": (b'{"timestamp": -Infinity}', INVALID),
    "a byte order mark": (b"\xef\xbb\xbf{}", INVALID),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), INVALID),
    "invalid UTF-8": (b'{"a": "\xff\xfe"}', INVALID),
    "overlong UTF-8": (b'{"a": "\xc0\xaf"}', INVALID),
    "an encoded surrogate": (b'{"a": "\xed\xa0\x80"}', INVALID),
    "a bare NUL": (b"\x00", INVALID),
    "NULs": (b"\x00" * 1000, INVALID),
    "deep arrays": (b"[" * 10_000, INVALID),
    "deep arrays, closed": (b"[" * 10_000 + b"]" * 10_000, INVALID),
    "deep objects": (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, INVALID),
    "too large": (b"{" + b" " * 65_536 + b"}", TOO_LARGE),
    "far too large": (b"x" * 2_000_000, TOO_LARGE),
}


@pytest.mark.parametrize("case", NO_OBJECT)
async def test_a_body_that_is_no_object_of_ours_is_refused(stage: Stage, case: str) -> None:
    data, expected = NO_OBJECT[case]

    assert {path: await refused(stage, path, data) for path in PATHS} == dict.fromkeys(PATHS, expected)


@pytest.mark.parametrize("path", PATHS)
async def test_a_body_with_deep_nesting_beside_good_fields_is_refused(stage: Stage, path: str) -> None:
    good = json.dumps(stage.bodies[path])[:-1].encode()

    for deep in (b"[" * 10_000 + b"]" * 10_000, b'{"a":' * 6_000 + b"1" + b"}" * 6_000, b"[" * 10_000):
        assert await refused(stage, path, good + b', "extra": ' + deep + b"}") == INVALID


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "GZIP", "identity, gzip", "nonsense"])
async def test_a_compressed_body_is_refused_unread(stage: Stage, path: str, encoding: str) -> None:
    data = gzip.compress(json.dumps(stage.bodies[path]).encode())

    assert await refused(stage, path, data, {"Content-Encoding": encoding}) == INVALID


async def test_a_small_body_that_would_grow_large_is_refused(stage: Stage) -> None:
    bomb = gzip.compress(b" " * 50_000_000)

    assert len(bomb) < 64 * 1024
    for path in PATHS:
        assert await refused(stage, path, bomb, {"Content-Encoding": "gzip"}) == INVALID


@pytest.mark.parametrize("path", PATHS)
async def test_a_large_body_without_a_declared_length_is_refused(stage: Stage, path: str) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 4096

    async with (
        aiohttp.ClientSession() as session,
        session.post(stage.platform.api.url + path, data=chunks()) as response,
    ):
        assert Answer(response.status, response.headers, await response.read()).refusal == TOO_LARGE


# --- Fields -----------------------------------------------------------------------------------------------------

NOT_TEXT = {
    "true": b"true",
    "a list": b'["x"]',
    "an object": b'{"a": "x"}',
    "a number": b"7",
    "a large number": b"1" + b"0" * 400,
    "a float out of range": b"1e400",
}
NOT_A_NUMBER = {"true": b"true", "a list": b"[1]", "an object": b'{"a": 1}'}
BAD_TEXTS = {
    "empty": b'""',
    "NUL": b'"\\u0000"',
    "NUL inside": b'"abcdefgh\\u0000ijklmnop"',
    "a newline": b'"abcdefgh\\nijklmnop"',
    "an escape": b'"abcdefgh\\u001bijklmnop"',
    "a lone high surrogate": b'"abcdefghijklmnop\\ud800"',
    "a lone low surrogate": b'"abcdefghijklmnop\\udc00"',
    "surrogates the wrong way round": b'"abcdefgh\\udc00\\ud800"',
    "too long": b'"' + b"abcdefgh" * 600 + b'"',
}
BAD_NUMBERS = {
    "a text": b'"soon abcdefgh"',
    "an empty text": b'""',
    "negative": b"-1",
    "out of every range": b"1e400",
    "negative and out of every range": b"-1e400",
    "four hundred digits": b"1" + b"0" * 400,
    "five thousand digits": b"9" * 5_000,
    "forty thousand digits": b"9" * 40_000,
}


@dataclass(frozen=True)
class Field:
    """A field, what is no value of its type, what is no good value, and what else than 400 says so."""

    path: str
    name: str
    not_of_its_type: dict[str, bytes]
    bad: dict[str, bytes]
    also: tuple[int, str] = INVALID
    required: bool = True

    def __str__(self) -> str:
        return f"{self.path} {self.name}"


FIELDS = [
    Field("/v1/activate", "licenseKey", NOT_TEXT, BAD_TEXTS, KEY_INVALID),
    Field("/v1/activate", "fingerprint", NOT_TEXT, BAD_TEXTS),
    Field("/v1/activate", "timestamp", NOT_A_NUMBER, BAD_NUMBERS),
    Field("/v1/activate", "nonce", NOT_TEXT, BAD_TEXTS, required=False),
    Field("/v1/activate", "name", NOT_TEXT, BAD_TEXTS, required=False),
    Field("/v1/validate", "key", NOT_TEXT, BAD_TEXTS, KEY_INVALID),
    Field("/v1/validate", "fingerprint", NOT_TEXT, BAD_TEXTS, required=False),
    *(
        field
        for path in ("/v1/deactivate", "/api/deactivate", "/v1/reset")
        for field in (
            Field(path, "licenseKey", NOT_TEXT, BAD_TEXTS, KEY_INVALID),
            Field(path, "deviceId", NOT_TEXT, BAD_TEXTS, NOT_FOUND),
            Field(path, "generation", NOT_A_NUMBER, BAD_NUMBERS | {"a fraction": b"1.5"}, NOT_FOUND, required=False),
        )
    ),
    Field("/v1/heartbeat", "deviceToken", NOT_TEXT, BAD_TEXTS, TOKEN_INVALID),
    Field("/v1/heartbeat", "validUntil", NOT_A_NUMBER, BAD_NUMBERS, required=False),
    Field("/v1/heartbeat", "nonce", NOT_TEXT, {"too long": BAD_TEXTS["too long"]}, required=False),
    Field("/v1/heartbeat", "leave", {"a text": b'"true"', "one": b"1", "null": b"null"}, {}, required=False),
]


def with_field(body: Body, name: str, raw: bytes) -> bytes:
    """The body with one field's value written as it is given."""
    others = [json.dumps({key: value})[1:-1].encode() for key, value in body.items() if key != name]
    return b"{" + b", ".join([*others, json.dumps(name).encode() + b": " + raw]) + b"}"


@pytest.mark.parametrize("field", FIELDS, ids=str)
async def test_a_value_of_another_type_is_refused_by_the_fields_name(stage: Stage, field: Field) -> None:
    wrong = field.not_of_its_type | ({"null": b"null"} if field.required and field.name != "licenseKey" else {})

    for what, raw in wrong.items():
        answer = await stage.platform.api.post(field.path, data=with_field(stage.bodies[field.path], field.name, raw))

        assert answer.refusal in (INVALID, field.also), what
        assert answer.status != 400 or f"`{field.name}`" in answer.json["detail"] or len(raw) > 300, what


@pytest.mark.parametrize("field", FIELDS, ids=str)
async def test_a_bad_value_is_refused_and_not_repeated(stage: Stage, field: Field) -> None:
    for what, raw in field.bad.items():
        answer = await stage.platform.api.post(field.path, data=with_field(stage.bodies[field.path], field.name, raw))

        assert answer.refusal in (INVALID, field.also), what
        assert b"abcdefgh" not in answer.body, what


@pytest.mark.parametrize("field", [field for field in FIELDS if field.required], ids=str)
async def test_a_missing_field_is_named(stage: Stage, field: Field) -> None:
    body = {name: value for name, value in stage.bodies[field.path].items() if name != field.name}

    answer = await stage.platform.api.post(field.path, body)

    assert answer.refusal == (TOKEN_INVALID if field.name == "deviceToken" else INVALID)
    assert f"`{field.name}`" in answer.json["detail"]


@pytest.mark.parametrize("path", PATHS)
async def test_a_field_written_twice_is_refused(stage: Stage, path: str) -> None:
    name = next(name for name in ("licenseKey", "key", "deviceToken") if name in stage.bodies[path])
    twice = json.dumps(stage.bodies[path])[:-1].encode() + b', "%s": "nobody-knows-this-one"}' % name.encode()

    assert await refused(stage, path, twice) == INVALID


async def test_the_largest_body_is_64_kib(stage: Stage) -> None:
    body = json.dumps(stage.bodies["/v1/validate"]).encode()

    answer = await stage.platform.api.post("/v1/validate", data=body + b" " * (65_536 - len(body)))

    assert answer.ok()["valid"] is True
    assert await refused(stage, "/v1/validate", body + b" " * (65_537 - len(body))) == TOO_LARGE


async def test_fields_that_are_not_known_are_passed_over(stage: Stage) -> None:
    body = stage.bodies["/v1/validate"] | {"sdk": {"name": "x", "version": [1, 2]}, "extra": None, "": "", "Key": "k"}

    assert (await stage.platform.api.post("/v1/validate", body)).ok()["valid"] is True


# --- Timestamps -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("off_s", [-301, 301, -86_400, 86_400 * 365])
@pytest.mark.parametrize("written", ["seconds", "fraction", "milliseconds", "RFC 3339"])
async def test_a_clock_too_far_off_is_told_the_right_time(stage: Stage, off_s: int, written: str) -> None:
    answer = await activate_at(stage.platform, stage.grant, time.time() + off_s, written)

    assert answer.refusal == SKEWED
    assert answer.json["retryable"] is True
    assert abs(datetime.fromisoformat(answer.json["serverTime"]) - datetime.now(UTC)) < timedelta(seconds=5)


@pytest.mark.parametrize("off_s", [-290, 290])
@pytest.mark.parametrize("written", ["seconds", "fraction", "milliseconds", "RFC 3339"])
async def test_a_clock_that_is_a_little_off_is_good_enough(platform: Platform, off_s: int, written: str) -> None:
    grant = await (await platform.vendor()).license()

    (await activate_at(platform, grant, time.time() + off_s, written)).ok(201)


async def activate_at(platform: Platform, grant: Grant, moment_s: float, written: str) -> Answer:
    write: dict[str, Callable[[float], object]] = {
        "seconds": int,
        "fraction": float,
        "milliseconds": lambda seconds: int(seconds * 1000),
        "RFC 3339": lambda seconds: datetime.fromtimestamp(seconds, UTC).isoformat(),
    }
    return await platform.api.activate(grant.key, "another", timestamp=write[written](moment_s))


@pytest.mark.parametrize(
    "nonsense",
    ["now", "2026", "2026-02-30T00:00:00Z", "2026-01-01T00:00:00", "1767225600", "0x5f", 1e300, -1e9, 1e18, [], None],
)
async def test_a_timestamp_that_is_none_is_refused(stage: Stage, nonsense: object) -> None:
    answer = await stage.platform.api.activate(stage.grant.key, "another", timestamp=nonsense)

    assert answer.refusal == INVALID
    assert "`timestamp`" in answer.json["detail"]


# --- Paths, methods, languages ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/", "/v1/activate/", "/v2/activate", "/v1/nothing", "/admin", "/%00", "/%ff", "/a//b"]
)
async def test_an_unknown_path_is_not_found(platform: Platform, path: str) -> None:
    for method in ("GET", "POST", "DELETE", "PUT"):
        assert (await platform.api.ask(method, path)).refusal == (404, "NOT_FOUND")


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"])
@pytest.mark.parametrize("path", PATHS)
async def test_an_unknown_method_is_told_the_right_one(platform: Platform, method: str, path: str) -> None:
    answer = await platform.api.ask(method, path)

    assert answer.refusal == (405, "METHOD_NOT_ALLOWED")
    assert answer.headers["Allow"] == "OPTIONS, POST"


async def test_the_methods_of_other_paths_are_told_too(platform: Platform) -> None:
    for path, allowed in (
        ("/v1/devices", "GET, HEAD, OPTIONS"),
        ("/v1/devices/x", "DELETE, OPTIONS"),
        ("/.well-known/jwks.json", "GET, HEAD, OPTIONS"),
    ):
        answer = await platform.api.ask("POST", path)
        assert (*answer.refusal, answer.headers["Allow"]) == (405, "METHOD_NOT_ALLOWED", allowed)
        options = await platform.api.ask("OPTIONS", path)
        assert (options.status, options.headers["Allow"], options.body) == (204, allowed, b"")


CHINESE = {"zh": True, "zh-CN": True, "zh-TW,en;q=0.5": True, "en": False, "fr": False, "en,zh;q=0.9": False}


@pytest.mark.parametrize("language", CHINESE)
async def test_a_refusal_speaks_the_clients_language(stage: Stage, language: str) -> None:
    headers = {"Accept-Language": language}
    answers = [await stage.platform.api.post(path, data=b"{", headers=headers) for path in PATHS]
    answers.append(await stage.platform.api.ask("GET", "/v1/nothing", headers=headers))
    answers.append(await stage.platform.api.ask("GET", "/v1/devices", headers=headers))

    for answer in answers:
        assert answer.refusal[0] in (400, 401, 404)
        for text in (answer.json["title"], answer.json["detail"]):
            assert any("\u4e00" <= letter <= "\u9fff" for letter in text) is CHINESE[language], text
        assert answer.headers["Content-Language"] == ("zh" if CHINESE[language] else "en")


@pytest.mark.parametrize(
    "request_text",
    [
        b"FROB /v1/activate HTTP/1.1\r\nHost: x\r\n\r\n",
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03",
        b"POST /v1/activate HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n",
        b"POST /v1/activate HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/activate HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        b"POST /v1/activate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 9_000 + b"\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_refused_and_the_next_request_is_served(
    platform: Platform, request_text: bytes
) -> None:
    host, _, port = platform.api.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request_text)
    status_line = await asyncio.wait_for(reader.readline(), 5)
    writer.close()

    assert status_line.split()[1] == b"400"
    assert (await platform.api.ask("GET", "/.well-known/jwks.json")).status == 200


async def test_a_client_that_goes_away_in_the_middle_changes_nothing(stage: Stage) -> None:
    host, _, port = stage.platform.api.url.removeprefix("http://").partition(":")
    for path in PATHS:
        _, writer = await asyncio.open_connection(host, int(port))
        body = json.dumps(stage.bodies[path]).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body) + 1}\r\n\r\n".encode()
        writer.write(head + body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    assert (await stage.platform.api.devices(stage.grant.key)).ok()["used"] == 1


@pytest.mark.parametrize("device", ["%00", "%ff%fe", "%ed%a0%80", "..%2f..", "x" * 4_000, "'; DROP TABLE device; --"])
async def test_a_device_id_that_is_none_is_not_found(stage: Stage, device: str) -> None:
    answer = await stage.platform.api.ask("DELETE", f"/v1/devices/{device}", headers=license_header(stage.grant.key))

    assert answer.refusal == NOT_FOUND

"""What the client takes for an answer, what for a refusal, and what for nothing."""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from seatkeeper.api import Api
from seatkeeper.errors import Refused, TransportError, Unreachable
from seatkeeper.transport import Request, Response
from tests.unit.client.played import PlayedClock
from tests.unit.test_signing_answer_mac import by_the_book

TOKEN = "skd1.token"
FULL = {"code": "DEVICE_LIMIT_EXCEEDED", "title": "Full", "detail": "Free one.", "retryable": False, "limit": 3}
BUSY = {"code": "OVERLOADED", "title": "Busy", "detail": "Wait.", "retryable": True, "retryAfter": 4}
WAITING = {"deviceId": "d", "state": "pending", "retryAfter": 30}
Script = list[Response | TransportError]


def answer(status: int, members: object, **headers: str) -> Response:
    return Response(status=status, headers=headers, body=json.dumps(members).encode())


class Line:
    """Answers by a script."""

    def __init__(self, *script: Response | TransportError) -> None:
        self._script = list(script)
        self.requests: list[Request] = []

    async def send(self, request: Request) -> Response:
        self.requests.append(request)
        outcome = self._script.pop(0)
        if isinstance(outcome, TransportError):
            raise outcome
        return outcome

    async def close(self) -> None:
        pass


def api(line: Line, clock: PlayedClock | None = None) -> Api:
    return Api(line, clock=clock or PlayedClock(), random=lambda: 0.5, language="zh")


async def test_the_same_bytes_go_out_until_an_answer_comes() -> None:
    clock = PlayedClock()
    start_s = clock.monotonic_s()
    line = Line(
        TransportError("reset", kind="reset"),
        answer(503, BUSY),
        Response(status=502, headers={"retry-after": "2"}, body=b"<html>Bad gateway</html>"),
        Response(status=200, headers={}, body=b"<html>Log in to this Wi-Fi</html>"),
        answer(202, WAITING),
    )
    asked = api(line, clock)
    waiting = await asked.activate(b'{"licenseKey":"k"}')
    assert waiting.device_id == "d"
    assert {(request.body, request.path) for request in line.requests} == {(b'{"licenseKey":"k"}', "/v1/activate")}
    assert (asked.attempts, asked.maybe_heard) == (5, 5)
    assert clock.monotonic_s() - start_s == pytest.approx(0.25 + 4 + 0.5 + 2 + 1 + 2)
    assert line.requests[0].headers["Accept-Language"] == "zh"


async def test_a_refusal_is_raised_at_once_with_all_that_it_says() -> None:
    line = Line(answer(403, FULL))
    with pytest.raises(Refused, match=r"Free one\.") as raised:
        await api(line).activate(b"{}")
    refused = raised.value
    assert (refused.code, refused.status, refused.members["limit"]) == ("DEVICE_LIMIT_EXCEEDED", 403, 3)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"code": 7}', b"\xff", b'{"error": "not found"}'], ids=repr)
@pytest.mark.parametrize("status", [301, 404, 403, 511])
async def test_what_others_say_in_between_is_no_answer(status: int, body: bytes) -> None:
    with pytest.raises(Unreachable, match="not the license server's"):
        await api(Line(Response(status=status, headers={}, body=body))).activate(b"{}", attempts=1)


async def test_tries_that_never_left_are_not_counted_as_heard() -> None:
    asked = api(Line(TransportError("no name", kind="dns", sent=False)))
    with pytest.raises(Unreachable):
        await asked.activate(b"{}", attempts=1)
    assert (asked.attempts, asked.maybe_heard) == (1, 0)


def genuine(members: Mapping[str, Any]) -> dict[str, Any]:
    whole = {"deviceId": "d", "generation": 1, "serverTime": "2026-11-22T10:06:06Z", "nonce": "n", **members}
    return whole | {"mac": by_the_book(TOKEN, whole)}


LOST = genuine({"code": "LEASE_LOST", "reason": "user", "retryable": False})
ALIVE = genuine({"state": "active", "nextHeartbeatIn": 60})


async def test_a_heartbeats_answers_are_believed_by_their_mac() -> None:
    line = Line(answer(200, ALIVE), answer(410, LOST), answer(401, {"code": "TOKEN_INVALID", "retryable": False}))
    asked = api(line)
    alive = await asked.heartbeat(TOKEN, device_id="d", nonce="n", counter=1, version=None)
    assert alive.next_heartbeat_in == 60
    assert json.loads(line.requests[0].body or b"") == {"deviceToken": TOKEN, "nonce": "n", "counter": 1}
    with pytest.raises(Refused, match="LEASE_LOST"):
        await asked.heartbeat(TOKEN, device_id="d", nonce="n")
    with pytest.raises(Refused, match="TOKEN_INVALID"):
        await asked.heartbeat(TOKEN, device_id="d", nonce="n")


@pytest.mark.parametrize(
    ("status", "forged"),
    [
        (200, ALIVE | {"mac": "x"}),
        (200, ALIVE | {"nextHeartbeatIn": 61}),
        (200, genuine({"state": "active", "nonce": "an older one"})),
        (200, genuine({"state": "active", "deviceId": "another"})),
        (200, {name: value for name, value in ALIVE.items() if name != "mac"}),
        (410, LOST | {"code": "LICENSE_REVOKED"}),
        (403, {"code": "LICENSE_REVOKED", "detail": "by nobody"}),
        (401, {"code": "LICENSE_KEY_INVALID"}),
    ],
)
async def test_a_heartbeats_answer_that_is_not_genuine_is_none(status: int, forged: dict[str, Any]) -> None:
    with pytest.raises(Unreachable, match="not the license server's own"):
        await api(Line(answer(status, forged))).heartbeat(TOKEN, device_id="d", nonce="n", attempts=1)


@pytest.mark.parametrize("status", [200, 401, 403])
async def test_a_no_is_an_answer_to_whether_a_key_is_valid(status: int) -> None:
    validity = await api(Line(answer(status, {"valid": False, "code": "X", "title": "No"}))).validate("key")
    assert (validity.valid, validity.code) == (False, "X")


async def test_a_refusal_without_valid_is_never_a_no() -> None:
    with pytest.raises(Refused, match="IP_NOT_ALLOWED"):
        await api(Line(answer(403, {"code": "IP_NOT_ALLOWED", "retryable": False}))).validate("key")
    with pytest.raises(Unreachable):
        await api(Line(answer(429, BUSY | {"valid": False}))).validate("key", attempts=1)


async def test_all_pages_of_devices_are_one() -> None:
    device = {"name": "", "fingerprint": "f", "state": "active", "generation": 1}
    pages = [
        {"limit": 3, "used": 2, "devices": [device | {"deviceId": "a"}], "next": "a"},
        {"limit": 3, "used": 2, "devices": [device | {"deviceId": "b"}]},
    ]
    line = Line(*[answer(200, page) for page in pages])
    found = await api(line).devices("key", states=["active"])
    assert [one.device_id for one in found.devices] == ["a", "b"]
    assert [request.path for request in line.requests] == [
        "/v1/devices?state=active&limit=500",
        "/v1/devices?state=active&limit=500&after=a",
    ]
    assert {request.headers["Authorization"] for request in line.requests} == {"License key"}


async def test_the_servers_time_is_told_by_any_answer_and_its_nodes_by_those_that_have_them() -> None:
    dated = {"date": "Sun, 22 Nov 2026 10:06:06 GMT"}
    line = Line(answer(404, {}, **dated), answer(404, {}), answer(200, {"nodes": []}))
    asked = api(line)
    assert await asked.server_time() == 1795341966
    assert await asked.nodes() is None
    assert await asked.nodes() == {"nodes": []}


Call = Callable[[Api], Awaitable[object]]


@pytest.mark.parametrize(
    ("call", "path", "body"),
    [
        (lambda a: a.deactivate("d", "k", 2), "/v1/deactivate", {"deviceId": "d", "licenseKey": "k", "generation": 2}),
        (lambda a: a.offline_return({"form": "f"}), "/v1/offline/return", {"receipt": {"form": "f"}}),
        (lambda a: a.delete_device("k", "a/b"), "/v1/devices/a%2Fb", None),
    ],
)
async def test_each_operation_says_what_the_api_knows(call: Call, path: str, body: object) -> None:
    line = Line(answer(200, {"success": True}))
    await call(api(line))
    (request,) = line.requests
    assert (request.path, json.loads(request.body or b"null")) == (path, body)


async def test_a_license_file_comes_as_it_is() -> None:
    file = b'{ "iss" : "a" }\n'
    line = Line(Response(status=201, headers={}, body=file))
    assert await api(line).offline_activate("key", {"form": "f"}, days=30) == file


GATEWAY = {"code": "InternalError", "message": "the backend is away"}
DEEP = b'{"code":"X","retryable":false,"a":' + b"[" * 100_000
GBK = b'{"code":"\xc7\xeb\xb5\xc7\xc2\xbc","retryable":false}'


@pytest.mark.parametrize("status", [403, 429, 500, 503])
async def test_a_gateways_own_json_is_no_refusal(status: int) -> None:
    with pytest.raises(Unreachable):
        await api(Line(answer(status, GATEWAY))).activate(b"{}", attempts=1)
    with pytest.raises(Unreachable):
        await api(Line(answer(status, GATEWAY))).heartbeat(TOKEN, device_id="d", nonce="n", attempts=1)


@pytest.mark.parametrize("body", [DEEP, GBK], ids=["too deep", "not UTF-8"])
@pytest.mark.parametrize("status", [200, 202, 403, 410, 503])
async def test_json_that_cannot_be_read_is_no_answer(status: int, body: bytes) -> None:
    def line() -> Line:
        return Line(Response(status=status, headers={}, body=body))

    with pytest.raises(Unreachable):
        await api(line()).activate(b"{}", attempts=1)
    with pytest.raises(Unreachable):
        await api(line()).heartbeat(TOKEN, device_id="d", nonce="n", attempts=1)


@pytest.mark.parametrize(
    ("status", "code", "detail"),
    [(401, "LICENSE_REVOKED", "TOKEN_INVALID"), (503, "LICENSE_REVOKED", ""), (500, "LEASE_LOST", "")],
)
async def test_a_refusal_without_a_mac_is_none_whatever_it_says(status: int, code: str, detail: str) -> None:
    forged = {"code": code, "detail": detail, "retryable": False, "reason": "idle"}
    with pytest.raises(Unreachable):
        await api(Line(answer(status, forged))).heartbeat(TOKEN, device_id="d", nonce="n", attempts=1)


async def test_what_is_sent_and_answered_shows_no_secret() -> None:
    granted = {
        "deviceId": "d",
        "state": "active",
        "generation": 1,
        "lease": "a.signed.lease",
        "validUntil": "2026-11-22T10:06:06Z",
        "deviceToken": TOKEN,
        "nextHeartbeatIn": 60,
        "limit": 1,
        "used": 1,
    }
    line = Line(answer(200, granted))
    activated = await api(line).activate(b'{"licenseKey":"the key"}')
    listing = Request(method="GET", path="/v1/devices", headers={"Authorization": "License the key"})
    shown = f"{activated} {line.requests} {listing} {answer(200, granted)}"
    assert not any(secret in shown for secret in ("the key", TOKEN, "signed"))

"""The API's operations, each as one method that tries again by the rules of `seatkeeper.retry`.

Rules:
- Every try of a call sends the same bytes, so that an outcome that was unknown is told by the next.
- An answer that cannot be read, or that a heartbeat's MAC does not stand behind, counts as none. A refusal is one where
  it says whether it is `retryable`, as the server's all do, and a gateway's own JSON does not.
- Keys travel in bodies and headers, never in paths.
"""

import random as system_random
from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from seatkeeper.clock import Clock
from seatkeeper.errors import Refused, TransportError
from seatkeeper.messages import Activated, Alive, Device, Devices, Members, Problem, ResetDone, Validity, Waiting
from seatkeeper.retry import Budget, repeated
from seatkeeper.signatures import answer_is_genuine
from seatkeeper.texts import Sentence
from seatkeeper.transport import Request, Response, Transport

DEADLINE_S = 30.0
PAGE = 500
_PASSING = frozenset({429, 500, 502, 503, 504})
_UNREADABLE = (ValueError, RecursionError)
_T = TypeVar("_T")


class Api:
    """Methods raise `Refused` and `Unreachable`. `timeout_s` is for a try, `deadline_s` for a call with its retries.

    Of all calls so far, `attempts` counts the tries, and `maybe_heard` those of which something may have reached the
    server.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        clock: Clock,
        language: str = "en",
        budget: Budget | None = None,
        random: Callable[[], float] = system_random.random,
        timeout_s: float = 10.0,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._headers = {"Accept-Language": language, "Accept": "application/json"}
        self.budget = budget or Budget()
        self._random = random
        self.timeout_s = timeout_s
        self._deadline_s = deadline_s
        self._server_time_s: float | None = None
        self.attempts = 0
        self.maybe_heard = 0

    async def activate(
        self, body: bytes, *, deadline_s: float | None = None, attempts: int | None = None
    ) -> Activated | Waiting:
        def read(response: Response) -> Activated | Waiting:
            if response.status == 202:
                return _decoded(response, Waiting)
            return msgspec.structs.replace(_decoded(response, Activated), created=response.status == 201)

        return await self._call("POST", "/v1/activate", body, read=read, deadline_s=deadline_s, attempts=attempts)

    async def heartbeat(
        self,
        token: str,
        *,
        device_id: str,
        nonce: str,
        leave: bool = False,
        deadline_s: float | None = None,
        attempts: int | None = None,
        **members: Any,
    ) -> Alive:
        """`members` are `counter`, `validUntil`, `version`; None is left out. A refusal that is raised is genuine, but
        for TOKEN_INVALID, of which nobody can give proof."""
        said = {"deviceToken": token, "nonce": nonce, "leave": leave or None, **members}

        def genuine(response: Response) -> None:
            if response.status in _PASSING or _is_of_unknown_token(response):
                return
            if not answer_is_genuine(token, _members(response), device_id=device_id, nonce=nonce):
                raise TransportError(Sentence("error.answer.not_own"), kind="malformed")

        def read(response: Response) -> Alive:
            return _decoded(response, Alive)

        return await self._call(
            "POST", "/v1/heartbeat", _body(said), read=read, check=genuine, deadline_s=deadline_s, attempts=attempts
        )

    async def validate(
        self,
        key: str,
        fingerprint: str | None = None,
        version: str | None = None,
        *,
        attempts: int | None = None,
    ) -> Validity:
        """What the server says of the key; a no (401, 403) is an answer too."""
        body = _body({"key": key, "fingerprint": fingerprint, "version": version})

        def read(response: Response) -> Validity:
            if response.status >= 400 and b'"valid"' not in response.body:
                raise refusal(response)
            return _decoded(response, Validity)

        return await self._call("POST", "/v1/validate", body, read=read, noes=(401, 403), attempts=attempts)

    async def deactivate(
        self, device_id: str, license_key: str, generation: int | None = None, *, attempts: int | None = None
    ) -> None:
        body = _body({"deviceId": device_id, "licenseKey": license_key, "generation": generation})
        await self._call("POST", "/v1/deactivate", body, read=_members, attempts=attempts)

    async def reset(
        self, device_id: str, license_key: str, generation: int | None = None, *, attempts: int | None = None
    ) -> ResetDone:
        body = _body({"deviceId": device_id, "licenseKey": license_key, "generation": generation})
        return await self._call("POST", "/v1/reset", body, read=lambda r: _decoded(r, ResetDone), attempts=attempts)

    async def devices(self, license_key: str, states: Sequence[str] = ("active", "pending")) -> Devices:
        """All pages in one."""
        found: list[Device] = []
        after: str | None = None
        while True:
            query = urlencode([*(("state", state) for state in states), ("limit", PAGE), *_after(after)])
            page = await self._call(
                "GET", f"/v1/devices?{query}", headers=_license(license_key), read=lambda r: _decoded(r, Devices)
            )
            found += page.devices
            if page.next is None or page.next == after:
                return Devices(limit=page.limit, used=page.used, devices=found)
            after = page.next

    async def delete_device(self, license_key: str, device_id: str) -> None:
        path = f"/v1/devices/{quote(device_id, safe='')}"
        await self._call("DELETE", path, headers=_license(license_key), read=_members)

    async def offline_activate(self, license_key: str, request: Members, days: int | None = None) -> bytes:
        """The license file for a request file: the same for the same."""
        body = _body({"licenseKey": license_key, "request": request, "days": days})
        return await self._call("POST", "/v1/offline/activate", body, read=_file)

    async def offline_return(self, receipt: Members, *, keep_seat: bool = False) -> Members:
        """Free the seat, or with `keep_seat` have it go on under its next generation, without the file."""
        body = _body({"receipt": receipt, "keepSeat": keep_seat or None})
        return await self._call("POST", "/v1/offline/return", body, read=_members)

    async def nodes(self, *, attempts: int | None = None) -> Members | None:
        """The server's nodes; None from a server that does not list them."""

        def read(response: Response) -> Members | None:
            return None if response.status == 404 else _members(response)

        return await self._call("GET", "/registry/nodes", read=read, noes=(404,), attempts=attempts)

    async def server_time(self, *, attempts: int | None = None) -> float | None:
        """Seconds since 1970 as the server's `Date` tells, whatever it answers."""
        await self._call("GET", "/.well-known/jwks.json", read=lambda r: None, noes=range(200, 600), attempts=attempts)
        return self._server_time_s

    @property
    def last_server_time_s(self) -> float | None:
        """The `Date` of the last answer: a hint that nobody signed."""
        return self._server_time_s

    async def close(self) -> None:
        await self._transport.close()

    async def _call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        read: Callable[[Response], _T],
        check: Callable[[Response], None] | None = None,
        noes: Sequence[int] = (),
        headers: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
        attempts: int | None = None,
    ) -> _T:
        """`noes` are statuses that `read` takes as answers; `check` looks at every answer first."""
        sent = self._headers | dict(headers or {})

        async def once(left_s: float) -> _T:
            timeout_s = max(0.1, min(self.timeout_s, left_s))
            response = await self._send(Request(method=method, path=path, body=body, headers=sent, timeout_s=timeout_s))
            self._server_time_s = _date_s(response)
            if check is not None:
                check(response)
            if 200 <= response.status < 300 or response.status in noes:
                return read(response)
            raise refusal(response)

        return await repeated(
            once,
            clock=self._clock,
            random=self._random,
            budget=self.budget,
            deadline_s=self._deadline_s if deadline_s is None else deadline_s,
            attempts=attempts,
        )

    async def _send(self, request: Request) -> Response:
        self.attempts += 1
        self.maybe_heard += 1
        try:
            return await self._transport.send(request)
        except TransportError as error:
            self.maybe_heard -= not error.sent
            raise


def refusal(response: Response) -> Refused | TransportError:
    """A problem document as it is; what proxies and gateways say in their own words is a failure that may pass."""
    try:
        problem = msgspec.json.decode(response.body, type=Problem)
    except _UNREADABLE:
        if response.status not in _PASSING:
            return TransportError(Sentence("error.answer.status", status=response.status), kind="malformed")
        problem = Problem(code=f"HTTP_{response.status}", title=f"HTTP {response.status}", retryable=True)
    return Refused(
        problem.code,
        status=response.status,
        title=problem.title,
        detail=problem.detail,
        retryable=problem.retryable or response.status in _PASSING,
        retry_after_s=problem.retry_after if problem.retry_after is not None else _retry_after_s(response),
        members=_members_or_none(response),
    )


def _is_of_unknown_token(response: Response) -> bool:
    return response.status == 401 and (_members_or_none(response) or {}).get("code") == "TOKEN_INVALID"


def _body(members: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode({name: value for name, value in members.items() if value is not None})


def _decoded(response: Response, shape: type[_T]) -> _T:
    try:
        return msgspec.json.decode(response.body, type=shape)
    except _UNREADABLE:
        raise _unreadable() from None


def _members(response: Response) -> Members:
    return _decoded(response, Members)


def _members_or_none(response: Response) -> Members | None:
    try:
        return msgspec.json.decode(response.body, type=Members)
    except _UNREADABLE:
        return None


def _file(response: Response) -> bytes:
    _members(response)
    return response.body


def _unreadable() -> TransportError:
    return TransportError(Sentence("error.answer.unreadable"), kind="malformed")


def _license(key: str) -> dict[str, str]:
    return {"Authorization": f"License {key}"}


def _after(after: str | None) -> list[tuple[str, str | int]]:
    return [("after", after)] if after is not None else []


def _date_s(response: Response) -> float | None:
    try:
        return parsedate_to_datetime(response.headers["date"]).timestamp()
    except (KeyError, ValueError):
        return None


def _retry_after_s(response: Response) -> float | None:
    """Seconds; the form with a date is not what this API sends."""
    text = response.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdecimal() else None

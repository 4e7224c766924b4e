"""Refusals over HTTP: RFC 9457 problem documents, in English or Chinese by Accept-Language.

Rules: this module alone says what a `Code` means over HTTP. `retryable` means that a client may try again by itself
and can succeed (for TIMESTAMP_SKEWED with the time in `serverTime`). A 503 always carries Retry-After. Use cases return
refusals as values, which handlers turn into `problem(...)`; `ProblemError` is for what the web layer itself detects.
Members are camelCase, as on the wire; a member that is None is left out.
"""

import math
from collections.abc import Mapping
from functools import cache, lru_cache

import msgspec
from aiohttp import web

from shared.licensing.codes import Code
from shared.web.languages import preferred_language
from shared.web.responses import EncodedResponse, Fields
from shared.web.texts import CODES, FAULTS, Fault


class Kind(msgspec.Struct, frozen=True):
    """What a code means over HTTP."""

    status: int
    retryable: bool = False


KINDS: dict[Code, Kind] = {
    Code.LICENSE_KEY_INVALID: Kind(401),
    Code.TOKEN_INVALID: Kind(401),
    Code.TOKEN_EXPIRED: Kind(401),
    Code.TOKEN_EXHAUSTED: Kind(401),
    Code.TOKEN_REVOKED: Kind(401),
    Code.REQUEST_INVALID: Kind(400),
    Code.REQUEST_TOO_LARGE: Kind(413),
    Code.NOT_FOUND: Kind(404),
    Code.METHOD_NOT_ALLOWED: Kind(405),
    Code.TIMESTAMP_SKEWED: Kind(401, retryable=True),
    Code.REPLAYED: Kind(409),
    Code.LICENSE_SUSPENDED: Kind(403),
    Code.LICENSE_EXPIRED: Kind(403),
    Code.LICENSE_REVOKED: Kind(403),
    Code.VERSION_NOT_SUPPORTED: Kind(403),
    Code.ENTITLEMENT_MISSING: Kind(403),
    Code.TOO_MANY_REQUESTS: Kind(429, retryable=True),
    Code.RELEASE_LIMIT_EXCEEDED: Kind(403),
    Code.DEVICE_LIMIT_EXCEEDED: Kind(403),
    Code.DEVICE_NOT_ALLOWED: Kind(403),
    Code.DEVICE_BLOCKED: Kind(403),
    Code.DEVICE_NOT_FOUND: Kind(404),
    Code.LEASE_LOST: Kind(410),
    Code.CLONE_SUSPECTED: Kind(403),
    Code.OFFLINE_HELD: Kind(409),
    Code.OFFLINE_NOT_ALLOWED: Kind(403),
    Code.OVERLOADED: Kind(503, retryable=True),
    Code.OUTCOME_UNKNOWN: Kind(503, retryable=True),
    Code.INTERNAL: Kind(500, retryable=True),
}
DEFAULT_RETRY_AFTER_S = 1
_encode = msgspec.json.Encoder().encode


class ProblemError(Exception):
    """A refusal detected in the web layer: raised by readers of requests, answered by `endpoint`."""

    def __init__(
        self, code: Code, *, fault: Fault | None = None, headers: Mapping[str, str] | None = None, **members: object
    ) -> None:
        super().__init__(f"{code} ({fault})" if fault else str(code))
        self.code = code
        self.fault = fault
        self.headers = headers
        self.members = members


def problem(
    request: web.BaseRequest | None,
    code: Code,
    *,
    fault: Fault | None = None,
    headers: Mapping[str, str] | None = None,
    **members: object,
) -> web.Response:
    """Answer a refusal: `problem(request, Code.DEVICE_LIMIT_EXCEEDED, limit=3, used=3)`.

    `request` gives the language alone. `fault` replaces the detail by a more exact one. `retryAfter` is in seconds and
    sets Retry-After too. Any other member goes into the body as it is.
    """
    language, status = language_of(request), KINDS[code].status
    body = document(language, code, fault=fault, **members)
    retry_after_s = body.get("retryAfter")
    fields = _fields(status, language, retry_after_s if isinstance(retry_after_s, int | float) else None)
    if headers is not None:
        fields = tuple((dict(fields) | dict(headers)).items())
    return EncodedResponse(_encode(body), status, fields)


def document(language: str, code: Code, *, fault: Fault | None = None, **members: object) -> dict[str, object]:
    """The members of a problem document, for an answer that holds several."""
    if KINDS[code].status == 503:
        members.setdefault("retryAfter", DEFAULT_RETRY_AFTER_S)
    body = _base(code, language) | {name: value for name, value in members.items() if value is not None}
    if fault is not None:
        body["detail"] = FAULTS[language][fault]
    if "detail" not in members:
        body["detail"] = _filled(str(body["detail"]), members)
    return body


def language_of(request: web.BaseRequest | None) -> str:
    """The language to answer a request in."""
    return preferred_language(request.headers.get("Accept-Language", "")) if request is not None else "en"


def answer(request: web.BaseRequest, error: ProblemError) -> web.Response:
    """The response for a raised `ProblemError`."""
    return problem(request, error.code, fault=error.fault, headers=error.headers, **error.members)


@cache
def _base(code: Code, language: str) -> dict[str, object]:
    title, detail = CODES[language][code]
    return {
        "type": f"urn:seatkeeper:problem:{code.lower().replace('_', '-')}",
        "title": title,
        "status": KINDS[code].status,
        "detail": detail,
        "code": code.value,
        "retryable": KINDS[code].retryable,
    }


def _filled(detail: str, members: Mapping[str, object]) -> str:
    if "{" not in detail:
        return detail
    for name in ("field", "limit"):
        detail = detail.replace("{" + name + "}", str(members.get(name, "")))
    return detail


@lru_cache(maxsize=256)
def _fields(status: int, language: str, retry_after_s: float | None) -> Fields:
    fields = [
        ("Content-Type", "application/problem+json"),
        ("Content-Language", language),
        ("Cache-Control", "no-store"),
        ("Server", "seatkeeper"),
    ]
    if status == 401:
        fields.append(("WWW-Authenticate", 'License realm="seatkeeper"'))
    if retry_after_s is not None:
        fields.append(("Retry-After", str(max(0, math.ceil(retry_after_s)))))
    return tuple(fields)

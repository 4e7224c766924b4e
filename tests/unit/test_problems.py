"""Problem documents: complete tables, both languages, and the headers that belong to a status."""

import json
import string
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from shared.licensing.codes import Code
from shared.web.languages import preferred_language
from shared.web.problems import KINDS, ProblemError, answer, problem
from shared.web.texts import CODES, FAULTS, Fault


def request(language: str = "") -> web.Request:
    return make_mocked_request("POST", "/", headers={"Accept-Language": language})


def body(response: web.Response) -> dict[str, Any]:
    assert isinstance(response.body, bytes)
    document: dict[str, Any] = json.loads(response.body)
    return document


def test_every_code_has_a_status_and_texts_in_every_language() -> None:
    assert set(KINDS) == set(Code)
    for texts in CODES.values():
        assert set(texts) == set(Code)
        assert all(title and detail for title, detail in texts.values())
    for faults in FAULTS.values():
        assert set(faults) == set(Fault)


def test_the_languages_differ_in_words_and_agree_in_placeholders() -> None:
    def names(text: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    for code in Code:
        assert CODES["en"][code] != CODES["zh"][code]
        assert names(CODES["en"][code][1]) == names(CODES["zh"][code][1])
    for fault in Fault:
        assert names(FAULTS["en"][fault]) == names(FAULTS["zh"][fault])


def test_the_statuses_are_those_of_the_public_api() -> None:
    assert {code.value: kind.status for code, kind in KINDS.items()} == {
        "LICENSE_KEY_INVALID": 401,
        "TOKEN_INVALID": 401,
        "TOKEN_EXPIRED": 401,
        "TOKEN_EXHAUSTED": 401,
        "TOKEN_REVOKED": 401,
        "REQUEST_INVALID": 400,
        "REQUEST_TOO_LARGE": 413,
        "NOT_FOUND": 404,
        "METHOD_NOT_ALLOWED": 405,
        "TIMESTAMP_SKEWED": 401,
        "REPLAYED": 409,
        "LICENSE_SUSPENDED": 403,
        "LICENSE_EXPIRED": 403,
        "LICENSE_REVOKED": 403,
        "DEVICE_LIMIT_EXCEEDED": 403,
        "DEVICE_NOT_ALLOWED": 403,
        "DEVICE_BLOCKED": 403,
        "DEVICE_NOT_FOUND": 404,
        "LEASE_LOST": 410,
        "CLONE_SUSPECTED": 403,
        "OFFLINE_HELD": 409,
        "OFFLINE_NOT_ALLOWED": 403,
        "VERSION_NOT_SUPPORTED": 403,
        "ENTITLEMENT_MISSING": 403,
        "TOO_MANY_REQUESTS": 429,
        "RELEASE_LIMIT_EXCEEDED": 403,
        "OVERLOADED": 503,
        "OUTCOME_UNKNOWN": 503,
        "INTERNAL": 500,
    }


def test_a_refusal_is_a_problem_document() -> None:
    response = problem(request(), Code.DEVICE_LIMIT_EXCEEDED, limit=3, used=3, valid=False, until=None)

    assert response.status == 403
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Content-Language"] == "en"
    assert body(response) == {
        "type": "urn:seatkeeper:problem:device-limit-exceeded",
        "title": "Every seat is taken",
        "status": 403,
        "detail": "Free a device of this license, or ask the vendor for more seats, then activate again.",
        "code": "DEVICE_LIMIT_EXCEEDED",
        "retryable": False,
        "limit": 3,
        "used": 3,
        "valid": False,
    }


def test_chinese_is_answered_when_preferred() -> None:
    document = body(problem(request("zh-CN,zh;q=0.9,en;q=0.8"), Code.DEVICE_LIMIT_EXCEEDED))

    assert (document["title"], document["code"]) == ("席位已用完", "DEVICE_LIMIT_EXCEEDED")


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("zh", "zh"),
        ("zh-Hant-TW", "zh"),
        ("en-GB,zh;q=0.9", "en"),
        ("zh,en", "zh"),
        ("en,zh", "en"),
        ("zh;q=0.2, en;q=0.3", "en"),
        ("fr, zh;q=0.1", "zh"),
        ("zh;q=0", "en"),
        ("zh;q=many", "en"),
        ("zh;q=nan", "en"),
        ("*", "en"),
        (",;,=;q", "en"),
    ],
)
def test_the_language_follows_the_weights_of_the_header(header: str, language: str) -> None:
    assert preferred_language(header) == language


@pytest.mark.parametrize("code", [Code.OVERLOADED, Code.OUTCOME_UNKNOWN])
def test_a_503_always_says_when_to_retry(code: Code) -> None:
    response = problem(request(), code)

    assert response.headers["Retry-After"] == "1"
    assert (body(response)["retryAfter"], body(response)["retryable"]) == (1, True)


def test_retry_after_is_rounded_up_to_whole_seconds_in_the_header() -> None:
    response = problem(None, Code.OVERLOADED, retryAfter=2.2)

    assert response.headers["Retry-After"] == "3"
    assert body(response)["retryAfter"] == 2.2


def test_a_401_names_an_authentication_scheme() -> None:
    assert problem(None, Code.TOKEN_EXPIRED).headers["WWW-Authenticate"] == 'License realm="seatkeeper"'
    assert "WWW-Authenticate" not in problem(None, Code.REPLAYED).headers


def test_a_raised_problem_names_the_field() -> None:
    error = ProblemError(Code.REQUEST_INVALID, fault=Fault.FIELD_MISSING, field="fingerprint")

    assert body(answer(request(), error))["detail"] == (
        "The field `fingerprint` is missing. Add it and send the request again."
    )
    assert body(answer(request("zh"), error))["detail"] == "缺少字段 `fingerprint`。请补充后重新发送。"


def test_a_detail_given_by_the_caller_is_left_as_it_is() -> None:
    assert body(problem(None, Code.NOT_FOUND, detail="No {field} here."))["detail"] == "No {field} here."

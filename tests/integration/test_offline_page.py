"""The holder's page: one document in the reader's language, whose policy lets nothing run or load but what is in it."""

import base64
import re
from hashlib import sha256

import pytest

from services.activation import offline_page, operations
from tests.platform import Platform

pytest_plugins = ["tests.platform"]


async def page(platform: Platform, language: str = "en") -> tuple[str, dict[str, str]]:
    answer = await platform.api.ask("GET", "/offline", headers={"Accept-Language": language})
    assert answer.status == 200
    return answer.body.decode(), dict(answer.headers)


def policy_of(headers: dict[str, str]) -> dict[str, str]:
    parts = (part.strip().partition(" ") for part in headers["Content-Security-Policy"].split(";"))
    return {name: value for name, _, value in parts}


@pytest.mark.parametrize(
    ("asked", "language", "says"), [("de, en", "en", "License key"), ("zh-CN", "zh", "许可证密钥")]
)
async def test_it_speaks_the_readers_language(platform: Platform, asked: str, language: str, says: str) -> None:
    text, headers = await page(platform, asked)
    assert f'<html lang="{language}">' in text
    assert says in text
    assert (headers["Content-Language"], headers["Vary"]) == (language, "Accept-Language")
    assert headers["Content-Type"] == "text/html; charset=utf-8"


async def test_only_its_own_script_and_style_run_and_calls_go_to_its_own_origin(platform: Platform) -> None:
    text, headers = await page(platform)
    policy = policy_of(headers)
    for element in ("script", "style"):
        (content,) = re.findall(f"<{element}>(.*?)</{element}>", text, re.DOTALL)
        digest = base64.b64encode(sha256(content.encode()).digest()).decode()
        assert policy.pop(f"{element}-src") == f"'sha256-{digest}'"
    assert policy.pop("connect-src") == "'self'"
    assert set(policy.values()) == {"'none'"}
    assert set(policy) == {"default-src", "form-action", "base-uri", "frame-ancestors"}


async def test_it_loads_nothing_and_has_no_handlers_in_its_markup(platform: Platform) -> None:
    text, _ = await page(platform)
    assert not re.findall(r"\s(?:on\w+|style|src)=|<link|<img|https?://|javascript:", text)


async def test_it_calls_the_routes_that_there_are_with_their_members(platform: Platform) -> None:
    text, _ = await page(platform)
    called = re.findall(r'data-path="([^"]+)" data-member="([^"]+)"', text)
    assert called == [
        (operation.path, operation.body.type.__struct_encode_fields__[at])
        for operation, at in ((operations.OFFLINE_ACTIVATE, 1), (operations.OFFLINE_RETURN, 0))
        if operation.body is not None
    ]
    assert "licenseKey" in text


def test_both_languages_say_all_that_there_is_to_say() -> None:
    english, chinese = (offline_page._TEXTS[language] for language in ("en", "zh"))
    assert english.keys() == chinese.keys()
    assert set(re.findall(r"\$(\w+)", offline_page._SOURCE)) == english.keys()

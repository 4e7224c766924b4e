"""Logs: JSON lines or colour, every logger through one handler, and no secret in any of them."""

import io
import json
import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import structlog
from aiohttp.http_exceptions import BadHttpMessage

from shared.runtime.logging import configure
from shared.runtime.redaction import redact, redact_text
from shared.runtime.sections import Log, Secret

LICENSE_KEY = "1ABC-DEFG-HJKM-NPQR-STVW-XYZ0-1234"
JWS = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJkZXYifQ.c2lnbmF0dXJl"
SECRETS = [
    LICENSE_KEY,
    LICENSE_KEY.lower(),
    LICENSE_KEY.replace("-", ""),
    JWS,
    "eyJhbGciOiJFZERTQSJ9..c2lnbmF0dXJl",
    "skd1.k1.AAECAwQ.zz-_9",
    "skm_live_0123456789",
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def out() -> io.StringIO:
    stream = io.StringIO()
    configure(Log(), stream=stream)
    return stream


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_an_event_is_one_json_line_with_a_utc_timestamp(out: io.StringIO) -> None:
    structlog.stdlib.get_logger("room").info("seat taken", used=3, note="a\nb")

    (line,) = lines(out)
    stamp = line.pop("timestamp")
    assert line == {"event": "seat taken", "used": 3, "note": "a\nb", "level": "info", "logger": "room"}
    assert stamp.endswith("Z")
    assert datetime.fromisoformat(stamp).utcoffset() == timedelta(0)


def test_a_terminal_gets_colour_and_no_json() -> None:
    out = Terminal()
    configure(Log(), stream=out)

    structlog.stdlib.get_logger("room").info("seat taken", token="hunter2")

    assert "\x1b[" in out.getvalue()
    assert "seat taken" in out.getvalue()
    assert "hunter2" not in out.getvalue()


def test_the_format_can_be_forced() -> None:
    out = Terminal()
    configure(Log(format="json"), stream=out)

    structlog.stdlib.get_logger("room").info("seat taken")

    assert lines(out)[0]["event"] == "seat taken"


def test_the_standard_library_loggers_go_through_too(out: io.StringIO) -> None:
    logging.getLogger("aiohttp.server").error("broken %s", f"Authorization: License {LICENSE_KEY}")

    (line,) = lines(out)
    assert line["logger"] == "aiohttp.server"
    assert line["event"] == "broken Authorization: ***"


def test_a_malformed_http_request_is_not_logged(out: io.StringIO) -> None:
    for failure in (BadHttpMessage("nonsense"), OSError("disk")):
        logging.getLogger("aiohttp.server").error("Error handling request", exc_info=failure)

    assert [line["exception"] for line in lines(out)] == ["OSError: disk"]


def test_the_level_is_held_for_both(out: io.StringIO) -> None:
    structlog.stdlib.get_logger("room").debug("quiet")
    logging.getLogger("room").debug("quiet")

    assert out.getvalue() == ""


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_masked_wherever_it_stands(out: io.StringIO, secret: str) -> None:
    log = structlog.stdlib.get_logger("room")
    try:
        raise ValueError(f"cannot use {secret}")
    except ValueError:
        log.exception(
            f"refused {secret}", deep={"list": [{"note": f"<{secret}>"}]}, raw=secret.encode(), pair=(secret,)
        )

    (line,) = lines(out)
    assert secret not in out.getvalue()
    assert "ValueError: cannot use " in line["exception"]
    assert line["event"].startswith("refused ")


@pytest.mark.parametrize(
    "name",
    ["licenseKey", "key", "device_token", "client_secret", "Password", "dsn", "AUTHORIZATION", "x-api-key"],
)
def test_a_value_under_a_telling_name_is_masked(name: str) -> None:
    assert redact({"deep": {name: "plain words"}}) == {"deep": {name: "***"}}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgres://app:hun/ter@2@db:5432/x", "postgres://app:***@db:5432/x"),
        ("redis://:hunter2@cache:6379", "redis://:***@cache:6379"),
        ("host=db password=hunter2 user=app", "host=db password=*** user=app"),
        ("sent {'licenseKey': 'hunter2', 'a': 1}", "sent {'licenseKey': \"***\", 'a': 1}"),
        ("Bearer abcdef0123456789", "Bearer ***"),
    ],
)
def test_a_password_in_text_is_masked(text: str, shown: str) -> None:
    assert redact_text(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "KeyError: 'device_id'",
        "http://db:5432/healthz",
        "1b4e28ba-2fa1-11d2-883f-0016d3cca427",
        "2026-11-05T10:11:12.123456Z",
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "1234567890 devices in 1000 batches",
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert redact_text(text) == text


def test_what_is_not_plain_data_is_shown_by_its_repr() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    shown = redact({"a": Secret("hunter2"), "b": Broken(), "c": float("nan"), "d": None, "e": {1}})

    assert shown == {"a": "***", "b": "<Broken>", "c": "nan", "d": None, "e": [1]}


def test_endless_nesting_is_cut() -> None:
    loop: list[object] = []
    loop.append(loop)

    assert "…" in repr(redact(loop))

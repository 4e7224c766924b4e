"""What answers share: camelCase structs, times as RFC 3339 in UTC, and refusals about a license."""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any

import msgspec
from aiohttp import web

from shared.licensing.codes import Code
from shared.licensing.model import License
from shared.web.endpoints import json_response
from shared.web.problems import problem

Time = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
_encode = msgspec.json.Encoder().encode


class Answer(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A JSON answer; members that are left at None are left out."""


def reply(answer: object, status: int = 200) -> web.Response:
    return json_response(_encode(answer), status)


def rfc3339(moment: datetime | float) -> str:
    """A time on the wire, to the second, rounded down: 2026-11-22T09:30:00Z. Floats are seconds since 1970."""
    return _second(int(moment.timestamp() if isinstance(moment, datetime) else moment))


@lru_cache(maxsize=8192)
def _second(seconds: int) -> str:
    """Answers of one moment share their times, so most are found written already."""
    return f"{datetime.fromtimestamp(seconds, UTC).isoformat()[:19]}Z"


def license_problem(request: web.Request, code: Code, license: License | None, **members: Any) -> web.Response:
    """A refusal; where it is about the number of seats it says how many there are and are taken."""
    if license is not None and code is Code.DEVICE_LIMIT_EXCEEDED:
        members |= {"limit": license.seats_limit, "used": license.seats_used}
    return problem(request, code, **members)

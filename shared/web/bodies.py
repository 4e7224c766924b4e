"""Request bodies: JSON, read once, at most 64 KiB, decoded and validated by msgspec.

Rules: no Content-Type is demanded. A body with a Content-Encoding is refused unread: nothing is ever inflated. Whatever
is wrong raises `ProblemError`, whose detail names the field of our own schema and never repeats what was sent. A body
that came whole with its headers is read without awaiting; a slow one has `server.body_timeout_s`. No field stands there
twice: another reader might take the other.
"""

import asyncio
import math
import re
from datetime import datetime
from typing import Annotated, TypeVar

import msgspec
from aiohttp import hdrs, web

from shared.licensing.codes import Code
from shared.web.connections import Connection
from shared.web.problems import ProblemError
from shared.web.texts import Fault

MAX_BODY_BYTES = 64 * 1024
BODY_TIMEOUT_S = 10.0

# No control characters (NUL, newlines, C1). The lookahead is an end anchor that means the same in Python and in
# JSON Schema: Python's `$` would let a final newline through. Lone surrogates never reach it: msgspec refuses them.
PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f]*(?![\s\S])"
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=256, pattern=PRINTABLE)]
ShortText = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=PRINTABLE)]
LongText = Annotated[str, msgspec.Meta(min_length=1, max_length=4096, pattern=PRINTABLE)]
KeyText = Annotated[str, msgspec.Meta(min_length=1, max_length=256, pattern=PRINTABLE)]
Timestamp = int | float | Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=PRINTABLE)]

T = TypeVar("T")
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_FIELD = re.compile(r"`\$\.?([^`]*)`$")
_MISSING = re.compile(r"^Object missing required field `([^`]*)`")
_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}):([0-9]{2})(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_MILLISECONDS_FROM = 1e11
_LAST_SECOND = 253_402_300_799  # the end of the year 9999, the last that RFC 3339 can write


async def read_json(request: web.Request, decoder: msgspec.json.Decoder[T], *, max_bytes: int = MAX_BODY_BYTES) -> T:
    """The decoded body, or `ProblemError` (REQUEST_INVALID, REQUEST_TOO_LARGE)."""
    encoding = request.headers.get(hdrs.CONTENT_ENCODING)
    if encoding is not None and encoding.strip().lower() not in ("", "identity"):
        raise ProblemError(Code.REQUEST_INVALID, fault=Fault.ENCODED)
    content = request.content
    if content.is_eof() and content.exception() is None:
        data = content.read_nowait()
        if len(data) > max_bytes:
            raise ProblemError(Code.REQUEST_TOO_LARGE, limit=max_bytes)
    else:
        data = await _read_stream(request, max_bytes)
    return decode_json(data, decoder)


def decode_json(data: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """Decode and validate, or `ProblemError` (REQUEST_INVALID). Field names are as on the wire."""
    try:
        data.decode()  # msgspec does not look inside strings that it skips
        decoded = decoder.decode(data)
        repeats = _repeats_a_member(data)
    except msgspec.ValidationError as error:
        raise _refusal(str(error)) from None
    except msgspec.DecodeError:
        raise ProblemError(Code.REQUEST_INVALID, fault=Fault.MALFORMED if data.strip() else Fault.EMPTY) from None
    except UnicodeDecodeError:
        raise ProblemError(Code.REQUEST_INVALID, fault=Fault.NOT_UTF8) from None
    except RecursionError:
        raise ProblemError(Code.REQUEST_INVALID, fault=Fault.TOO_DEEP) from None
    if repeats:
        raise ProblemError(Code.REQUEST_INVALID, fault=Fault.FIELD_REPEATED)
    return decoded


def parse_timestamp(value: int | float | str) -> float | None:
    """Unix seconds from unix seconds, unix milliseconds (from 1e11 on) or RFC 3339 text; None when it is none of them.

    Only instants from 1970 to 9999 are accepted, so the result is finite and fits `datetime`.
    """
    seconds = _from_text(value) if isinstance(value, str) else _from_number(value)
    return seconds if seconds is not None and 0 <= seconds <= _LAST_SECOND else None


async def _read_stream(request: web.Request, max_bytes: int) -> bytes:
    declared = request.content_length
    if declared is not None and declared > max_bytes:
        raise ProblemError(Code.REQUEST_TOO_LARGE, limit=max_bytes)
    body = bytearray()
    try:
        async with asyncio.timeout(_timeout_s(request)):
            while chunk := await request.content.readany():
                body += chunk
                if len(body) > max_bytes:
                    raise ProblemError(Code.REQUEST_TOO_LARGE, limit=max_bytes)
    except (TimeoutError, ConnectionError, web.RequestPayloadError):
        raise ProblemError(Code.REQUEST_INVALID, fault=Fault.INCOMPLETE) from None
    return bytes(body)


def _timeout_s(request: web.Request) -> float:
    connection = request.protocol
    return connection.body_timeout_s if isinstance(connection, Connection) else BODY_TIMEOUT_S


def _repeats_a_member(data: bytes) -> bool:
    """Whether the object has a member twice, of which `_members` knows the last alone.

    Each member has a colon, so as many colons as members settle it for most bodies. Else the quotes do: those of a
    member that is not known are too many.
    """
    colons = data.count(b":")
    if colons == 1 or colons == len(members := _members(data)):
        return False
    known = sum(2 + name.count('"') + bytes(value).count(b'"') for name, value in members.items())
    return data.count(b'"') != known


def _refusal(message: str) -> ProblemError:
    path = found.group(1) if (found := _FIELD.search(message)) else ""
    if missing := _MISSING.match(message):
        name = missing.group(1)
        return ProblemError(Code.REQUEST_INVALID, fault=Fault.FIELD_MISSING, field=f"{path}.{name}" if path else name)
    if "unknown field" in message:
        return ProblemError(Code.REQUEST_INVALID, fault=Fault.FIELD_UNKNOWN)
    if not path:
        return ProblemError(Code.REQUEST_INVALID, fault=Fault.NOT_AN_OBJECT)
    fault = Fault.FIELD_TYPE if ", got `" in message else Fault.FIELD_VALUE
    return ProblemError(Code.REQUEST_INVALID, fault=fault, field=path)


def _from_number(value: float) -> float | None:
    try:
        number = float(value)
    except OverflowError:
        return None
    if isinstance(value, bool) or not math.isfinite(number):
        return None
    return number / 1000 if abs(number) >= _MILLISECONDS_FROM else number


def _from_text(text: str) -> float | None:
    if not (parts := _RFC3339.fullmatch(text)):
        return None
    day, minute, second, fraction, zone = parts.groups(default="")
    # RFC 3339 allows a leap second, datetime does not.
    second = "59" if second == "60" else second
    try:
        return datetime.fromisoformat(f"{day}T{minute}:{second}{fraction}{zone.upper()}").timestamp()
    except (ValueError, OverflowError):
        return None

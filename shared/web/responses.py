"""Responses that are bytes already: head and body leave in one write, made of few pieces.

Rules: the usual case is written here, an answer with a body to an HTTP/1.1 request that keeps its connection. All else
(HEAD, HTTP/1.0, the connection's end, headers that somebody looked at, for he may have changed them) is written by
aiohttp, with the same headers. Back-pressure is aiohttp's in both. Neither cookies nor compression nor the signal
`on_response_prepare` are known here: a handler that needs them answers with a plain `web.Response`.
"""

from functools import cached_property, lru_cache
from http import HTTPStatus

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time
from multidict import CIMultiDict

Fields = tuple[tuple[str, str], ...]
"""Names and values of header fields, without those of the connection, the date and the length."""


class EncodedResponse(web.Response):
    """`body` as it is, under a status that has one. `fields` are its headers; few different ones are used."""

    _body: bytes

    def __init__(self, body: bytes, status: int, fields: Fields) -> None:
        # Response's own would make headers that are rarely looked at; what it sets beside them is set here.
        self._state = {}
        self._set_status(status, None)
        self._body = body
        self._fields = fields
        self._message: bytes | None = None

    @cached_property
    def _headers(self) -> CIMultiDict[str]:  # type: ignore[override]
        return CIMultiDict(self._fields)

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        if not self._is_usual(request):
            return await super().prepare(request)
        self._keep_alive = True
        self._req = request
        self._payload_writer = request.writer
        self._message = self.message()
        return self._payload_writer

    def message(self, *more: tuple[str, str]) -> bytes:
        """The whole answer as it is sent, with `more` fields."""
        return b"%bContent-Length: %d\r\nDate: %b\r\n\r\n%b" % (
            _head(self._status, self._fields + more),
            len(self._body),
            rfc822_formatted_time().encode(),
            self._body,
        )

    async def write_eof(self, data: bytes = b"") -> None:
        if self._message is None:
            await super().write_eof(data)
        else:
            await web.StreamResponse.write_eof(self, self._message)

    def _is_usual(self, request: web.BaseRequest) -> bool:
        return (
            self._keep_alive is None
            and request.keep_alive
            and request.version == HttpVersion11
            and request.method != hdrs.METH_HEAD
            and "_headers" not in self.__dict__
        )


@lru_cache(maxsize=256)
def _head(status: int, fields: Fields) -> bytes:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in fields)]
    if not all(line.isprintable() for line in lines):
        raise ValueError("a header field holds a control character")
    return "".join(f"{line}\r\n" for line in lines).encode()

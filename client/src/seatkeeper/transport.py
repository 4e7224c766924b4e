"""How one request is carried and one answer brought back: an interface, so that tests and programs bring their own.

`seatkeeper.http.HttpTransport` is the one over aiohttp. A transport makes one try: it never retries, never follows a
redirect, and reads at most `LONGEST_ANSWER` bytes.
"""

from collections.abc import Mapping
from typing import Protocol

import msgspec

LONGEST_ANSWER = 1024 * 1024


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """`path` with its query, below the server's URL; `body` is JSON or nothing. `timeout_s` is for the whole try."""

    method: str
    path: str
    body: bytes | None = None
    headers: Mapping[str, str] = {}
    timeout_s: float = 10.0

    def __repr__(self) -> str:
        return f"Request({self.method} {self.path})"


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """The names of `headers` are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"Response({self.status}, {len(self.body)} bytes)"


class Transport(Protocol):
    async def send(self, request: Request) -> Response:
        """One try. Raises `TransportError` when no whole answer came."""
        ...

    async def close(self) -> None: ...

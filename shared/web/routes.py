"""What a route is: an operation of the API, said once, and the handler that serves it.

Rules: an operation is what the OpenAPI document shows and what the handler uses: the body that it names is the one that
is decoded, under the same limit. `answers` are those of success, by status; `refusals` the codes that its use case may
give. Those that every operation of its kind may give are added by `all_refusals`.
"""

from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
from aiohttp import web

from shared.licensing.codes import Code
from shared.web.bodies import MAX_BODY_BYTES, read_json
from shared.web.problems import ProblemError
from shared.web.texts import Fault

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
T = TypeVar("T")


class Caller(StrEnum):
    """Who may call, and where they show it; the text is for readers of the document."""

    ANYONE = "Open to anyone."
    KEY = "For the holder of a license key, in the body."
    KEY_OR_TOKEN = "For the holder of a license key or of an activation token, in the body."  # noqa: S105 - no password
    KEY_HEADER = "For the holder of a license key: `Authorization: License KEY`."
    DEVICE = "For a device: its token in the body, or `Authorization: Bearer TOKEN`."
    RECEIPT = "For a device: what it signed with its own key, in the body."
    FLEET = "For a gateway that holds the tokens of devices: each in its item."


class Body(Generic[T]):
    """A JSON body of one type, of at most so many bytes."""

    def __init__(self, type: type[T], *, max_bytes: int = MAX_BODY_BYTES) -> None:
        self.type = type
        self.max_bytes = max_bytes
        self._decoder = msgspec.json.Decoder(type)

    async def read(self, request: web.Request) -> T:
        """The body of a request, or `ProblemError` (REQUEST_INVALID, REQUEST_TOO_LARGE)."""
        return await read_json(request, self._decoder, max_bytes=self.max_bytes)


class Query(Generic[T]):
    """Query parameters as a struct. One whose field is a tuple may be repeated; of any other the first counts."""

    def __init__(self, type: type[T]) -> None:
        self.type = type
        fields = msgspec.structs.fields(type)  # type: ignore[arg-type]
        self._repeated = {field.encode_name for field in fields if getattr(field.type, "__origin__", None) is tuple}

    def read(self, request: web.Request) -> T:
        """The parameters of a request, or `ProblemError` (REQUEST_INVALID). Unknown ones are ignored."""
        sent = {
            name: request.query.getall(name) if name in self._repeated else request.query[name]
            for name in request.query
        }
        try:
            return msgspec.convert(sent, self.type, strict=False)
        except msgspec.ValidationError:
            raise ProblemError(Code.REQUEST_INVALID, fault=Fault.QUERY) from None


class Operation(msgspec.Struct, frozen=True):
    """A method on a path. `name` is that of its metrics too; `in_path` says what stands in the path.

    An answer that may have several forms is a tuple of types; `parts` are types that others mention by name;
    `content` is the media type of answers.
    """

    method: str
    path: str
    name: str
    summary: str = ""
    caller: Caller = Caller.ANYONE
    body: Body[Any] | None = None
    query: Query[Any] | None = None
    in_path: Mapping[str, Any] = {}
    answers: Mapping[int, Any] = {}
    refusals: tuple[Code, ...] = ()
    parts: tuple[type, ...] = ()
    content: str = "application/json"

    @property
    def all_refusals(self) -> set[Code]:
        codes = {*self.refusals, Code.OVERLOADED, Code.INTERNAL}
        if self.query is not None:
            codes |= {Code.REQUEST_INVALID}
        if self.body is not None:
            codes |= {Code.REQUEST_INVALID, Code.REQUEST_TOO_LARGE}
        if self.caller is not Caller.ANYONE:
            codes |= {Code.TOO_MANY_REQUESTS, Code.OUTCOME_UNKNOWN}
        return codes


class Route(NamedTuple):
    operation: Operation
    handler: Handler

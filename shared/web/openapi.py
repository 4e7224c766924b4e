"""The OpenAPI 3.1 document of an API, made from its operations, and the route that serves it.

Rules: nothing is written here that an operation, a type or a `Code` does not say. Every error is a problem document
(RFC 9457); each operation lists the codes that it may give by status. An `operationId` is the operation's name; a
second path to the same has none.
"""

import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any
from uuid import UUID

import msgspec
from aiohttp import web

from shared.ledger.reader import Holder
from shared.licensing.codes import Code
from shared.licensing.model import Reason
from shared.web.answers import Time
from shared.web.endpoints import json_response
from shared.web.problems import KINDS
from shared.web.routes import Caller, Operation, Route

PATH = "/openapi.json"
DOCUMENT = Operation("GET", PATH, "openapi", "This document.", answers={200: dict[str, Any]})

_VERSION = "1"
_COMPONENTS = "#/components/schemas/"
_END = r"(?![\s\S])"
"""How our patterns say the end of a text; in JSON Schema `$` alone says it."""

_SECURITY: dict[Caller, list[dict[str, list[str]]]] = {
    Caller.KEY_HEADER: [{"licenseKey": []}],
    Caller.DEVICE: [{"deviceToken": []}, {}],
}
_SCHEMES = {
    "licenseKey": {"type": "http", "scheme": "License", "description": "A license key: `Authorization: License KEY`."},
    "deviceToken": {"type": "http", "scheme": "bearer", "description": "A device token; it may come in the body too."},
}
_RETRY_AFTER = {"description": "Seconds to wait.", "required": True, "schema": {"type": "integer", "minimum": 0}}
_AUTHENTICATE = {"description": "How to show a license key.", "required": True, "schema": {"type": "string"}}
_HEADERS = {
    401: {"WWW-Authenticate": _AUTHENTICATE},
    429: {"Retry-After": _RETRY_AFTER},
    503: {"Retry-After": _RETRY_AFTER},
}


class Problem(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A refusal: what is wrong, and what to do next. `retryable` says whether the same request may succeed later."""

    type: str
    title: str
    status: int
    detail: str
    code: Code
    retryable: bool
    valid: bool | None = None
    field: str | None = None
    limit: int | None = None
    used: int | None = None
    holders: list[Holder] | None = None
    until: Time | None = None
    server_time: Time | None = None
    retry_after: float | None = None
    reason: Reason | None = None
    device_id: UUID | None = None
    generation: int | None = None
    nonce: str | None = None
    mac: str | None = None
    id: str | None = None


def any_of(*types: type) -> dict[str, Any]:
    """The schema of what is one of these structs."""
    references = [{"$ref": _COMPONENTS + type.__name__} for type in types]
    return references[0] if len(references) == 1 else {"anyOf": references}


def documented(routes: Sequence[Route]) -> list[Route]:
    """These routes and the one of their document, which is encoded once."""
    body = encode(document([*(route.operation for route in routes), DOCUMENT]))

    async def serve(_request: web.Request) -> web.Response:
        return json_response(body)

    return [*routes, Route(DOCUMENT, serve)]


def encode(document: dict[str, Any]) -> bytes:
    """As it is served and kept: in lines, so that people can read it and compare two."""
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def document(operations: Iterable[Operation]) -> dict[str, Any]:
    """The document of these operations."""
    operations = list(operations)
    schemas = _Schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    named: set[str] = set()
    for operation in operations:
        described = _operation(operation, schemas)
        if operation.name in named:
            del described["operationId"]
        named.add(operation.name)
        paths.setdefault(_path(operation.path), {})[operation.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Seatkeeper",
            "version": _VERSION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": schemas.components, "securitySchemes": _SCHEMES},
    }


class _Schemas:
    """The schema of each type that operations name; structs as components."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        types: list[Any] = [Problem]
        for operation in operations:
            types += [source.type for source in (operation.body, operation.query) if source is not None]
            types += [*operation.in_path.values(), *operation.parts]
            types += [type for answer in operation.answers.values() for type in _types(answer)]
        types = list(dict.fromkeys(types))
        found, components = msgspec.json.schema_components(types, ref_template=_COMPONENTS + "{name}")
        self._by_type = dict(zip(types, (_shown(schema) for schema in found), strict=True))
        self.components: dict[str, Any] = {name: _shown(components[name]) for name in sorted(components)}
        answered = {
            type for operation in operations for answer in operation.answers.values() for type in _types(answer)
        }
        for name in self._within([self._by_type[type] for type in (*answered, Problem)], set()):
            _leave_out(self.components[name])

    def _within(self, schemas: Any, found: set[str]) -> set[str]:
        """The components that these schemas mention, and those that they mention in turn."""
        for mentioned in re.findall(re.escape(_COMPONENTS) + r"(\w+)", str(schemas)):
            if mentioned not in found:
                found.add(mentioned)
                self._within(self.components[mentioned], found)
        return found

    def of(self, answer: Any) -> dict[str, Any]:
        schemas = [self._by_type[type] for type in _types(answer)]
        return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}

    def fields(self, struct: type) -> dict[str, Any]:
        name = self._by_type[struct]["$ref"].removeprefix(_COMPONENTS)
        fields: dict[str, Any] = self.components.pop(name)["properties"]
        return fields


def _operation(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": _camel(operation.name),
        "summary": operation.summary,
        "description": operation.caller,
    }
    if operation.caller in _SECURITY:
        described["security"] = _SECURITY[operation.caller]
    if parameters := _parameters(operation, schemas):
        described["parameters"] = parameters
    if (body := operation.body) is not None:
        content = {"application/json": {"schema": schemas.of(body.type)}}
        text = f"At most {body.max_bytes // 1024} KiB, not compressed."
        described["requestBody"] = {"required": True, "description": text, "content": content}
    described["responses"] = _answers(operation, schemas) | _refusals(operation)
    return described


def _parameters(operation: Operation, schemas: _Schemas) -> list[dict[str, Any]]:
    in_path = [
        {"name": _camel(name), "in": "path", "required": True, "schema": schemas.of(type)}
        for name, type in operation.in_path.items()
    ]
    fields = schemas.fields(operation.query.type) if operation.query is not None else {}
    return in_path + [{"name": name, "in": "query", "schema": schema} for name, schema in fields.items()]


def _answers(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    return {
        str(status): {
            "description": HTTPStatus(status).phrase,
            "content": {operation.content: {"schema": schemas.of(answer)}},
        }
        for status, answer in operation.answers.items()
    }


def _refusals(operation: Operation) -> dict[str, Any]:
    by_status: dict[int, list[Code]] = {}
    for code in sorted(operation.all_refusals):
        by_status.setdefault(KINDS[code].status, []).append(code)
    return {str(status): _refusal(status, codes) for status, codes in sorted(by_status.items())}


def _refusal(status: int, codes: list[Code]) -> dict[str, Any]:
    schema = any_of(Problem) | {"properties": {"status": {"const": status}, "code": {"enum": codes}}}
    described: dict[str, Any] = {
        "description": HTTPStatus(status).phrase,
        "content": {"application/problem+json": {"schema": schema}},
    }
    if status in _HEADERS:
        described["headers"] = _HEADERS[status]
    return described


def _leave_out(component: dict[str, Any]) -> None:
    """Of an answer: what it does not have is left out, and never null."""
    for name, schema in component.get("properties", {}).items():
        if schema.get("default", ...) is None:
            (component["properties"][name],) = (kind for kind in schema["anyOf"] if kind != {"type": "null"})


def _types(answer: Any) -> tuple[Any, ...]:
    return answer if isinstance(answer, tuple) else (answer,)


def _shown(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {name: _pattern(value) if name == "pattern" else _shown(value) for name, value in schema.items()}
    return [_shown(item) for item in schema] if isinstance(schema, list) else schema


def _pattern(value: Any) -> Any:
    return value.replace(_END, "$") if isinstance(value, str) else _shown(value)


def _path(path: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda name: "{" + _camel(name[1]) + "}", path)


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)

"""The OpenAPI document: valid, current, and saying what the routes say."""

import json
import re
from collections import Counter
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from msgspec.structs import replace
from prometheus_client import CollectorRegistry
from schemathesis.specs.openapi.definitions import OPENAPI_31

from shared.licensing.codes import Code
from shared.runtime.metrics import Metrics
from shared.web.endpoints import add_routes
from shared.web.openapi import DOCUMENT, document, documented, encode
from shared.web.problems import KINDS
from shared.web.routes import Operation, Route
from tests.openapi import FILE, operations, whole

OUTSIDE_OPERATIONS = {Code.METHOD_NOT_ALLOWED}
"""Said of a path, whichever operations it has."""


@pytest.fixture(scope="module")
def shown() -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(encode(whole()))
    return decoded


def each(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, method, one) for path, methods in document["paths"].items() for method, one in methods.items()]


def test_the_kept_document_is_current() -> None:
    assert FILE.read_bytes() == encode(whole()), "make it anew: python -m tests.openapi"


def test_it_is_openapi_3_1(shown: dict[str, Any]) -> None:
    jsonschema_rs.Draft202012Validator(OPENAPI_31).validate(shown)
    loaded = schemathesis.openapi.from_dict(shown)
    loaded.validate()
    found = {(path, method) for path, methods in loaded.items() for method in methods}
    assert found == {(path, method) for path, method, _ in each(shown)}


def test_the_meta_schema_tells_a_faulty_document(shown: dict[str, Any]) -> None:
    faulty = json.loads(json.dumps(shown))
    del faulty["paths"]["/v1/activate"]["post"]["responses"]["200"]["description"]

    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.Draft202012Validator(OPENAPI_31).validate(faulty)


def test_every_component_is_a_schema_and_is_mentioned(shown: dict[str, Any]) -> None:
    components = shown["components"]["schemas"]
    for schema in components.values():
        jsonschema_rs.meta.validate(schema)
    assert set(re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps(shown))) == set(components)


def codes(answer: dict[str, Any]) -> set[str]:
    content = answer["content"].get("application/problem+json")
    return set(content["schema"]["properties"]["code"]["enum"]) if content else set()


def test_it_has_each_operation_with_all_that_it_may_answer(shown: dict[str, Any]) -> None:
    for operation in operations():
        path = operation.path.replace("device_id", "deviceId").replace("account_id", "accountId")
        described = shown["paths"][path][operation.method.lower()]
        refused = set[str]().union(*(codes(answer) for answer in described["responses"].values()))
        assert refused == set(map(str, operation.all_refusals))
        statuses = {*operation.answers, *(KINDS[code].status for code in operation.all_refusals)}
        assert set(described["responses"]) == set(map(str, statuses))
        assert ("requestBody" in described) == (operation.body is not None)
        in_path = [one["name"] for one in described.get("parameters", []) if one["in"] == "path"]
        assert in_path == re.findall(r"\{(\w+)\}", path)
    assert len(each(shown)) == len(operations())


def test_every_code_is_of_some_operation() -> None:
    said = {code for operation in operations() for code in operation.all_refusals}
    assert said == set(Code) - OUTSIDE_OPERATIONS


def test_a_name_stands_for_one_operation(shown: dict[str, Any]) -> None:
    names = Counter(one["operationId"] for _, _, one in each(shown) if "operationId" in one)
    assert set(names.values()) == {1}
    assert "operationId" not in shown["paths"]["/api/deactivate"]["post"]


def test_secrets_in_headers_are_declared(shown: dict[str, Any]) -> None:
    declared = {path: one["security"] for path, _, one in each(shown) if "security" in one}
    assert declared == {
        "/v1/devices": [{"licenseKey": []}],
        "/v1/devices/{deviceId}": [{"licenseKey": []}],
        "/v1/heartbeat": [{"deviceToken": []}, {}],
    }
    assert set(shown["components"]["securitySchemes"]) == {"licenseKey", "deviceToken"}


def test_limits_of_members_are_told_in_the_words_of_json_schema(shown: dict[str, Any]) -> None:
    fingerprint = shown["components"]["schemas"]["ActivateBody"]["properties"]["fingerprint"]

    assert fingerprint == {
        "type": "string",
        "minLength": 1,
        "maxLength": 256,
        "pattern": r"^[^\x00-\x1f\x7f-\x9f]*$",
    }
    assert "(?!" not in json.dumps(shown)


def test_what_an_answer_does_not_have_is_left_out_and_never_null(shown: dict[str, Any]) -> None:
    schemas = shown["components"]["schemas"]

    assert schemas["AliveAnswer"]["properties"]["lease"] == {"type": "string"}
    assert {"type": "null"} in schemas["HeartbeatBody"]["properties"]["nonce"]["anyOf"]


def test_an_operation_that_says_less_gives_another_document() -> None:
    first, *others = operations()
    assert first.refusals
    assert document([replace(first, refusals=()), *others]) != whole()


async def test_a_service_serves_the_document_of_its_own_routes() -> None:
    async def nothing(_request: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    own = Operation("GET", "/v1/things/{thing_id}", "things", in_path={"thing_id": str}, answers={200: int})
    add_routes(app, Metrics(CollectorRegistry()), documented([Route(own, nothing)]))
    async with TestClient(TestServer(app)) as client, client.get("/openapi.json") as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "application/json"
        assert await response.read() == encode(document([own, DOCUMENT]))
        assert list((await response.json())["paths"]) == ["/v1/things/{thingId}", "/openapi.json"]

"""Routes over real HTTP: failures become problem documents, unknown paths too, and everything is measured."""

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator, Iterator

import pytest
import structlog
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request
from prometheus_client import CollectorRegistry

from shared.licensing.codes import Code
from shared.runtime.lifecycle import Readiness
from shared.runtime.logging import configure
from shared.runtime.metrics import Metrics
from shared.runtime.sections import Log
from shared.web import health
from shared.web.endpoints import add_routes, endpoint, json_response
from shared.web.health import Check, health_app
from shared.web.problems import ProblemError
from shared.web.routes import Handler, Operation, Route
from tests.serving import Served, exchange

Client = TestClient[web.Request, web.Application]


async def hello(request: web.Request) -> web.Response:
    return json_response(b'{"hello":"%s"}' % request.match_info.get("name", "you").encode(), 201, {"X-A": "b"})


async def refuse(_request: web.Request) -> web.Response:
    raise ProblemError(Code.DEVICE_LIMIT_EXCEEDED, limit=3)


async def fail(_request: web.Request) -> web.Response:
    raise RuntimeError("postgres://app:hunter2@db/x is down")


def route(method: str, path: str, name: str, handler: Handler) -> Route:
    return Route(Operation(method, path, name), handler)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


@pytest.fixture
async def client(metrics: Metrics) -> AsyncIterator[Client]:
    app = web.Application()
    add_routes(app, metrics, [route("GET", "/v1/hello", "hello", hello), route("POST", "/v1/refuse", "refuse", refuse)])
    add_routes(app, metrics, [route("DELETE", "/v1/hello", "unhello", hello), route("GET", "/v1/d/{name}", "d", hello)])
    add_routes(app, metrics, [route("POST", "/v1/fail", "fail", fail), route("GET", "/", "home", hello)])
    async with TestClient(Served(app)) as opened:
        yield opened


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure(Log(), stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


async def test_a_handlers_answer_goes_out_as_it_is(client: Client) -> None:
    async with client.get("/v1/hello") as response:
        assert response.status == 201
        assert await response.read() == b'{"hello":"you"}'
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-A"] == "b"
        assert response.headers["Server"] == "seatkeeper"


async def test_a_raised_problem_becomes_its_document_in_the_clients_language(client: Client) -> None:
    async with client.post("/v1/refuse", headers={"Accept-Language": "zh-CN"}) as response:
        document = await response.json(content_type="application/problem+json")

    assert (response.status, document["limit"], document["title"]) == (403, 3, "席位已用完")


async def test_an_unknown_failure_is_opaque_and_its_id_is_in_the_log(client: Client, log: io.StringIO) -> None:
    async with client.post("/v1/fail") as response:
        text = await response.text()
    document = json.loads(text)
    (line,) = [json.loads(line) for line in log.getvalue().splitlines()]

    assert (response.status, document["code"]) == (500, "INTERNAL")
    assert "RuntimeError" not in text
    assert (line["id"], line["route"]) == (document["id"], "fail")
    assert "RuntimeError: postgres://app:***@db/x is down" in line["exception"]


async def test_cancellation_passes_through(metrics: Metrics) -> None:
    async def cancelled(_request: web.Request) -> web.Response:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await endpoint(metrics, "c", cancelled)(make_mocked_request("GET", "/"))


@pytest.mark.parametrize("path", ["/nowhere", "/v1", "/v1/hello/", "/v1/hello/there", "/v1//hello", "/%00", "/v1/%ff"])
async def test_an_unknown_path_is_a_problem_document(client: Client, path: str) -> None:
    async with client.get(path) as response:
        document = await response.json(content_type="application/problem+json")

    assert (response.status, document["code"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/v1/hello", "DELETE, GET, HEAD, OPTIONS"),
        ("GET", "/v1/refuse", "OPTIONS, POST"),
        ("HEAD", "/v1/refuse", "OPTIONS, POST"),
        ("PATCH", "/v1/d/pot", "GET, HEAD, OPTIONS"),
        ("POST", "/", "GET, HEAD, OPTIONS"),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(client: Client, method: str, path: str, allow: str) -> None:
    async with client.request(method, path) as response:
        assert response.status == 405
        assert response.headers["Allow"] == allow
        assert response.headers["Content-Type"] == "application/problem+json"


async def test_options_tells_the_methods_and_head_answers_like_get_without_a_body(client: Client) -> None:
    async with client.options("/v1/hello") as options, client.head("/v1/hello") as head:
        assert (options.status, options.headers["Allow"]) == (204, "DELETE, GET, HEAD, OPTIONS")
        assert (head.status, head.headers["Content-Length"], await head.read()) == (201, "15", b"")
    async with client.options("/nowhere") as unknown:
        assert unknown.status == 404


async def test_the_fallback_shadows_no_route(client: Client) -> None:
    async with client.get("/") as home, client.get("/v1/d/pot") as dynamic, client.delete("/v1/hello") as later:
        assert (home.status, dynamic.status, later.status) == (201, 201, 201)
        assert await dynamic.read() == b'{"hello":"pot"}'


@pytest.mark.parametrize(
    "target", ["/v1/hello", "/v1/hello?a=b", "/v1/hello#a", "/v1/%68ello", "http://elsewhere/v1/hello", "/v1/d/you"]
)
@pytest.mark.parametrize("more", ["", "Expect: 100-continue\r\n"])
async def test_a_path_is_found_however_it_is_written(client: Client, target: str, more: str) -> None:
    head = f"GET {target} HTTP/1.1\r\nHost: h\r\n{more}Connection: close\r\n\r\n"

    answered = await exchange(client.server, head.encode())

    assert answered.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 " if more else b"HTTP/1.1 201 ")
    assert answered.endswith(b'{"hello":"you"}')


async def test_a_fixed_path_is_found_without_the_router(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    resolved = []

    async def resolve(_router: web.UrlDispatcher, request: web.Request) -> web.UrlMappingMatchInfo:
        resolved.append(request.path)
        raise web.HTTPGone

    monkeypatch.setattr(web.UrlDispatcher, "resolve", resolve)
    for method, path in [("GET", "/"), ("HEAD", "/v1/hello"), ("DELETE", "/v1/hello"), ("GET", "/v1/d/a")]:
        async with client.request(method, path) as response:
            assert response.status == (410 if path == "/v1/d/a" else 201)

    assert resolved == ["/v1/d/a"]


async def test_a_request_is_the_same_to_its_handler_whichever_way_it_came(metrics: Metrics) -> None:
    async def tell(request: web.Request) -> web.Response:
        match = request.match_info
        return json_response(
            json.dumps([request.app is app, dict(match), match.route.method, match.route.name]).encode()
        )

    app = web.Application()
    add_routes(app, metrics, [route("POST", "/v1/tell", "tell", tell)])
    async with TestClient(Served(app)) as opened:
        for path in ("/v1/tell", "/v1/tell?a=b"):
            async with opened.post(path) as response:
                assert await response.json() == [True, {}, "POST", None]


async def test_a_middleware_sees_every_request(metrics: Metrics) -> None:
    @web.middleware
    async def refuse_all(request: web.Request, handler: Handler) -> web.StreamResponse:
        return web.Response(status=418)

    app = web.Application(middlewares=[refuse_all])
    add_routes(app, metrics, [route("GET", "/v1/hello", "hello", hello)])
    async with TestClient(Served(app)) as opened, opened.get("/v1/hello") as response:
        assert response.status == 418


async def test_requests_are_counted_and_timed_by_route_and_never_by_path(client: Client, metrics: Metrics) -> None:
    for method, path in [("GET", "/v1/d/a"), ("GET", "/v1/d/b"), ("POST", "/v1/refuse"), ("GET", "/nowhere")]:
        async with client.request(method, path):
            pass

    rendered = metrics.render().decode()
    assert 'seatkeeper_http_requests_total{route="d",status="201"} 2.0' in rendered
    assert 'seatkeeper_http_requests_total{route="refuse",status="403"} 1.0' in rendered
    assert 'seatkeeper_http_requests_total{route="unmatched",status="404"} 1.0' in rendered
    assert 'seatkeeper_http_request_seconds_count{route="d"} 2.0' in rendered
    assert 'seatkeeper_http_request_seconds_bucket{le="+Inf",route="d"} 2.0' in rendered
    assert "nowhere" not in rendered


def test_buckets_are_cumulative_and_a_bound_belongs_to_its_bucket() -> None:
    metrics = Metrics(CollectorRegistry())
    for seconds in (0.001, 0.002, 99.0):
        metrics.route("r").observe(200, seconds)

    value = metrics.registry.get_sample_value
    name = "seatkeeper_http_request_seconds"
    assert value(f"{name}_bucket", {"route": "r", "le": "0.001"}) == 1
    assert value(f"{name}_bucket", {"route": "r", "le": "10.0"}) == 2
    assert value(f"{name}_bucket", {"route": "r", "le": "+Inf"}) == 3
    assert value(f"{name}_sum", {"route": "r"}) == pytest.approx(99.003)


def test_other_rooms_add_their_metrics_to_the_same_registry(metrics: Metrics) -> None:
    metrics.counter("seats_granted", "Seats granted.", ("kind",)).labels("new").inc()
    metrics.gauge("queue_length", "Waiting commands.").set(4)
    metrics.histogram("batch_size", "Commands in a batch.", buckets=(1, 10)).observe(5)

    rendered = metrics.render().decode()
    assert 'seatkeeper_seats_granted_total{kind="new"} 1.0' in rendered
    assert "seatkeeper_queue_length 4.0" in rendered
    assert 'seatkeeper_batch_size_bucket{le="10.0"} 1.0' in rendered


async def well() -> str | None:
    return None


async def behind() -> str | None:
    return "behind by 9 s"


async def stuck() -> str | None:
    await asyncio.sleep(60)
    return None


async def broken() -> str | None:
    raise ConnectionError("postgres://app:hunter2@db")


async def get(metrics: Metrics, state: Readiness, checks: dict[str, Check], path: str) -> tuple[int, str]:
    async with TestClient(TestServer(health_app(metrics, checks, state))) as opened, opened.get(path) as response:
        return response.status, await response.text()


async def test_readiness_lists_each_check(metrics: Metrics, monkeypatch: pytest.MonkeyPatch, log: io.StringIO) -> None:
    monkeypatch.setattr(health, "CHECK_TIMEOUT_S", 0.05)
    state = Readiness()
    state.phase = "serving"
    checks: dict[str, Check] = {"a": well, "b": behind, "c": stuck, "d": broken}

    status, text = await get(metrics, state, checks, "/readyz")

    assert status == 503
    assert json.loads(text) == {
        "status": "not ready",
        "checks": {"a": "ok", "b": "behind by 9 s", "c": "timeout", "d": "failed: ConnectionError"},
    }
    assert "hunter2" not in log.getvalue()


@pytest.mark.parametrize(("phase", "status"), [("starting", 503), ("serving", 200), ("draining", 503)])
async def test_readiness_follows_the_phase_and_liveness_does_not(metrics: Metrics, phase: str, status: int) -> None:
    state = Readiness()
    state.phase = phase  # type: ignore[assignment]

    assert (await get(metrics, state, {"a": well}, "/readyz"))[0] == status
    assert (await get(metrics, state, {"a": broken}, "/healthz"))[0] == 200


async def test_metrics_are_scraped_from_the_health_port(metrics: Metrics) -> None:
    metrics.route("r").observe(200, 0.1)

    status, text = await get(metrics, Readiness(), {}, "/metrics")

    assert status == 200
    assert 'seatkeeper_http_requests_total{route="r",status="200"} 1.0' in text

"""The life of a process, watched from outside: signals, draining, ports that are taken."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SERVICE = textwrap.dedent("""
    import asyncio, sys
    from aiohttp import web
    from prometheus_client import CollectorRegistry
    from shared.runtime.lifecycle import Readiness, run, serve
    from shared.runtime.logging import configure
    from shared.runtime.metrics import Metrics
    from shared.runtime.sections import Log, Server
    from shared.web.endpoints import add_routes, json_response
    from shared.web.health import health_app
    from shared.web.routes import Operation, Route

    port, health_port, drain_s = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])

    async def slow(request):
        print("in flight", flush=True)
        await asyncio.sleep(float(request.query["s"]))
        return json_response(b'{"done":true}')

    async def resource(app):
        yield
        print("cleaned up", flush=True)

    async def main(stop):
        metrics = Metrics(CollectorRegistry())
        app = web.Application()
        app.cleanup_ctx.append(resource)
        add_routes(app, metrics, [Route(Operation("GET", "/slow", "slow"), slow)])
        server = Server(host="127.0.0.1", port=port, health_host="127.0.0.1", health_port=health_port, drain_s=drain_s)
        await serve(app, server, health_app(metrics, {}, Readiness()), stop)

    async def broken(stop):
        raise RuntimeError("cannot reach postgres://app:hunter2@db/x")

    configure(Log())
    raise SystemExit(run(broken if drain_s < 0 else main))
""")
Start = Callable[..., subprocess.Popen[str]]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def begin(port: int, health_port: int, drain_s: float = 5.0) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", SERVICE, str(port), str(health_port), str(drain_s)]
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ, cwd=ROOT
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def wait_for(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return line
    raise AssertionError(f"the process ended before it said {text!r}")


def get(port: int, path: str) -> tuple[int, dict[str, Any]]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


class Asked:
    """A request in a thread of its own, so that the test can go on."""

    def __init__(self, port: int, path: str) -> None:
        self.answer: tuple[int, dict[str, Any]] | None = None
        self.failure: Exception | None = None
        self._thread = Thread(target=self._ask, args=(port, path))
        self._thread.start()

    def _ask(self, port: int, path: str) -> None:
        try:
            self.answer = get(port, path)
        except Exception as error:
            self.failure = error

    def join(self) -> None:
        self._thread.join(15)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_the_request_in_flight_and_refuses_new_ones(start: Start, number: signal.Signals) -> None:
    port, health_port = free_port(), free_port()
    process = start(port, health_port)
    wait_for(process, "serving")
    assert get(health_port, "/readyz") == (200, {"status": "ready", "checks": {}})

    asked = Asked(port, "/slow?s=1")
    wait_for(process, "in flight")
    process.send_signal(number)
    time.sleep(0.3)
    process.send_signal(number)  # a second signal changes nothing

    assert get(health_port, "/readyz")[0] == 503
    assert get(health_port, "/healthz")[0] == 200
    with pytest.raises(ConnectionError):
        get(port, "/slow?s=0")
    asked.join()
    assert asked.answer == (200, {"done": True})
    out, err = process.communicate(timeout=10)
    assert "cleaned up" in out
    assert (process.returncode, err) == (0, "")


def test_a_request_in_flight_is_told_that_its_connection_ends(start: Start) -> None:
    port = free_port()
    process = start(port, free_port())
    wait_for(process, "serving")
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/slow?s=0.6")
    wait_for(process, "in flight")
    process.terminate()

    response = connection.getresponse()
    assert (response.status, response.getheader("Connection")) == (200, "close")


def test_an_idle_connection_may_still_ask_once_in_the_moment_of_the_drain(start: Start) -> None:
    """Its request may be on the way already when the signal comes."""
    port = free_port()
    process = start(port, free_port())
    wait_for(process, "serving")
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/slow?s=0")
    assert connection.getresponse().read() == b'{"done":true}'
    process.terminate()
    wait_for(process, "draining")
    connection.request("GET", "/slow?s=0")

    response = connection.getresponse()
    assert (response.status, response.getheader("Connection")) == (200, "close")


def test_an_idle_service_stops_at_once_despite_open_connections(start: Start) -> None:
    port = free_port()
    process = start(port, free_port(), 30.0)
    wait_for(process, "serving")
    with socket.create_connection(("127.0.0.1", port)):
        begun = time.monotonic()
        process.terminate()

        assert process.wait(10) == 0
    assert time.monotonic() - begun < 3


def test_a_request_that_outlives_the_drain_is_cut_off(start: Start) -> None:
    port = free_port()
    process = start(port, free_port(), 0.3)
    wait_for(process, "serving")
    asked = Asked(port, "/slow?s=60")
    wait_for(process, "in flight")
    begun = time.monotonic()
    process.terminate()

    out, _ = process.communicate(timeout=10)
    assert time.monotonic() - begun < 4
    assert process.returncode == 0
    assert "requests cut off" in out
    assert "cleaned up" in out
    asked.join()
    assert asked.answer is None


@pytest.mark.parametrize("taken", ["public", "health"])
def test_a_taken_port_is_told_in_one_line(start: Start, taken: str) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        process = start(port, free_port()) if taken == "public" else start(free_port(), port)
        out, err = process.communicate(timeout=10)

    assert process.returncode == 1
    assert err.splitlines() == [f"cannot listen on 127.0.0.1:{port}: Address already in use"]
    assert "Traceback" not in out


def test_a_failure_of_the_service_is_logged_redacted_with_exit_code_1(start: Start) -> None:
    process = start(free_port(), free_port(), -1)

    out, err = process.communicate(timeout=10)

    assert process.returncode == 1
    assert "RuntimeError: cannot reach postgres://app:***@db/x" in json.loads(out)["exception"]
    assert "hunter2" not in out + err

"""The life of a service process: start, serve, drain, stop.

Rules: SIGTERM and SIGINT set one event, a second signal changes nothing. Draining has a fixed order: readiness turns
false, the public port closes, each answer says that it is its connection's last, after a moment idle connections are
closed, requests in flight get up to `drain_s`, the application cleans up (the reverse of its
start-up), the health port closes last. What cannot start is told in one line.
"""

import asyncio
import gc
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, Literal

import structlog
import uvloop
from aiohttp import web

from shared.runtime.sections import Server
from shared.web.connections import PROTOCOL_OPTIONS, Runner

__all__ = ["PROTOCOL_OPTIONS", "READINESS", "Readiness", "StartError", "run", "serve"]

BACKLOG = 2048
OTHER_FILES = 1024  # beside the connections, and those that are accepted while room is made
GRACE_S = 0.25  # requests may be on the way already when the drain begins
CUT_OFF_S = 0.5  # what is left to a handler that outlived the drain, before it is cancelled
_log = structlog.stdlib.get_logger(__name__)


class StartError(Exception):
    """The service cannot start, for a reason that the operator can mend; the text is one line."""


class Readiness:
    """What `/readyz` says: `starting`, `serving` or `draining`."""

    __slots__ = ("phase",)

    def __init__(self) -> None:
        self.phase: Literal["starting", "serving", "draining"] = "starting"


READINESS = web.AppKey("readiness", Readiness)


def run(main: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> int:
    """Run `main(stop)` on uvloop until it returns; the exit code. `stop` is set by SIGTERM and SIGINT."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_until_stopped(main))
    except StartError as failure:
        print(failure, file=sys.stderr)
        return 1
    except Exception:
        _log.exception("service failed")
        return 1
    return 0


async def serve(app: web.Application, server: Server, health: web.Application | None, stop: asyncio.Event) -> None:
    """Serve `app`, and `health` on its own port, until `stop` is set; then drain."""
    readiness = health.get(READINESS) if health is not None else None
    _allow_files(server.max_connections + BACKLOG + OTHER_FILES)
    async with AsyncExitStack() as stack:
        if health is not None:
            await _listen(stack, health, server, server.health_host, server.health_port)
        public = await _listen(stack, app, server, server.host, server.port)
        _enter(readiness, "serving")
        _settle_garbage_collector()
        _log.info("serving", addresses=[list(address[:2]) for address in public.addresses])
        await stop.wait()
        _enter(readiness, "draining")
        _log.info("draining")
        await _drain(public, server.drain_s)
    _log.info("stopped")


def _settle_garbage_collector() -> None:
    """What was made by now lives as long as the process; requests leave few cycles, so look for them rarely."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)


async def _until_stopped(main: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await main(stop)


def _allow_files(wanted: int) -> None:
    """Every connection is a file, of which a process may often open but 1,024 unless it asks for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
    if hard < wanted:
        _log.warning("too few open files are allowed for all connections", allowed=hard, wanted=wanted)


async def _listen(stack: AsyncExitStack, app: web.Application, server: Server, host: str, port: int) -> Runner:
    runner = Runner(app, server, shutdown_timeout_s=CUT_OFF_S)
    stack.push_async_callback(runner.cleanup)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=BACKLOG, reuse_port=server.reuse_port or None).start()
    except OSError as error:
        raise StartError(f"cannot listen on {host}:{port}: {_reason(error)}") from None
    return runner


async def _drain(runner: Runner, drain_s: float) -> None:
    """Close the listening sockets, after a moment the idle connections, and wait for the busy ones."""
    if (connections := runner.connections) is None:
        return
    connections.ending = True
    for site in list(runner.sites):
        await site.stop()
    if connections.connections:
        await asyncio.sleep(GRACE_S)
    connections.pre_shutdown()
    try:
        async with asyncio.timeout(drain_s):
            await connections.shutdown(drain_s + 1)
    except TimeoutError:
        _log.warning("requests cut off at the end of the drain", connections=len(connections.connections))


def _reason(error: OSError) -> str:
    if isinstance(error, socket.gaierror) or error.errno is None:
        return error.strerror or str(error)
    return os.strerror(error.errno)


def _enter(readiness: Readiness | None, phase: Literal["serving", "draining"]) -> None:
    if readiness is not None:
        readiness.phase = phase

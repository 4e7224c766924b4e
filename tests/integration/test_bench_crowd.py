"""The crowd that overloads a service: every client comes when it is due, and what becomes of each is told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from tests.bench import crowd as module
from tests.bench.crowd import Phase, crowd

Handler = Callable[[web.Request], Awaitable[web.Response]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def test_each_phase_has_its_own_answers_by_status() -> None:
    seen: list[bytes] = []

    async def handle(request: web.Request) -> web.Response:
        seen.append(await request.read())
        return web.Response(status=201 if seen[-1].startswith(b"good") else 503)

    async with serving(handle) as url:
        quiet, busy = await crowd(url, [b"good @N@", b"bad"], [Phase(100, 0.5), Phase(400, 0.5)])

    assert len(seen) == len(quiet) + len(busy)
    assert 20 < len(quiet) < 90 < len(busy) < 320
    assert {answer.status for answer in busy} == {201, 503}
    assert [answer.due_s for answer in quiet] == sorted(answer.due_s for answer in quiet)
    assert len({body for body in seen if body != b"bad"}) == sum(answer.granted for answer in quiet + busy)


async def test_who_waits_too_long_hangs_up_and_counts_from_when_it_was_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.3)
    monkeypatch.setattr(module, "CONNECTIONS", 2)

    async def handle(_request: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    async with serving(handle) as url:
        [answers] = await crowd(url, [b"{}"], [Phase(100, 0.3)])

    assert answers
    assert {answer.status for answer in answers} == {0}
    assert all(0.3 < answer.waited_s < 1 for answer in answers)


async def test_a_slow_answer_delays_nobody_else() -> None:
    slow = iter([0.5])

    async def handle(_request: web.Request) -> web.Response:
        await asyncio.sleep(next(slow, 0))
        return web.Response()

    async with serving(handle) as url:
        [answers] = await crowd(url, [b"{}"], [Phase(200, 0.5)])

    assert sum(answer.waited_s > 0.4 for answer in answers) == 1


async def test_it_ends_when_it_is_told_to() -> None:
    ended = asyncio.Event()

    async def handle(_request: web.Request) -> web.Response:
        ended.set()
        return web.Response()

    async with serving(handle) as url, asyncio.timeout(5):
        [answers] = await crowd(url, [b"{}"], [Phase(100, 600)], ended=ended)

    assert answers

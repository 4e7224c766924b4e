"""Loads against real connections: a stall is seen as one, and no answer is lost in silence or taken for another."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests import servers
from tests.bench.load import LoadError, load
from tests.bench.open_loop import Latencies, open_loop

STALL_S = 0.4

Answer = Callable[[asyncio.StreamWriter, int], Awaitable[None]]


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[str]:
    """A server that has each request, by its number, answered."""
    count = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(2)
                count += 1
                await answer(writer, count)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/validate"


async def grant(writer: asyncio.StreamWriter, _number: int) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")


async def measured(url: str, folder: Path, *, rate: float, seconds: float, connections: int) -> Latencies:
    bodies = folder / "bodies.jsonl"
    bodies.write_text("{}\n")
    return await asyncio.to_thread(open_loop, url, bodies, rate=rate, seconds=seconds, connections=connections)


async def test_a_stall_is_felt_by_all_who_were_due_meanwhile(tmp_path: Path) -> None:
    async def stall_once(writer: asyncio.StreamWriter, number: int) -> None:
        if number == 300:
            time.sleep(STALL_S)  # noqa: ASYNC251 - the whole server stands still
        await grant(writer, number)

    async with serving(stall_once) as url:
        found = await measured(url, tmp_path, rate=500, seconds=2, connections=1)
    assert found.sent == pytest.approx(1000, rel=0.15)
    assert found.p99_ms > 1000 * STALL_S * 0.8  # one request alone would be a thousandth of them
    assert found.p50_ms < 1000 * STALL_S / 4


async def test_a_lost_answer_fails_the_run(tmp_path: Path) -> None:
    async def lose_one(writer: asyncio.StreamWriter, number: int) -> None:
        if number == 50:
            writer.close()
        else:
            await grant(writer, number)

    async with serving(lose_one) as url:
        with pytest.raises(LoadError, match="lost"):
            await measured(url, tmp_path, rate=200, seconds=1, connections=4)


async def test_a_refusal_fails_the_run(tmp_path: Path) -> None:
    async def refuse_one(writer: asyncio.StreamWriter, number: int) -> None:
        if number == 50:
            writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\n{}")
        else:
            await grant(writer, number)

    async with serving(refuse_one) as url:
        with pytest.raises(LoadError, match="'503': 1"):
            await measured(url, tmp_path, rate=200, seconds=1, connections=4)


async def test_wrk_reads_what_each_answer_holds(tmp_path: Path) -> None:
    servers.require("wrk", package="wrk")
    bodies = tmp_path / "bodies.jsonl"
    bodies.write_text("{}\n")

    async def hold_less_once(writer: asyncio.StreamWriter, number: int) -> None:
        body = b"[yes]     " if number == 20 else b"[yes][yes]"
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n" + body)

    async with serving(hold_less_once) as url:
        with pytest.raises(LoadError, match="Wrong answers: 1"):
            await asyncio.to_thread(load, url, bodies, connections=2, seconds=1, each_holds=("yes", 2))
        run = await asyncio.to_thread(load, url, bodies, connections=2, seconds=1, each_holds=("yes", 2))
        assert run.requests > 20
        with pytest.raises(LoadError):
            await asyncio.to_thread(load, url, bodies, connections=2, seconds=1, refused=True)

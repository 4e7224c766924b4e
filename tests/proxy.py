"""A way to Postgres that breaks at COMMIT: just before the server gets it, or just after it was obeyed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum, auto
from urllib.parse import parse_qs, urlsplit, urlunsplit

_COMMIT = b"COMMIT\x00"
_CHUNK = 65_536


class Cut(Enum):
    BEFORE_COMMIT = auto()
    AFTER_COMMIT = auto()


class Proxy:
    """Passes everything on. `cut` breaks the connection of the next COMMIT, once."""

    def __init__(self, target_dsn: str) -> None:
        self._target = urlsplit(target_dsn)
        self.cut: Cut | None = None
        self._server: asyncio.Server | None = None
        self._passing: set[asyncio.Task[None]] = set()

    @property
    def dsn(self) -> str:
        """The target's DSN, by way of this proxy."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        place = f"{self._target.netloc.rpartition('@')[0]}@127.0.0.1:{port}"
        return urlunsplit(self._target._replace(netloc=place, query="sslmode=disable"))

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._passing:
            task.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)

    async def _pass_on(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._passing.add(task)
        server_in, server_out = await self._connect()
        answers = asyncio.create_task(_pump(server_in, client_out))
        try:
            while chunk := await client_in.read(_CHUNK):
                if self.cut is not None and _COMMIT in chunk:
                    answers.cancel()
                    await self._break(chunk, server_in, server_out)
                    return
                server_out.write(chunk)
                await server_out.drain()
        except ConnectionError:
            return
        finally:
            answers.cancel()
            client_out.close()
            server_out.close()
            self._passing.discard(task)

    async def _break(self, chunk: bytes, server_in: asyncio.StreamReader, server_out: asyncio.StreamWriter) -> None:
        cut, self.cut = self.cut, None
        await asyncio.sleep(0)  # lets the other direction stop reading
        if cut is Cut.AFTER_COMMIT:
            server_out.write(chunk)
            assert b"COMMIT" in await server_in.read(_CHUNK)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        query = parse_qs(self._target.query)
        port = int(query.get("port", [self._target.port or 5432])[0])
        if "host" in query:
            return await asyncio.open_unix_connection(f"{query['host'][0]}/.s.PGSQL.{port}")
        return await asyncio.open_connection(self._target.hostname, port)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while chunk := await source.read(_CHUNK):
        sink.write(chunk)
        await sink.drain()
    sink.close()


@asynccontextmanager
async def open_proxy(target_dsn: str) -> AsyncIterator[Proxy]:
    proxy = Proxy(target_dsn)
    await proxy.open()
    try:
        yield proxy
    finally:
        await proxy.close()

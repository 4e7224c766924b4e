"""An application served by the product's own runner, for tests over real HTTP."""

import asyncio
from typing import Any

from aiohttp.test_utils import BaseTestServer, TestServer
from aiohttp.web_runner import BaseRunner

from shared.runtime.sections import Server
from shared.web.connections import Runner


class Served(TestServer):
    """Requests take the same way through it as through a service."""

    async def _make_runner(self, **_: Any) -> BaseRunner:
        return Runner(self.app, Server(), shutdown_timeout_s=0.5)


async def exchange(server: BaseTestServer, sent: bytes) -> bytes:
    """What is answered to these very bytes, until the connection ends; the last request must ask for that."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        writer.write(sent)
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()

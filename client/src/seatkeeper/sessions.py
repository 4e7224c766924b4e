"""aiohttp made to do one thing at a time: a connection for each request, by way of a proxy or not, and no more."""

from types import SimpleNamespace

import aiohttp
import aiohttp_socks

from seatkeeper.failures import Lost
from seatkeeper.proxies import Proxy


class Trail:
    """How far a request came. It goes with it as `trace_request_ctx`."""

    connected = False
    """The way to the server stands: through the tunnel, and with TLS on."""


def open_session(proxy: Proxy | None) -> aiohttp.ClientSession:
    """Inside the event loop that uses it. It keeps no time: who sends does."""
    return aiohttp.ClientSession(
        connector=_connector(proxy),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        auto_decompress=False,
        trace_configs=[_tracing()],
        middlewares=[_no_second_try],
    )


def _connector(proxy: Proxy | None) -> aiohttp.TCPConnector:
    if proxy is not None and proxy.scheme == "socks5":
        return aiohttp_socks.ProxyConnector(
            host=proxy.host,
            port=proxy.port,
            username=proxy.username,
            password=proxy.password,
            rdns=True,
            force_close=True,
            limit=0,
        )
    return aiohttp.TCPConnector(resolver=aiohttp.ThreadedResolver(), use_dns_cache=False, force_close=True, limit=0)


def _tracing() -> aiohttp.TraceConfig:
    async def connected(_session: object, context: SimpleNamespace, _parameters: object) -> None:
        context.trace_request_ctx.connected = True

    tracing = aiohttp.TraceConfig()
    tracing.on_connection_create_end.append(connected)
    return tracing


async def _no_second_try(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """aiohttp sends some methods again by itself where a connection ends; what it does not know passes it by."""
    try:
        return await handler(request)
    except (aiohttp.ClientError, OSError) as error:
        raise Lost(error) from None

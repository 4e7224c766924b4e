"""What the libraries of `seatkeeper.http` raise, told as `TransportError`: of which kind, and what to do.

The libraries' own errors hold headers, hence license keys and passwords of proxies; nothing of them is passed on but
names of hosts and the system's words.
"""

import errno
import ssl

import aiohttp
import aiohttp_socks

from seatkeeper import tls
from seatkeeper.errors import TransportError
from seatkeeper.proxies import Proxy
from seatkeeper.system_words import system_words
from seatkeeper.texts import Sentence

_BY_STATUS = {
    401: "error.proxy.credentials",
    403: "error.proxy.forbidden",
    407: "error.proxy.credentials",
    502: "error.proxy.not_reached",
    503: "error.proxy.not_reached",
    504: "error.proxy.no_answer",
}
_BY_REPLY = {
    1: "error.socks.failed",
    2: "error.socks.forbidden",
    3: "error.socks.no_route",
    4: "error.socks.not_reached",
    5: "error.socks.refused",
}
"""The reply codes of RFC 1928."""

_NO_NAME = aiohttp.InvalidURL | UnicodeError


class Lost(Exception):  # noqa: N818 - an envelope, see `seatkeeper.http`
    """Carries the error of a try past aiohttp, which would send some methods again by itself."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


def translate(
    error: Exception, *, host: str, proxy: Proxy | None, encrypted: bool, connected: bool, timeout_s: float
) -> TransportError:
    """`connected` says that the way to the server stood: before that, nothing of the request can have been sent."""
    if isinstance(error, Lost):
        error = error.error
    kind, said = (
        _of_tls(error, host)
        or _of_handshake(error, host, encrypted, connected)
        or _of_time(error, host, proxy, connected, timeout_s)
        or _of_proxy(error, host, proxy, connected)
        or _of_server(error, host, encrypted, connected)
    )
    return TransportError(said, kind=kind, sent=connected)


def proxy_said(status: int, host: str, proxy: Proxy) -> Sentence:
    key = _BY_STATUS.get(status, "error.proxy.status")
    return Sentence(key, proxy=proxy.address, host=host, status=status)


_Told = tuple[str, Sentence]


def _of_tls(error: Exception, host: str) -> _Told | None:
    # aiohttp's TLS errors are SSLErrors themselves, without the reason that the one within them has
    causes = (getattr(error, "certificate_error", None), getattr(error, "os_error", None), error.__cause__, error)
    found = next((cause for cause in causes if isinstance(cause, ssl.SSLError)), None)
    if found is None:
        return None
    return "tls", tls.explain(found, getattr(error, "host", None) or host)


def _of_handshake(error: Exception, host: str, encrypted: bool, connected: bool) -> _Told | None:
    """asyncio's word for an end within the handshake is a reset without a number."""
    reset = error if isinstance(error, ConnectionResetError) else error.__cause__
    is_reset = isinstance(reset, ConnectionResetError) and reset.errno is None
    if connected or not encrypted or not is_reset or isinstance(error, aiohttp.ClientProxyConnectionError):
        return None
    return "tls", Sentence("error.tls.hung_up", host=host)


def _of_time(error: Exception, host: str, proxy: Proxy | None, connected: bool, timeout_s: float) -> _Told | None:
    is_time = isinstance(error, TimeoutError | aiohttp_socks.ProxyTimeoutError)
    if not is_time and getattr(error, "errno", None) != errno.ETIMEDOUT:
        return None
    if connected:
        return "timeout", Sentence("error.timeout.answer", host=host, seconds=timeout_s)
    if proxy is None:
        return "timeout", Sentence("error.timeout.connection", host=host, seconds=timeout_s)
    return "timeout", Sentence("error.timeout.proxy", host=host, seconds=timeout_s, proxy=proxy.address)


def _of_proxy(error: Exception, host: str, proxy: Proxy | None, connected: bool) -> _Told | None:
    if proxy is None or connected or isinstance(error, _NO_NAME):
        return None
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return "proxy", proxy_said(error.status, host, proxy)
    if isinstance(error, aiohttp_socks.ProxyError):
        return "proxy", _socks_said(error, host, proxy)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "proxy", Sentence("error.proxy.name", proxy=proxy.address)
    if isinstance(error, aiohttp.ClientProxyConnectionError | aiohttp_socks.ProxyConnectionError):
        return "proxy", Sentence("error.proxy.connect", proxy=proxy.address)
    return "proxy", Sentence("error.proxy.broke", proxy=proxy.address)


def _socks_said(error: aiohttp_socks.ProxyError, host: str, proxy: Proxy) -> Sentence:
    if "authentication" in str(error):
        return Sentence("error.socks.credentials", proxy=proxy.address)
    return Sentence(_BY_REPLY.get(error.error_code or 0, "error.socks.none"), proxy=proxy.address, host=host)


def _of_server(error: Exception, host: str, encrypted: bool, connected: bool) -> _Told:
    if isinstance(error, aiohttp.ClientConnectorDNSError | _NO_NAME):
        return "dns", Sentence("error.dns", host=host)
    if isinstance(error, aiohttp.ClientConnectorError) or not connected:
        return "connect", Sentence("error.connect", host=host, why=system_words(error))
    if isinstance(error, aiohttp.ClientResponseError):
        return "malformed", Sentence("error.answer.not_http", host=host)
    # a TLS 1.3 server learns after the handshake that a certificate is missing, and its word may be lost in the reset
    return "reset", Sentence("error.reset.encrypted" if encrypted else "error.reset", host=host)

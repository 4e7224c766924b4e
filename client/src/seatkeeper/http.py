"""The transport over aiohttp: one try, on a connection of its own.

Rules:
- A fresh connection for each try: heartbeats are hours apart, and an answer that belongs to another call is impossible.
- No redirects, no cookies, no compression, no second try, and no settings from the environment but the proxy's
  (`seatkeeper.proxies`) and the trusted roots (`seatkeeper.tls`).
- Names are resolved by the system at each try, or by a proxy: never by both.
- An error leaves as `TransportError` without the library's, which holds headers and so keys and passwords.
"""

import asyncio
import base64
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import aiohttp_socks

from seatkeeper import failures, proxies, tls
from seatkeeper.errors import ConfigurationError, TransportError
from seatkeeper.proxies import Proxy
from seatkeeper.sessions import Trail, open_session
from seatkeeper.texts import Sentence
from seatkeeper.transport import LONGEST_ANSWER, Request, Response

USER_AGENT = "seatkeeper-client"

_RAISED = (aiohttp.ClientError, OSError, EOFError, UnicodeError, failures.Lost)
_RAISED_BY_SOCKS = (aiohttp_socks.ProxyError, aiohttp_socks.ProxyConnectionError, aiohttp_socks.ProxyTimeoutError)


class HttpTransport:
    """`url` is the server's, with a path where it lives below one. For one event loop at a time.

    `proxy` is an address or `direct`; without it the environment decides. The files are PEM. Raises
    `ConfigurationError` for what cannot be used, and for http:// to another machine unless `insecure`.
    """

    def __init__(
        self,
        url: str,
        *,
        proxy: str | None = None,
        ca_file: str | Path | None = None,
        client_cert: str | Path | None = None,
        client_key: str | Path | None = None,
        user_agent: str = USER_AGENT,
        insecure: bool = False,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        environ = os.environ if environ is None else environ
        self.url = read_url(url)
        self.proxy = proxies.choose(self.url, environ, proxy)
        tls.check_clear_text(self.url, self.proxy, environ, insecure=insecure)
        self._target = urlsplit(self.url)
        self._user_agent = user_agent
        encrypted = "https" in (self._target.scheme, self.proxy and self.proxy.scheme)
        self._context = tls.make_context(ca_file, client_cert, client_key) if encrypted else None
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"HttpTransport({self.url!r}, proxy={self.proxy!r})"

    async def send(self, request: Request) -> Response:
        trail = Trail()
        try:
            async with asyncio.timeout(request.timeout_s):
                response = await self._exchange(request, trail)
        except (*_RAISED, *_RAISED_BY_SOCKS) as error:
            failure = failures.translate(
                error,
                host=self._host,
                proxy=self.proxy,
                encrypted=self._target.scheme == "https",
                connected=trail.connected,
                timeout_s=request.timeout_s,
            )
        else:
            self._check_whose(response)
            return response
        raise failure  # outside of the handler, so that the library's error is not its context

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    @property
    def _host(self) -> str:
        return self._target.hostname or ""

    async def _exchange(self, request: Request, trail: Trail) -> Response:
        async with self._opened().request(
            request.method,
            self.url + request.path,
            data=request.body,
            headers=self._headers(request),
            allow_redirects=False,
            ssl=self._context or True,
            proxy=self.proxy.address if self.proxy and self.proxy.scheme != "socks5" else None,
            proxy_headers={"User-Agent": self._user_agent, **_authorization(self.proxy)},
            trace_request_ctx=trail,
        ) as answer:
            return Response(
                status=answer.status,
                headers={name.lower(): value for name, value in answer.headers.items()},
                body=await _whole(answer),
            )

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = open_session(self.proxy)
        return self._session

    def _headers(self, request: Request) -> dict[str, str]:
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": self._user_agent}
        if request.body is not None:
            headers["Content-Type"] = "application/json"
        if self._is_read_by_proxy:
            headers |= _authorization(self.proxy)
        return headers | dict(request.headers)

    @property
    def _is_read_by_proxy(self) -> bool:
        """Requests that an HTTP proxy itself reads and answers; a tunnel's it does not see."""
        return self._target.scheme == "http" and self.proxy is not None and self.proxy.scheme != "socks5"

    def _check_whose(self, response: Response) -> None:
        """A failure that is not JSON comes from the proxy: the server's are problem documents."""
        if self.proxy is None or not self._is_read_by_proxy or response.status < 400:
            return
        if response.status == 407 or "json" not in response.headers.get("content-type", ""):
            said = failures.proxy_said(response.status, self._host, self.proxy)
            raise TransportError(said, kind="proxy", sent=response.status != 407)


def read_url(text: str) -> str:
    """The server's URL without a slash at its end. Raises `ConfigurationError` for what is none."""
    text = text.strip().rstrip("/")
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = None
    if not usable or "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigurationError(Sentence("error.setting.url"))
    return text


def _authorization(proxy: Proxy | None) -> dict[str, str]:
    if proxy is None or proxy.username is None:
        return {}
    pair = f"{proxy.username}:{proxy.password or ''}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


async def _whole(answer: aiohttp.ClientResponse) -> bytes:
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise TransportError(Sentence("error.answer.compressed"), kind="malformed")
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > LONGEST_ANSWER:
            raise TransportError(Sentence("error.answer.too_long"), kind="malformed")
    return bytes(body)

"""Names, port and proxy: how far this machine gets towards the server. Nothing is sent but by the proxy's check."""

import asyncio
import ipaddress
import socket
from urllib.parse import urlsplit

from seatkeeper.command.doctor.finding import Finding, fail, ok, skip, warn
from seatkeeper.command.doctor.subject import Subject
from seatkeeper.errors import ConfigurationError, TransportError
from seatkeeper.hosts import is_loopback
from seatkeeper.proxies import Choice, Proxy, decide
from seatkeeper.system_words import system_words
from seatkeeper.transport import Request

_SHOWN_ADDRESSES = 4


async def names(subject: Subject) -> Finding:
    """IPv4 and IPv6 addresses of the server's name; behind a proxy it is the proxy who asks for them."""
    if subject.host is None:
        return skip("names", "no-url")
    if _literal(subject.host):
        return ok("names", "literal", host=subject.host)
    try:
        found = await addresses(subject.host, subject.port)
    except socket.gaierror as error:
        command = _look_up(subject)
        if chosen(subject).proxy is not None:
            return warn("names", "unknown-behind-proxy", command, host=subject.host)
        return fail("names", "unknown", command, host=subject.host, error=error.strerror)
    shown = ", ".join(found[:_SHOWN_ADDRESSES])
    return ok("names", host=subject.host, addresses=found, shown=shown)


async def port(subject: Subject) -> Finding:
    """Whether something accepts connections there, or at the proxy that stands before it."""
    if subject.host is None:
        return skip("port", "no-url")
    choice = chosen(subject)
    proxy = choice.proxy
    host, number = (subject.host, subject.port) if proxy is None else (proxy.host, proxy.port)
    place = {"host": host, "port": number, "by": choice.by}
    try:
        async with asyncio.timeout(subject.patience_s / 2):
            _, writer = await asyncio.open_connection(host, number)
    except TimeoutError:
        return fail("port", "silent" if proxy is None else "proxy-silent", seconds=subject.patience_s / 2, **place)
    except socket.gaierror:
        return skip("port", "no-name", **place)
    except ConnectionRefusedError:
        return fail("port", "refused" if proxy is None else "proxy-refused", **place)
    except OSError as error:
        code = "unreachable" if proxy is None else "proxy-unreachable"
        return fail("port", code, error=system_words(error), **place)
    writer.close()
    return ok("port", "ok" if proxy is None else "proxy-answers", **place)


async def proxy(subject: Subject) -> Finding:
    """Which proxy is used and what decided so, whether an answer comes through it, and whether it should be none."""
    if subject.url is None or subject.host is None:
        return skip("proxy", "no-url")
    try:
        choice = decide(subject.url, subject.environ, subject.proxy)
    except ConfigurationError as error:
        return fail("proxy", "unreadable", error=error.args[0])
    if choice.proxy is None:
        return ok("proxy", "excepted" if choice.by else "none", by=choice.by, host=subject.host)
    known = {"proxy": choice.proxy.address, "by": choice.by, "host": subject.host}
    if subject.transport is None:
        return skip("proxy", "no-transport")
    try:
        await subject.transport.send(Request(method="GET", path="/registry/nodes", timeout_s=subject.patience_s))
    except TransportError as error:
        return _proxy_failed(subject, choice.proxy, error, known)
    if _is_near(subject.host):
        return warn("proxy", "near", _except(subject), **known)
    return ok("proxy", "used", **known)


def _proxy_failed(subject: Subject, proxy: Proxy, error: TransportError, known: dict[str, str | None]) -> Finding:
    command = _except(subject) if _is_near(subject.host or "") else f"curl -v --proxy {proxy.address} {subject.url}"
    return fail("proxy", "silent" if error.kind == "timeout" else "failed", command, error=error.args[0], **known)


def chosen(subject: Subject) -> Choice:
    """What decides about a proxy; none where that cannot be read, which is the proxy check's to tell."""
    try:
        return decide(subject.url or "", subject.environ, subject.proxy)
    except ConfigurationError:
        return Choice(proxy=None, by=None)


async def addresses(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _is_near(host: str) -> bool:
    """Names and addresses of one's own network, which a proxy of the organisation seldom reaches."""
    if is_loopback(host):
        return True
    if _literal(host):
        return ipaddress.ip_address(host.partition("%")[0]).is_private
    return "." not in host or host.endswith((".local", ".internal", ".lan", ".intranet", ".home.arpa"))


def _look_up(subject: Subject) -> str:
    return f"resolvectl query {subject.host}" if subject.machine.system == "Linux" else f"nslookup {subject.host}"


def _except(subject: Subject) -> str:
    host = urlsplit(subject.url or "").hostname
    if subject.machine.system == "Windows":
        return f'setx NO_PROXY "%NO_PROXY%,{host}"'
    return f'export no_proxy="${{no_proxy:+$no_proxy,}}{host}"'

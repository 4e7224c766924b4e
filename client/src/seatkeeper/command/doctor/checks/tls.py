"""The server's certificates: who made them, how long they last, whether they are trusted here.

The handshake is made as the client makes it, through the HTTP proxy that it would use, since some of those put
certificates of their own in place of the server's. Where it fails on the certificate, a second one that trusts anybody
fetches the chain to look at, and nothing is ever sent over that.
"""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from cryptography import x509

from seatkeeper import tls as client_tls
from seatkeeper.command.doctor.checks.network import chosen
from seatkeeper.command.doctor.finding import Finding, fail, ok, skip, warn
from seatkeeper.command.doctor.subject import Subject
from seatkeeper.errors import ConfigurationError
from seatkeeper.hosts import bracketed
from seatkeeper.proxies import Proxy

SOON_DAYS = 21
_DER = 2


async def tls(subject: Subject) -> Finding:
    if subject.host is None:
        return skip("tls", "no-url")
    if not subject.is_tls:
        return skip("tls", "clear")
    proxy = chosen(subject).proxy
    if proxy is not None and proxy.scheme != "http":
        return skip("tls", "behind-proxy", proxy=proxy.address)
    try:
        trusting = client_tls.make_context(subject.ca_file, subject.client_cert, subject.client_key)
    except ConfigurationError as error:
        return fail("tls", "files", error=error.args[0])
    try:
        return _judge(subject, await _chain(subject, proxy, trusting))
    except ssl.SSLCertVerificationError as error:
        chain = await _chain(subject, proxy, _believing_anybody())
        return _untrusted(subject, chain, error)
    except ssl.SSLError as error:
        return fail("tls", "handshake", error=client_tls.explain(error, subject.host))
    except (OSError, EOFError) as error:
        return skip("tls", "no-connection", host=subject.host, error=type(error).__name__)


def _judge(subject: Subject, chain: list[x509.Certificate]) -> Finding:
    """Of all that the chain holds, the certificate that ends first decides."""
    first = min(chain, key=lambda certificate: certificate.not_valid_after_utc)
    known = _described(subject, chain, first)
    return warn("tls", "soon", **known) if known["days"] < SOON_DAYS else ok("tls", **known)


def _untrusted(subject: Subject, chain: list[x509.Certificate], error: ssl.SSLCertVerificationError) -> Finding:
    code = {
        9: "not-yet",
        10: "expired",
        18: "self-signed",
        19: "unknown-issuer",
        20: "unknown-issuer",
        21: "unknown-issuer",
        62: "wrong-name",
        64: "wrong-name",
    }.get(error.verify_code, "not-trusted")
    worst = min(chain, key=lambda certificate: certificate.not_valid_after_utc)
    command = f"openssl s_client -connect {subject.host}:{subject.port} -servername {subject.host} -showcerts"
    return fail("tls", code, command, error=error.verify_message, **_described(subject, chain, worst))


def _described(subject: Subject, chain: list[x509.Certificate], which: x509.Certificate) -> dict[str, Any]:
    now = datetime.fromtimestamp(subject.clock.wall_s(), UTC)
    ends = which.not_valid_after_utc
    return {
        "host": subject.host,
        "subject": _name(which.subject),
        "issuer": _name(chain[0].issuer),
        "names": ", ".join(_names(chain[0])) or "-",
        "ends": f"{ends:%Y-%m-%d}",
        "days": (ends - now).days,
        "certificates": len(chain),
    }


def _name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(x509.NameOID.COMMON_NAME) or list(name)
    return str(found[0].value) if found else "-"


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(each) for kind in (x509.DNSName, x509.IPAddress) for each in found.get_values_for_type(kind)]


# -- the handshake -------------------------------------------------------------------------------------------------


def _believing_anybody() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _chain(subject: Subject, proxy: Proxy | None, context: ssl.SSLContext) -> list[x509.Certificate]:
    """What the server sent, its own certificate first."""
    async with asyncio.timeout(subject.patience_s / 2), _connected(subject, proxy, context) as writer:
        return [x509.load_der_x509_certificate(each) for each in _sent(writer.get_extra_info("ssl_object"))]


@asynccontextmanager
async def _connected(
    subject: Subject, proxy: Proxy | None, context: ssl.SSLContext
) -> AsyncIterator[asyncio.StreamWriter]:
    host = subject.host or ""
    to = (host, subject.port) if proxy is None else (proxy.host, proxy.port)
    reader, writer = await asyncio.open_connection(*to)
    try:
        if proxy is not None:
            await _open_tunnel(reader, writer, proxy, f"{bracketed(host)}:{subject.port}")
        await writer.start_tls(context, server_hostname=host)
        yield writer
    finally:
        writer.transport.abort()


async def _open_tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, proxy: Proxy, target: str) -> None:
    head = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"
    if proxy.username is not None:
        pair = base64.b64encode(f"{proxy.username}:{proxy.password or ''}".encode()).decode()
        head += f"Proxy-Authorization: Basic {pair}\r\n"
    writer.write(f"{head}\r\n".encode())
    status = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1:2]
    if status != [b"200"]:
        raise ConnectionRefusedError("the proxy refused the tunnel")


def _sent(session: ssl.SSLObject) -> list[bytes]:
    """Python 3.13 tells the chain; the same is there before under a private name, else there is the first alone."""
    if hasattr(session, "get_unverified_chain"):
        return list(session.get_unverified_chain())
    inner = getattr(session, "_sslobj", None)
    if inner is not None and hasattr(inner, "get_unverified_chain"):
        return [certificate.public_bytes(_DER) for certificate in inner.get_unverified_chain()]
    own = session.getpeercert(binary_form=True)
    return [own] if own else []

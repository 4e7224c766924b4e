"""An authority that lives for a test, and TLS in front of a server: with its certificates, for a while, for names."""

import asyncio
import contextlib
import ipaddress
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

LOOPBACK = "127.0.0.1"
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """PEM files of a certificate and of its key."""

    certificate: Path
    key: Path


class Authority:
    """Writes into `folder`; `root` is the file that clients trust."""

    def __init__(self, folder: Path, name: str = "tests") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Authority of {name}")])
        self._issued = 0
        certificate = (
            _builder(self._name, self._name, self._key.public_key(), -_DAY, 30 * _DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.root = folder / f"{name}-root.pem"
        self.root.write_bytes(certificate.public_bytes(Encoding.PEM))

    def issue(
        self,
        *names: str,
        since: timedelta = -_DAY,
        until: timedelta = _DAY,
        key_password: bytes | None = None,
    ) -> Pair:
        """For names and addresses; `since` and `until` are counted from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = (
            _builder(self._name, x509.Name([]), key.public_key(), since, until)
            .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(authority, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self._issued += 1
        pair = Pair(self.root.with_suffix(f".{self._issued}.pem"), self.root.with_suffix(f".{self._issued}.key"))
        pair.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
        hidden = BestAvailableEncryption(key_password) if key_password else NoEncryption()
        pair.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, hidden))
        return pair


class TlsFront:
    """Takes TLS off and passes everything on. `connections` counts those whose handshake succeeded."""

    def __init__(self, pair: Pair, target_port: int, *, clients_root: Path | None = None) -> None:
        self._context = server_context(pair, clients_root=clients_root)
        self._target_port = target_port
        self.port = 0
        self.connections = 0

    @asynccontextmanager
    async def open(self, hosts: Sequence[str] = (LOOPBACK,)) -> AsyncIterator[Self]:
        server = await asyncio.start_server(self._serve, hosts, self.port, ssl=self._context)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        behind, onward = await asyncio.open_connection(LOOPBACK, self._target_port)
        await asyncio.gather(_pass(reader, onward), _pass(behind, writer))


@contextmanager
def telling_handshakes(context: ssl.SSLContext) -> Iterator[int]:
    """A port where handshakes end as OpenSSL ends them, with its alert, and nothing is answered after."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connection.settimeout(5)
                with context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False) as one:
                    with contextlib.suppress(OSError):
                        one.do_handshake()
                    with contextlib.suppress(OSError):
                        socket.socket.recv(one, 65_536)  # what is unread when it closes would reset the alert away

    with socket.create_server((LOOPBACK, 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def server_context(pair: Pair, *, clients_root: Path | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    if clients_root is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients_root)
    return context


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


def _builder(
    issuer: x509.Name, subject: x509.Name, key: ec.EllipticCurvePublicKey, since: timedelta, until: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=key,
        serial_number=x509.random_serial_number(),
        not_valid_before=now + since,
        not_valid_after=now + until,
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)

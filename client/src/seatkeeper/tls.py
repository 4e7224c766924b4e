"""TLS as the client speaks it: whom it trusts, how it shows itself, and what its failures mean for people.

Rules:
- Trusted are the system's roots, what `SSL_CERT_FILE` and `SSL_CERT_DIR` name (OpenSSL's own rule), and `ca_file`.
- TLS 1.2 at least; names and dates are always checked, and nothing switches that off.
- http:// carries keys in clear. It is for loopback, unless `SEATKEEPER_INSECURE_HTTP=1` or `insecure` says otherwise; a
  proxy on another machine is a way out of this one, so that loopback by way of it is no exception.
"""

import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from seatkeeper.errors import ConfigurationError
from seatkeeper.hosts import is_loopback
from seatkeeper.proxies import Proxy
from seatkeeper.system_words import system_words
from seatkeeper.texts import Sentence

INSECURE_VARIABLE = "SEATKEEPER_INSECURE_HTTP"

_BY_VERDICT = {
    9: "error.tls.not_yet",
    10: "error.tls.expired",
    18: "error.tls.self_signed",
    19: "error.tls.untrusted",
    20: "error.tls.unknown_issuer",
    21: "error.tls.incomplete",
    62: "error.tls.other_name",
    64: "error.tls.other_address",
}
"""What is wrong with a certificate, by OpenSSL's X509_V_ERR numbers."""

_BY_ALERT = {
    "CERTIFICATE_REQUIRED": "error.tls.asks",
    "UNKNOWN_CA": "error.tls.client_issuer",
    "BAD_CERTIFICATE": "error.tls.client_bad",
    "CERTIFICATE_EXPIRED": "error.tls.client_expired",
    "CERTIFICATE_REVOKED": "error.tls.client_revoked",
    "HANDSHAKE_FAILURE": "error.tls.refuses",
    "PROTOCOL_VERSION": "error.tls.version",
    "UNSUPPORTED_PROTOCOL": "error.tls.version",
    "WRONG_VERSION_NUMBER": "error.tls.none",
}
"""What the other side said, by a part of OpenSSL's reason."""


def check_clear_text(url: str, proxy: Proxy | None, environ: Mapping[str, str], *, insecure: bool = False) -> None:
    """Raises `ConfigurationError` where a key would leave this machine in clear."""
    parts = urlsplit(url)
    stays_here = is_loopback(parts.hostname or "") and (proxy is None or is_loopback(proxy.host))
    if parts.scheme == "https" or stays_here or insecure or environ.get(INSECURE_VARIABLE) == "1":
        return
    key = "error.setting.clear" if proxy is None else "error.setting.clear_by_proxy"
    raise ConfigurationError(Sentence(key, variable=INSECURE_VARIABLE))


def make_context(
    ca_file: str | Path | None = None, client_cert: str | Path | None = None, client_key: str | Path | None = None
) -> ssl.SSLContext:
    """`client_cert` may hold its key as well; all files are PEM. Raises `ConfigurationError` naming the setting."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file is not None:
        try:
            context.load_verify_locations(cafile=ca_file)
        except OSError as error:
            raise ConfigurationError(_unreadable("ca_file", ca_file, error)) from None
    if client_cert is not None:
        _show_certificate(context, client_cert, client_key)
    elif client_key is not None:
        raise ConfigurationError(Sentence("error.setting.client_key_alone"))
    return context


def explain(error: ssl.SSLError, host: str) -> Sentence:
    """What a failed handshake means, and what to do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        key = _BY_VERDICT.get(error.verify_code, "error.tls.not_accepted")
        return Sentence(key, host=host, why=error.verify_message, advice=Sentence("error.tls.trust"))
    reason = getattr(error, "reason", None) or ""
    key = next((key for part, key in _BY_ALERT.items() if part in reason), "error.tls.broke")
    return Sentence(key, host=host, why=reason or type(error).__name__, advice=Sentence("error.tls.certificate"))


def _show_certificate(context: ssl.SSLContext, certificate: str | Path, key_file: str | Path | None) -> None:
    try:
        context.load_cert_chain(certificate, key_file, password=_no_password)
    except ssl.SSLError as error:
        is_mismatch = "MISMATCH" in (error.reason or "")
        key = "error.setting.client_mismatch" if is_mismatch else "error.setting.client_not_pem"
        raise ConfigurationError(Sentence(key)) from None
    except OSError as error:
        raise ConfigurationError(_unreadable("client_cert or client_key", certificate, error)) from None


def _no_password() -> str:
    raise ConfigurationError(Sentence("error.setting.client_key_encrypted"))


def _unreadable(setting: str, path: str | Path, error: OSError) -> Sentence:
    if isinstance(error, ssl.SSLError):
        return Sentence("error.setting.no_certificates", setting=setting, path=path)
    return Sentence("error.setting.unreadable", setting=setting, path=path, why=system_words(error))

"""Which proxy a URL is reached through. Pure: the environment comes as a mapping.

Rules, which are curl's (`man curl`, "ENVIRONMENT") where nothing else is said:
- A proxy that is given explicitly wins over the environment; `direct` means none.
- Then `http_proxy` or `https_proxy`, by the scheme of the URL, then `all_proxy`. Lower case wins over upper case, what
  is empty counts as absent, and `HTTP_PROXY` is ignored where `REQUEST_METHOD` is set: a CGI's caller could set it.
- `no_proxy` lists what is reached directly; see `seatkeeper.no_proxy`.
- This machine's own loopback is reached through a proxy of the environment only if that is on this machine as well: any
  other could not reach it.
- Schemes are http, https and socks5. `socks5h` and `socks` mean the same as `socks5`: names are always resolved by the
  proxy. Without a scheme it is http; without a port 80, 443 or 1080.
"""

from collections.abc import Mapping
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

from seatkeeper.errors import ConfigurationError
from seatkeeper.hosts import bracketed, is_loopback
from seatkeeper.no_proxy import is_excepted
from seatkeeper.texts import Sentence

DIRECT = "direct"
_SCHEMES = {"http": "http", "https": "https", "socks5": "socks5", "socks5h": "socks5", "socks": "socks5"}
_PORTS = {"http": 80, "https": 443, "socks5": 1080}
_LONGEST_SOCKS_CREDENTIAL = 255


class Proxy(msgspec.Struct, frozen=True, kw_only=True):
    """`scheme` is `http`, `https` or `socks5`; `host` has no brackets. The credentials show nowhere."""

    scheme: str
    host: str
    port: int
    username: str | None = None
    password: str | None = None

    @property
    def address(self) -> str:
        """Its URL without the credentials."""
        return f"{self.scheme}://{bracketed(self.host)}:{self.port}"

    def __repr__(self) -> str:
        return f"Proxy({self.address}{', with credentials' if self.username is not None else ''})"

    __str__ = __repr__


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """`by` is the name of the variable that decided, `proxy` for an explicit one, or None where nothing was set."""

    proxy: Proxy | None
    by: str | None


def choose(url: str, environ: Mapping[str, str], explicit: str | None = None) -> Proxy | None:
    """The proxy for `url`, or None. Raises `ConfigurationError` for a proxy that cannot be read."""
    return decide(url, environ, explicit).proxy


def decide(url: str, environ: Mapping[str, str], explicit: str | None = None) -> Choice:
    """As `choose`, and says what decided."""
    if explicit:
        direct = explicit.strip().lower() == DIRECT
        return Choice(proxy=None if direct else read_proxy(explicit, setting="proxy"), by="proxy")
    target = urlsplit(url)
    variable = _proxy_variable(target.scheme, environ)
    if variable is None:
        return Choice(proxy=None, by=None)
    exceptions = _present("no_proxy", environ)
    port = target.port or _PORTS.get(target.scheme)
    if exceptions is not None and is_excepted(target.hostname or "", port, environ[exceptions]):
        return Choice(proxy=None, by=exceptions)
    proxy = read_proxy(environ[variable], setting=variable)
    if is_loopback(target.hostname or "") and not is_loopback(proxy.host):
        return Choice(proxy=None, by=None)
    return Choice(proxy=proxy, by=variable)


def read_proxy(text: str, *, setting: str) -> Proxy:
    """`[scheme://][user:password@]host[:port]`, where special characters of user and password are percent-encoded."""
    parts = _split(text.strip() if "://" in text else f"http://{text.strip()}")
    if parts is None or not parts.hostname or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ConfigurationError(Sentence("error.setting.proxy", setting=setting))
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None:
        raise ConfigurationError(Sentence("error.setting.proxy_scheme", setting=setting))
    username = None if parts.username is None else unquote(parts.username)
    password = None if parts.username is None else unquote(parts.password or "")
    if scheme == "socks5" and not (_fits_socks(username) and _fits_socks(password)):
        raise ConfigurationError(Sentence("error.setting.proxy_credentials", setting=setting))
    port = _PORTS[scheme] if parts.port is None else parts.port
    return Proxy(scheme=scheme, host=parts.hostname, port=port, username=username, password=password)


# -- variables -----------------------------------------------------------------------------------------------------


def _proxy_variable(scheme: str, environ: Mapping[str, str]) -> str | None:
    return _present(f"{scheme}_proxy", environ) or _present("all_proxy", environ)


def _present(name: str, environ: Mapping[str, str]) -> str | None:
    upper = () if name == "http_proxy" and "REQUEST_METHOD" in environ else (name.upper(),)
    return next((spelling for spelling in (name, *upper) if environ.get(spelling, "").strip()), None)


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        return parts if parts.port != 0 else None
    except ValueError:  # its text may hold a piece of a password
        return None


def _fits_socks(credential: str | None) -> bool:
    return not credential or (credential.isascii() and len(credential) <= _LONGEST_SOCKS_CREDENTIAL)

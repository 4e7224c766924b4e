"""Where Redis is, as the settings say it: one server, the primary that Sentinels name, or a Cluster. Pure.

    redis://[USER:PASSWORD@]HOST:PORT/DB, unix://PATH
    redis+sentinel://[USER:PASSWORD@]HOST:PORT,HOST:PORT/SERVICE[?db=N&sentinel_password=…]
    redis+cluster://[USER:PASSWORD@]HOST:PORT,HOST:PORT

With `rediss` all connections use TLS. User and password are those of the servers. No error repeats what was given:
it may hold a password.
"""

import re
from enum import StrEnum
from typing import NamedTuple
from urllib.parse import parse_qs, unquote

PLAIN = ("redis://", "rediss://", "unix://")
_OPTIONS = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname"})
_OF_SENTINEL = frozenset({"db", "sentinel_username", "sentinel_password"})
_SEVERAL = re.compile(
    r"redis(?P<tls>s?)\+(?P<kind>sentinel|cluster)://(?P<place>[^/?#]*)(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?\Z"
)
_HOST = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::(?P<port>\d{1,5}))?\Z")


class Kind(StrEnum):
    SERVER = "server"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


Place = tuple[str, int]
"""Host and port."""


class Address(NamedTuple):
    """`hosts` are the Sentinels, or some nodes of the Cluster. `url` is the plain URL of one server, whose options hold
    for all; where there are `hosts`, the host in it stands for nothing."""

    kind: Kind
    url: str
    hosts: tuple[Place, ...] = ()
    service: str = ""
    sentinel_username: str | None = None
    sentinel_password: str | None = None


def parse(url: str) -> Address:
    """Raises `ValueError` with a line that says what is wrong."""
    if url.startswith(PLAIN):
        return Address(Kind.SERVER, url)
    found = _SEVERAL.match(url)
    if found is None:
        raise ValueError(
            "the url begins with redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://"
            " (rediss+… for TLS), and has no fragment"
        )
    kind = Kind(found["kind"])
    user, _, hosts = found["place"].rpartition("@")
    path, options = (found["path"] or "").strip("/"), _options(kind, found["query"] or "")
    if kind is Kind.SENTINEL and (not path or "/" in path):
        raise ValueError("after the sentinels comes one /SERVICE, the name under which they watch the primary")
    if kind is Kind.CLUSTER and path not in ("", "0"):
        raise ValueError("a cluster has one database and its url no path")
    places = tuple(_place(host, 26379 if kind is Kind.SENTINEL else 6379) for host in hosts.split(","))
    plain = f"redis{found['tls']}://{user}{'@' if user else ''}localhost/{options.get('db', '0')}"
    passed = "&".join(part for part in (found["query"] or "").split("&") if part.partition("=")[0] in _OPTIONS)
    return Address(
        kind,
        f"{plain}?{passed}" if passed else plain,
        places,
        unquote(path) if kind is Kind.SENTINEL else "",
        options.get("sentinel_username"),
        options.get("sentinel_password"),
    )


def _options(kind: Kind, query: str) -> dict[str, str]:
    known = _OPTIONS | (_OF_SENTINEL if kind is Kind.SENTINEL else frozenset())
    options = {name: values[-1] for name, values in parse_qs(query, keep_blank_values=True).items()}
    if options.keys() - known:
        raise ValueError(f"the url's options are none but {', '.join(sorted(known))}")
    if not options.get("db", "0").isdecimal():
        raise ValueError("the option db is a number")
    return options


def _place(host: str, port: int) -> Place:
    found = _HOST.match(host)
    if found is None or not 0 < int(found["port"] or port) < 65536:
        raise ValueError("hosts are HOST or HOST:PORT with a comma between them, an IPv6 address in brackets")
    return found["v6"] or found["name"], int(found["port"] or port)

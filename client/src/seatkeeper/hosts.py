"""Names and addresses of hosts, as URLs have them. Pure."""

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_loopback(host: str) -> bool:
    found = address(host)
    if found is not None:
        return found.is_loopback
    name = ascii_name(host)
    return name == "localhost" or name.endswith(".localhost")


def address(host: str) -> Address | None:
    """Without a zone, and IPv4 where IPv6 carries it."""
    try:
        found = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def ascii_name(host: str) -> str:
    """A name as DNS knows it, to be compared."""
    try:
        return host.rstrip(".").encode("idna").decode().lower()
    except UnicodeError:
        return host.rstrip(".").lower()


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host

"""What `no_proxy` excepts. Pure.

Entries stand by commas or spaces: `*` for all, a name with all names below it (a leading dot or `*.` changes nothing),
an address or a network (`10.0.0.0/8`, `fd00::/8`); each with a port (`[::1]:443`) for that alone. The rules are curl's.
"""

import ipaddress
import re

from seatkeeper.hosts import address, ascii_name


def is_excepted(host: str, port: int | None, exceptions: str) -> bool:
    return any(_matches(entry, host, port) for entry in re.split(r"[,\s]+", exceptions) if entry)


def _matches(entry: str, host: str, port: int | None) -> bool:
    if entry == "*":
        return True
    name, its_port = _port_apart(entry)
    if its_port is not None and its_port != port:
        return False
    found = address(host)
    if found is not None:
        network = _network(name)
        return network is not None and found in network
    suffix = ascii_name(name.removeprefix("*").removeprefix("."))
    return bool(suffix) and f".{ascii_name(host)}".endswith(f".{suffix}")


def _port_apart(entry: str) -> tuple[str, int | None]:
    """`[::1]:443`, `[::1]`, `::1`, `host:443` and `host` into what stands before the port, without brackets, and it."""
    found = re.fullmatch(r"\[(.+)\](?::(\d+))?|([^:]+):(\d+)", entry)
    if found is None:
        return entry, None
    port = found[2] or found[4]
    return found[1] or found[3], int(port) if port else None


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None

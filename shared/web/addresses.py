"""Whose request it is, by address: the peer's, or the one that a trusted proxy tells.

Rules: `X-Forwarded-For` is believed from trusted proxies alone, and read from the right: each entry was written by the
one that stands after it, so the first address that is no trusted proxy is the client's. What stands further left is
the client's own word. An entry that is no address ends the reading: the proxy that passed it on is as far as is known.
"""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from aiohttp import hdrs, web

LONGEST_CHAIN = 20
UNKNOWN = b"unknown"
"""The one that all share whose address cannot be told, as over a Unix socket."""


class Addresses:
    """Call it with a request: the bytes that its sender is counted by; of an IPv6 address its /64."""

    def __init__(self, trusted_proxies: Sequence[str] = ()) -> None:
        self._trusted = [ip_network(text, strict=False) for text in trusted_proxies]
        self._of_peer = lru_cache(maxsize=4096)(self._counted)

    def __call__(self, request: web.BaseRequest) -> bytes:
        peer = request.remote or ""
        if not self._trusted or hdrs.X_FORWARDED_FOR not in request.headers:
            return self._of_peer(peer)
        told = ",".join(request.headers.getall(hdrs.X_FORWARDED_FOR)).split(",")
        return self._counted(self._sender(peer, told[-LONGEST_CHAIN:]))

    def _sender(self, peer: str, told: Sequence[str]) -> str:
        sender = peer
        for entry in reversed(told):
            if not self._is_trusted(sender) or _address(entry) is None:
                break
            sender = entry
        return sender

    def _is_trusted(self, text: str) -> bool:
        address = _address(text)
        return address is not None and any(address in network for network in self._trusted)

    def _counted(self, text: str) -> bytes:
        address = _address(text)
        if address is None:
            return UNKNOWN
        return address.packed if isinstance(address, IPv4Address) else address.packed[:8]


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """As proxies write them: with a port or without, IPv6 in brackets or not; IPv4 in IPv6 is IPv4."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address

"""Whose request it is: the peer, what trusted proxies tell, and nothing that a client says of itself."""

from ipaddress import ip_address

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from shared.web.addresses import UNKNOWN, Addresses

PROXIES = ["10.0.0.0/8", "fd00::/8"]


def sender(peer: str, *told: str, trusted: list[str] = PROXIES) -> bytes:
    headers = CIMultiDict([("X-Forwarded-For", value) for value in told])
    request = make_mocked_request("GET", "/", headers=headers).clone(remote=peer)
    return Addresses(trusted)(request)


def packed(text: str) -> bytes:
    return ip_address(text).packed


@pytest.mark.parametrize(
    ("peer", "told", "expected"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1", "198.51.100.1, 10.2.3.4"], "198.51.100.1"),
        ("10.0.0.1", ["10.9.9.9"], "10.9.9.9"),
        ("10.0.0.1", ["198.51.100.1, garbage"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, "], "10.0.0.1"),
        ("10.0.0.1", ["1.1.1.1, garbage, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("::ffff:10.0.0.1", ["::ffff:198.51.100.1"], "198.51.100.1"),
    ],
)
def test_the_sender_is_the_first_from_the_right_that_is_no_trusted_proxy(
    peer: str, told: list[str], expected: str
) -> None:
    assert sender(peer, *told) == packed(expected)


def test_nothing_that_is_told_is_believed_without_trusted_proxies() -> None:
    assert sender("10.0.0.1", "198.51.100.1", trusted=[]) == packed("10.0.0.1")


@pytest.mark.parametrize("text", ["2001:db8:1:2:3:4:5:6", "[2001:db8:1:2:9:9:9:9]:443", "2001:db8:1:2::%eth0"])
def test_an_ipv6_address_counts_as_its_network_of_64_bits(text: str) -> None:
    assert sender("fd00::1", text) == packed("2001:db8:1:2::")[:8]


def test_a_peer_without_an_address_is_one_with_all_such() -> None:
    assert sender("") == UNKNOWN


def test_a_chain_of_thousands_costs_no_more_than_its_end() -> None:
    assert sender("10.0.0.1", ", ".join(["10.0.0.2"] * 5000)) == packed("10.0.0.2")

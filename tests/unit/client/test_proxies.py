import pytest

from seatkeeper.errors import ConfigurationError
from seatkeeper.proxies import Choice, Proxy, choose, decide, read_proxy

SERVER = "https://seats.example.com"
PROXY = {"https_proxy": "http://proxy:3128", "http_proxy": "http://plain:3128"}


def address(url: str, environ: dict[str, str], explicit: str | None = None) -> str | None:
    chosen = choose(url, environ, explicit)
    return None if chosen is None else chosen.address


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"https_proxy": "http://proxy:3128"}, "http://proxy:3128"),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
        ({"https_proxy": "http://lower:1", "HTTPS_PROXY": "http://upper:1"}, "http://lower:1"),
        ({"https_proxy": "", "HTTPS_PROXY": "http://upper:1"}, "http://upper:1"),
        ({"https_proxy": " "}, None),
        ({"http_proxy": "http://plain:1"}, None),
        ({"all_proxy": "socks5://any:1080"}, "socks5://any:1080"),
        ({"ALL_PROXY": "socks5://any:1080"}, "socks5://any:1080"),
        ({"all_proxy": "socks5://any:1080", "HTTPS_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
        ({"HTTPS_PROXY": "http://proxy:3128", "REQUEST_METHOD": "GET"}, "http://proxy:3128"),
    ],
)
def test_the_environment_names_a_proxy(environ: dict[str, str], expected: str | None) -> None:
    assert address(SERVER, environ) == expected


def test_what_a_caller_of_a_cgi_could_set_is_ignored() -> None:
    url, header = "http://seats.example.com", {"HTTP_PROXY": "http://evil:1"}
    assert address(url, header) == "http://evil:1"
    assert address(url, header | {"REQUEST_METHOD": "GET"}) is None
    assert address(url, header | {"REQUEST_METHOD": "GET", "http_proxy": "http://own:1"}) == "http://own:1"


def test_an_explicit_proxy_wins_and_direct_means_none() -> None:
    assert address(SERVER, PROXY | {"no_proxy": "*"}, "socks5h://other") == "socks5://other:1080"
    assert address(SERVER, PROXY, "direct") is None
    assert address(SERVER, PROXY, " Direct ") is None
    assert address(SERVER, PROXY, "") == "http://proxy:3128"


@pytest.mark.parametrize(
    ("environ", "explicit", "by"),
    [
        ({}, None, None),
        ({"HTTPS_PROXY": "http://proxy"}, None, "HTTPS_PROXY"),
        ({"all_proxy": "http://proxy"}, None, "all_proxy"),
        ({"https_proxy": "http://proxy", "NO_PROXY": "example.com"}, None, "NO_PROXY"),
        ({"https_proxy": "http://proxy"}, "direct", "proxy"),
        ({"no_proxy": "example.com"}, None, None),
    ],
)
def test_it_is_told_what_decided(environ: dict[str, str], explicit: str | None, by: str | None) -> None:
    assert decide(SERVER, environ, explicit).by == by


@pytest.mark.parametrize(
    ("no_proxy", "url", "excepted"),
    [
        ("*", SERVER, True),
        ("example.com", SERVER, True),
        (".example.com", SERVER, True),
        ("*.example.com", SERVER, True),
        (".example.com", "https://example.com", True),
        ("EXAMPLE.com.", "https://Seats.Example.COM.", True),
        ("ample.com", SERVER, False),
        ("seats.example.com.evil", SERVER, False),
        ("other, example.com", SERVER, True),
        ("other example.com", SERVER, True),
        (",, ,", SERVER, False),
        (".", SERVER, False),
        ("example.com:443", SERVER, True),
        ("example.com:8443", SERVER, False),
        ("example.com:8443", SERVER + ":8443", True),
        ("bücher.example", "https://xn--bcher-kva.example", True),
        ("xn--bcher-kva.example", "https://bücher.example", True),
        ("10.1.2.3", "https://10.1.2.3", True),
        ("10.1.2.3", "https://10.1.2.30", False),
        ("10.0.0.0/8", "https://10.1.2.3", True),
        ("10.0.0.0/8", "https://11.1.2.3", False),
        ("10.1.2.3/8", "https://10.9.9.9", True),
        ("10.1.2.3:443", "https://10.1.2.3", True),
        ("10.1.2.3:80", "https://10.1.2.3", False),
        ("10.0.0.0/8", "https://10.example.com", False),
        ("fd00::/8", "https://[fd12::1]", True),
        ("fd00::/8", "https://10.1.2.3", False),
        ("[fd12::1]", "https://[fd12::1]", True),
        ("[fd12::1]:443", "https://[fd12::1]", True),
        ("[fd12::1]:444", "https://[fd12::1]", False),
        ("fd12::1", "https://[fd12:0::0:1]", True),
        ("10.0.0.0/8", "https://[::ffff:10.1.2.3]", True),
        ("fe80::/10", "https://[fe80::1%25eth0]", True),
        ("10.0.0.0/64", "https://10.1.2.3", False),
    ],
)
def test_no_proxy_excepts(no_proxy: str, url: str, excepted: bool) -> None:
    assert (address(url, PROXY | {"no_proxy": no_proxy}) is None) is excepted


def test_loopback_is_reached_through_a_proxy_on_this_machine_alone() -> None:
    for url in ("https://127.0.0.1", "https://[::1]:8443", "https://localhost", "https://app.localhost"):
        assert decide(url, PROXY) == Choice(proxy=None, by=None)
        assert address(url, {"https_proxy": "socks5://localhost"}) == "socks5://localhost:1080"
        assert address(url, {}, "http://proxy:3128") == "http://proxy:3128"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("proxy", Proxy(scheme="http", host="proxy", port=80)),
        ("proxy:3128", Proxy(scheme="http", host="proxy", port=3128)),
        ("https://proxy/", Proxy(scheme="https", host="proxy", port=443)),
        ("SOCKS5H://proxy", Proxy(scheme="socks5", host="proxy", port=1080)),
        ("socks://[::1]:9050", Proxy(scheme="socks5", host="::1", port=9050)),
        (
            "http://a%40b:c%3Ad%2F%C3%BC@proxy:1",
            Proxy(scheme="http", host="proxy", port=1, username="a@b", password="c:d/ü"),
        ),
        ("http://ada@proxy", Proxy(scheme="http", host="proxy", port=80, username="ada", password="")),
    ],
)
def test_a_proxy_is_read(text: str, expected: Proxy) -> None:
    read = read_proxy(text, setting="proxy")
    assert (read, read.username, read.password) == (expected, expected.username, expected.password)


def test_an_address_of_ipv6_is_written_in_brackets() -> None:
    assert read_proxy("http://[::1]:3128", setting="proxy").address == "http://[::1]:3128"


@pytest.mark.parametrize(
    "text",
    [
        "http://",
        "ftp://proxy",
        "socks4://proxy",
        "http://proxy/path",
        "http://proxy?x",
        "http://ada:sesame/sesame@proxy",
        "http://ada:sesame@proxy:sesame",
        "http://ada:sesame@proxy:0",
        "http://ada:sesame@[proxy",
        "socks5://ada:sesam%C3%A9@proxy",
        "socks5://ada:" + "sesame" * 50 + "@proxy",
    ],
)
def test_what_is_no_proxy_is_refused_by_the_name_of_its_setting_and_without_its_secret(text: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        choose(SERVER, {"HTTPS_PROXY": text})
    assert "HTTPS_PROXY" in str(raised.value)
    assert "sesam" not in repr(raised.value)
    assert raised.value.__context__ is None


def test_credentials_do_not_show() -> None:
    proxy = read_proxy("http://ada:sesame@proxy:3128", setting="proxy")
    for text in (repr(proxy), str(proxy), f"{proxy}", proxy.address, repr(Choice(proxy=proxy, by="proxy"))):
        assert "http://proxy:3128" in text
        assert "ada" not in text
        assert "sesame" not in text

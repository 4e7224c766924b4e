"""Where Redis is: what the settings may say, and what is refused with a line that repeats no secret."""

import pytest

from shared.seats.url import Address, Kind, parse


@pytest.mark.parametrize("url", ["redis://h:1/0", "rediss://u:p@h", "unix:///run/redis.sock"])
def test_one_server_is_named_by_its_own_url(url: str) -> None:
    assert parse(url) == Address(Kind.SERVER, url)


def test_sentinels_are_named_with_the_service_that_they_watch() -> None:
    found = parse("rediss+sentinel://u:p%40s@a,[::1]:26380/seats?db=2&ssl_ca_certs=/ca.pem&sentinel_password=w")
    assert found == Address(
        Kind.SENTINEL,
        "rediss://u:p%40s@localhost/2?ssl_ca_certs=/ca.pem",
        (("a", 26379), ("::1", 26380)),
        "seats",
        None,
        "w",
    )


def test_a_cluster_is_named_by_some_of_its_nodes() -> None:
    found = parse("redis+cluster://:secret@a:7000,b")
    assert found == Address(Kind.CLUSTER, "redis://:secret@localhost/0", (("a", 7000), ("b", 6379)))


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("http://hunter2", "begins with"),
        ("redis+sentinal://hunter2/s", "begins with"),
        ("redis+cluster://a#hunter2", "begins with"),
        ("redis+sentinel://hunter2:1", "/SERVICE"),
        ("redis+sentinel://a:1/seats/hunter2", "/SERVICE"),
        ("redis+sentinel://a:1/seats?db=hunter2", "db is a number"),
        ("redis+sentinel://a:1/seats?hunter2=1", "options are none but"),
        ("redis+cluster://a?db=1", "options are none but"),
        ("redis+cluster://a/hunter2", "one database"),
        ("redis+cluster://", "HOST"),
        ("redis+cluster://a:hunter2", "HOST"),
        ("redis+cluster://a:70000", "HOST"),
        ("redis+cluster://a,,b", "HOST"),
    ],
)
def test_what_is_malformed_is_refused_without_repeating_it(url: str, line: str) -> None:
    with pytest.raises(ValueError, match=line) as refused:
        parse(url)
    assert "hunter2" not in str(refused.value)

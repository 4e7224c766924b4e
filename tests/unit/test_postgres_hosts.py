"""Which hosts a DSN names, and what several of them need."""

import pytest

from shared.ledger.connections import hosts_of
from shared.runtime.sections import Postgres, Secret


@pytest.mark.parametrize(
    ("dsn", "hosts"),
    [
        ("postgresql://u:p%40:@a/db", [("a", 5432)]),
        ("postgresql://u@a:1,b:2/db?target_session_attrs=read-write", [("a", 1), ("b", 2)]),
        ("postgresql://a,b:7/db", [("a", 5432), ("b", 7)]),
        ("postgresql://u@/db?host=a,b&port=1,2", [("a", 1), ("b", 2)]),
        ("postgresql://u@/db?host=a,b&port=6", [("a", 6), ("b", 6)]),
        ("postgresql://u@/db?host=/run/postgresql&port=5433", [("/run/postgresql", 5433)]),
        ("postgresql://u@[::1]:5,[::2]/db", [("::1", 5), ("::2", 5432)]),
        ("postgresql:///db", []),
    ],
)
def test_hosts_are_told_with_their_ports(dsn: str, hosts: list[tuple[str, int]]) -> None:
    assert hosts_of(dsn) == hosts


@pytest.mark.parametrize("attributes", ["read-write", "primary"])
def test_several_hosts_are_taken_where_the_writable_one_is_asked_for(attributes: str) -> None:
    Postgres(dsn=Secret(f"postgresql://a,b/db?sslmode=disable&target_session_attrs={attributes}"))
    Postgres(dsn=Secret("postgresql://a/db"))


@pytest.mark.parametrize("options", ["", "?target_session_attrs=any", "?target_session_attrs=read-only"])
def test_several_hosts_are_refused_without_it(options: str) -> None:
    with pytest.raises(ValueError, match="target_session_attrs=read-write"):
        Postgres(dsn=Secret(f"postgresql://a,b/db{options}"))


@pytest.mark.parametrize("dsn", ["postgresql://hunter2:x/db", "postgresql://u@/db?host=a,b&port=1,2,hunter2"])
def test_what_is_malformed_is_refused_without_repeating_it(dsn: str) -> None:
    with pytest.raises(ValueError, match="the dsn names hosts") as refused:
        Postgres(dsn=Secret(dsn))
    assert "hunter2" not in str(refused.value)

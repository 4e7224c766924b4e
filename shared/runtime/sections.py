"""The sections of settings that services share.

A service has its own `Settings` struct whose fields are sections, from here or its own:

    class Settings(msgspec.Struct, frozen=True, kw_only=True):
        server: Server
        postgres: Postgres

Rules: units stand in names; every number has a range; what must not be read in a log is a `Secret`.
"""

import base64
import binascii
import hmac
import re
from ipaddress import ip_network
from typing import Annotated, Literal

import msgspec

from shared.ledger.connections import hosts_of
from shared.seats.url import parse as parse_redis_url

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
KEY_BYTES = 32
_ID = re.compile(r"[a-z0-9]{1,8}\Z")
_WRITABLE = re.compile(r"[?&]target_session_attrs=(read-write|primary)(&|\Z)")


class Secret:
    """A text that shows itself only when asked: `str`, `repr` and formats give `***`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The text itself, for the driver that needs it."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(_bytes(other._value), _bytes(self._value))

    def __hash__(self) -> int:
        return hash(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)


def _bytes(text: str) -> bytes:
    """Whatever a variable of the environment may hold."""
    return text.encode("utf-8", "surrogatepass")


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """Where a service listens, and how long and from how many. Port 0 takes any free port.

    `X-Forwarded-For` is believed from `trusted_proxies` alone: addresses, or networks as 10.0.0.0/8. A request's head
    has `header_timeout_s` from its first byte, its body `body_timeout_s`; a connection may idle for `idle_timeout_s`.
    Past `max_connections` those that idle longest are closed.
    """

    host: str = "0.0.0.0"  # noqa: S104 - a container listens on every address  # nosec B104
    port: Port = 8080
    health_host: str = "0.0.0.0"  # noqa: S104  # nosec B104
    health_port: Port = 9090
    drain_s: Annotated[float, msgspec.Meta(ge=0, le=600)] = 10.0
    reuse_port: bool = False
    trusted_proxies: tuple[str, ...] = ()
    header_timeout_s: Annotated[float, msgspec.Meta(ge=0.1, le=600)] = 10.0
    body_timeout_s: Annotated[float, msgspec.Meta(ge=0.1, le=600)] = 10.0
    idle_timeout_s: Annotated[float, msgspec.Meta(ge=0.1, le=3600)] = 75.0
    max_connections: Annotated[int, msgspec.Meta(ge=16, le=1_000_000)] = 10_000

    def __post_init__(self) -> None:
        for text in self.trusted_proxies:
            try:
                ip_network(text, strict=False)
            except ValueError:
                raise ValueError("trusted_proxies are addresses or networks, such as 10.0.0.0/8") from None


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much is taken from one side before it is told to wait; 0 switches a limit off.

    Failed authentications count by address (IPv6: by /64): so many at once, and so many a minute on end. The others
    count requests of a license or an account, and allow `burst_s` seconds' worth of them at once.
    """

    failed_authentications_per_min: Annotated[float, msgspec.Meta(ge=0, le=1_000_000)] = 60.0
    failed_authentications_burst: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 200
    license_requests_per_s: Annotated[float, msgspec.Meta(ge=0, le=1_000_000)] = 2000.0
    account_requests_per_s: Annotated[float, msgspec.Meta(ge=0, le=1_000_000)] = 10_000.0
    license_heartbeats_per_s: Annotated[float, msgspec.Meta(ge=0, le=1_000_000)] = 2000.0
    burst_s: Annotated[float, msgspec.Meta(ge=0.1, le=3600)] = 10.0


class Postgres(msgspec.Struct, frozen=True, kw_only=True):
    """The database of the ledger. Where the DSN names several hosts, the one that may be written is used."""

    dsn: Secret
    pool_size: Annotated[int, msgspec.Meta(ge=1, le=200)] = 8
    statement_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=300)] = 5.0

    def __post_init__(self) -> None:
        if not self.dsn.reveal().startswith(("postgresql://", "postgres://")):
            raise ValueError("the dsn begins with postgresql:// or postgres://")
        if len(hosts_of(self.dsn.reveal())) > 1 and not _WRITABLE.search(self.dsn.reveal()):
            raise ValueError("a dsn with several hosts says target_session_attrs=read-write")


class Redis(msgspec.Struct, frozen=True, kw_only=True):
    """The projection: one server, the primary that Sentinels name, or a Cluster (see `shared.seats.url`)."""

    url: Secret
    timeout_ms: Annotated[int, msgspec.Meta(ge=1, le=60_000)] = 250

    def __post_init__(self) -> None:
        parse_redis_url(self.url.reveal())


class RabbitMQ(msgspec.Struct, frozen=True, kw_only=True):
    """The broker of facts."""

    url: Secret

    def __post_init__(self) -> None:
        if not self.url.reveal().startswith(("amqp://", "amqps://")):
            raise ValueError("the url begins with amqp:// or amqps://")


class Secrets(msgspec.Struct, frozen=True, kw_only=True):
    """Symmetric keys by id, each the base64 of 32 bytes; `current` names the one that new values are made with.

    In the environment: `k1:BASE64,k2:BASE64`.
    """

    keys: dict[str, str]
    current: str

    def __post_init__(self) -> None:
        ids = [key_id for key_id in self.keys if _ID.match(key_id)]
        faults = [
            f"the key {key_id!r} is not the base64 of {KEY_BYTES} bytes" for key_id in ids if not self._sound(key_id)
        ]
        if len(ids) < len(self.keys):  # what has not the shape of an id may be a secret in the wrong place
            faults.append("the id of a key is not 1 to 8 of a-z and 0-9")
        if self.current not in self.keys:
            faults.append("current names no key of keys")
        if faults:
            raise ValueError("; ".join(faults))

    def __repr__(self) -> str:
        return f"Secrets(keys={sorted(self.keys)}, current={self.current!r})"

    def decoded(self) -> dict[str, bytes]:
        """The keys as bytes, by id."""
        return {key_id: base64.b64decode(value, validate=True) for key_id, value in self.keys.items()}

    def _sound(self, key_id: str) -> bool:
        try:
            return len(base64.b64decode(self.keys[key_id], validate=True)) == KEY_BYTES
        except (binascii.Error, ValueError):
            return False


Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Chaos(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What goes wrong on purpose, each for its share of the calls (see `shared.web.chaos`). A `seed` repeats a run."""

    reject: Share = 0.05
    delay: Share = 0.05
    reset: Share = 0.05
    twice: Share = 0.05
    delay_s: Annotated[float, msgspec.Meta(ge=0, le=60)] = 1.0
    seed: int | None = None


class Testing(msgspec.Struct, frozen=True, kw_only=True):
    """What only tests and demonstrations may do; production refuses whatever differs from these defaults.

    `simulated_clock` says that the ledger's clock may jump; `shortest_floating_lease_s` is a policy's shortest lease.
    `chaos` breaks calls on purpose: true for the usual shares of them, or a table of shares.
    """

    simulated_clock: bool = False
    shortest_floating_lease_s: Annotated[int, msgspec.Meta(ge=1, le=86_400)] = 60
    chaos: bool | Chaos = False


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """The trail: months that ended `retention_days` ago go whole; without it all are kept."""

    retention_days: Annotated[int, msgspec.Meta(ge=366, le=36_500)] | None = None


class Reconciliation(msgspec.Struct, frozen=True, kw_only=True):
    """Redis against Postgres: at most `licenses_per_s` are looked at (0: none are), each once in `round_s` at most."""

    licenses_per_s: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 500
    round_s: Annotated[float, msgspec.Meta(ge=0.1, le=604_800)] = 60.0


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """What is logged and how: `auto` is colour on a terminal and JSON lines elsewhere."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"

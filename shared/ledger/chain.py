"""The chain of seals over the trail: what a row and a seal are, byte for byte, so that anybody can compute them again.

- A row's line is the JSON array (no spaces, UTF-8) of its account, license, version, time in microseconds since 1970,
  actor, event, device, generation, reason, limit, used and allowed; ids as text, null for what is absent.
- A seal speaks for the rows of one month (of UTC) among a range of ids: `digest` is the SHA-256 over, in the order of
  ids, each row's id (8 bytes, big-endian) and the SHA-256 of its line. `marks` are the first 8 bytes of each of those,
  and only tell which row it was. A batch of rows of several months has a seal for each, with the same range.
- A seal's hash is the SHA-256 of the JSON array that `Seal.text` writes, in which the hash before it stands. The first
  follows `GENESIS`. Ranges leave nothing out: each begins after the one before.
- A `dropped` seal says that a month went whole, past its retention: the seals before it speak for rows that are gone.
- The MAC over the hash needs a key that no database holds. Who has no key can cut the chain's end, nothing else: so a
  head that was seen earlier is kept elsewhere.
"""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

import msgspec

FORM = "seatkeeper-seal/1"
GENESIS = bytes(32)
MARK_BYTES = 8

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_encode = msgspec.json.Encoder().encode


class Kind(StrEnum):
    ROWS = "rows"
    DROPPED = "dropped"


class Stamp(Protocol):
    """Who makes and checks the MACs."""

    @property
    def key_id(self) -> str: ...

    def make(self, hash: bytes) -> bytes: ...

    def fits(self, key_id: str, hash: bytes, mac: bytes) -> bool | None:
        """Whether the MAC is this key's; None when the key is not held."""


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """What a seal says of the rows of a month: how many, their digest, a mark of each."""

    month: date
    count: int
    digest: bytes
    marks: bytes


class Seal(msgspec.Struct, frozen=True, kw_only=True):
    """A link as it is stored."""

    number: int
    kind: Kind
    month: date
    first_id: int
    last_id: int
    count: int
    digest: bytes
    marks: bytes
    sealed_at: datetime
    key_id: str
    previous: bytes
    hash: bytes = b""
    mac: bytes = b""

    @property
    def head(self) -> str:
        """The seal as it is quoted outside the database: `NUMBER:HASH`."""
        return f"{self.number}:{self.hash.hex()}"

    def text(self) -> bytes:
        return _encode(
            (
                FORM,
                self.number,
                self.kind.value,
                f"{self.month:%Y-%m}",
                self.first_id,
                self.last_id,
                self.count,
                self.digest.hex(),
                hashlib.sha256(self.marks).hexdigest(),
                _microseconds(self.sealed_at),
                self.key_id,
                self.previous.hex(),
            )
        )

    def computed_hash(self) -> bytes:
        return hashlib.sha256(self.text()).digest()


class Tally:
    """Rows of one month as they are counted in, in the order of their ids."""

    __slots__ = ("_digest", "marks")

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self.marks = bytearray()

    def add(self, row: Any) -> None:
        hashed = hashlib.sha256(line(row)).digest()
        self._digest.update(row["id"].to_bytes(8, "big", signed=True) + hashed)
        self.marks += hashed[:MARK_BYTES]

    def body(self, month: date) -> Body:
        return Body(
            month=month,
            count=len(self.marks) // MARK_BYTES,
            digest=self._digest.digest(),
            marks=bytes(self.marks),
        )


def line(row: Any) -> bytes:
    device = row["device_id"]
    return _encode(
        (
            str(row["account_id"]),
            str(row["license_id"]),
            row["version"],
            _microseconds(row["at"]),
            row["actor"],
            row["event"],
            None if device is None else str(device),
            row["generation"],
            row["reason"],
            row["seats_limit"],
            row["seats_used"],
            row["seats_allowed"],
        )
    )


def month_of(row: Any) -> date:
    at: datetime = row["at"].astimezone(UTC)
    return date(at.year, at.month, 1)


def tallied(rows: Iterable[Any]) -> list[Body]:
    """What there is to seal: a body for each month, in their order."""
    tallies: dict[date, Tally] = {}
    for row in rows:
        month = month_of(row)
        tally = tallies.get(month)
        if tally is None:
            tally = tallies[month] = Tally()
        tally.add(row)
    return [tally.body(month) for month, tally in sorted(tallies.items())]


def link(head: Seal | None, bodies: Sequence[Body], *, last_id: int, now: datetime, stamp: Stamp) -> list[Seal]:
    """The next seals: the rows from the head up to `last_id`."""
    first_id = next_id(head)
    return _chained(head, Kind.ROWS, bodies, first_id=first_id, last_id=last_id, now=now, stamp=stamp)


def link_dropped(head: Seal | None, months: Sequence[date], *, now: datetime, stamp: Stamp) -> list[Seal]:
    """The next seals, which say that these months were dropped; they take no ids."""
    bodies = [Body(month=month, count=0, digest=hashlib.sha256().digest(), marks=b"") for month in months]
    first_id = next_id(head)
    return _chained(head, Kind.DROPPED, bodies, first_id=first_id, last_id=first_id - 1, now=now, stamp=stamp)


def next_id(head: Seal | None) -> int:
    """The first id that no seal speaks for."""
    return 1 if head is None else head.last_id + 1


def _chained(
    head: Seal | None,
    kind: Kind,
    bodies: Sequence[Body],
    *,
    first_id: int,
    last_id: int,
    now: datetime,
    stamp: Stamp,
) -> list[Seal]:
    seals: list[Seal] = []
    number, previous = (0, GENESIS) if head is None else (head.number, head.hash)
    for body in bodies:
        number += 1
        bare = Seal(
            number=number,
            kind=kind,
            month=body.month,
            first_id=first_id,
            last_id=last_id,
            count=body.count,
            digest=body.digest,
            marks=body.marks,
            sealed_at=now,
            key_id=stamp.key_id,
            previous=previous,
        )
        previous = bare.computed_hash()
        seals.append(msgspec.structs.replace(bare, hash=previous, mac=stamp.make(previous)))
    return seals


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND

"""Calls as the checks see them: each with its outcome, on one time line with the trail.

Times are CLOCK_MONOTONIC in nanoseconds. What the ledger wrote and quoted is of the wall clock, which Postgres and the
clients of one machine share; `Clocks` says how both stand to each other, and how much that moved meanwhile.
"""

from collections.abc import Iterable, Sequence
from statistics import median
from sys import intern

import msgspec

from tests.faults.history import OUTCOMES, Record

NEVER = 1 << 62
"""Later than any time."""

ENDS_SEATS = frozenset({"deactivate", "reset", "delete", "leave", "release", "block"})
"""What may end a device's seat, from whoever it comes."""


class Clocks(msgspec.Struct, frozen=True):
    """`slack_ns` covers what one of the clocks was set or slewed while the history was written."""

    offset_ns: int
    slack_ns: int

    def of_wall(self, wall_ns: int) -> int:
        return wall_ns - self.offset_ns


class Call(msgspec.Struct, kw_only=True):
    """One attempt. `ended` is NEVER for one whose outcome is unknown: it may take effect at any time."""

    id: str
    op: str
    attempt: int
    verb: str
    license: str
    device: str
    generation: int | None
    foreign: bool
    nonce: bool
    began: int
    ended: int = NEVER
    outcome: str = "unknown"
    status: int = 0
    code: str = ""
    told: str = ""
    told_generation: int | None = None
    state: str = ""
    until: int | None = None
    used: int | None = None
    limit: int | None = None
    strange: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return self.outcome == "ok"

    @property
    def seated(self) -> bool:
        """Whether it was told that the device has a seat."""
        if self.verb == "activate":
            return self.ok and self.state == "active"
        return self.ok and (self.verb == "heartbeat" or (self.verb == "validate" and self.code == "VALID"))

    @property
    def may_end_seat(self) -> bool:
        return self.verb in ENDS_SEATS and not self.foreign and self.outcome != "refused"


def clocks_of(records: Sequence[Record]) -> Clocks:
    """By `clock` records, and by `ledger-clock` ones, which are good to the time that the question took.

    A ledger whose clock was set has the whole step as slack: then little can be said of when anything happened.
    """
    near = [record for record in records if record.kind == "clock"]
    if not near:
        return Clocks(0, 0)
    offset = int(median(record.wall_ns - record.at for record in near))
    slack = max(abs(record.wall_ns - record.at - offset) for record in near) + 1_000_000
    ledger = [record for record in records if record.kind == "ledger-clock"]
    steps = [abs(record.wall_ns - record.at - offset) - (record.at - record.began_ns) for record in ledger]
    return Clocks(offset, max([slack, *steps]))


class Gathered:
    """Calls put together from records as these come in: `calls` in the order in which clients wrote them.

    What many records repeat is kept once, so that a round of some hundred thousand calls fits into memory.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.clocks: list[Record] = []
        self._open: dict[str, Call] = {}

    def take(self, records: Iterable[Record]) -> None:
        for record in records:
            if record.kind == "invoke":
                self._begin(record)
            elif record.kind in OUTCOMES:
                self._end(record)
            elif record.kind in ("clock", "ledger-clock"):
                self.clocks.append(record)

    def _begin(self, record: Record) -> None:
        """`limit` of a vendor's `resize` is the one that was asked for."""
        call = Call(
            id=record.call,
            op=record.op,
            attempt=record.attempt,
            verb=intern(record.verb),
            license=intern(record.license),
            device=intern(record.device),
            generation=record.generation,
            foreign=record.foreign,
            nonce=record.nonce,
            began=record.at,
            limit=record.limit,
        )
        self.calls.append(call)
        self._open[call.id] = call

    def _end(self, record: Record) -> None:
        call = self._open.pop(record.call, None)
        if call is None:
            return
        call.outcome, call.code = intern(record.kind), intern(record.code)
        call.status, call.told, call.state = record.status, intern(record.told), intern(record.state)
        if record.kind == "unknown":
            return
        call.ended = record.at
        call.told_generation, call.until, call.used = record.generation, record.until, record.used
        call.strange = record.strange
        if call.verb != "resize":
            call.limit = record.limit

"""Facts as messages: one fact a line, many to a message.

- Lines (JSON Lines), so that a fact that cannot be read spoils none beside it.
- All facts of one license travel under one routing key (see `topology.py`) and in their order: a license's facts
  are in the same message, or in later ones.
- A reader may not guess at a fact of a later schema, even if it looks readable.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from shared.facts.topology import KEY_PREFIX, OTHER
from shared.licensing.facts import SCHEMA, Fact, decode
from shared.licensing.model import Kind

CONTENT_TYPE = "application/jsonl"
MESSAGE_FACTS = 200
MESSAGE_BYTES = 256 * 1024


class Parcel(NamedTuple):
    """What becomes one message."""

    key: str
    body: bytes
    facts: int


class Unpacked(NamedTuple):
    """The facts of a message, and why the others in it could not be read."""

    facts: list[Fact]
    unreadable: list[str]


class _Terms(msgspec.Struct):
    kind: Kind


class _Routed(msgspec.Struct):
    """As much of a fact as its routing key needs."""

    schema: int
    terms: _Terms


_routed = msgspec.json.Decoder(_Routed)
_UNREADABLE = (msgspec.DecodeError, UnicodeError, RecursionError)


def pack(facts: Sequence[str]) -> list[Parcel]:
    """The facts in messages of bounded size, to be sent one after the other."""
    boxes: list[_Box] = []
    open_: dict[str, _Box] = {}
    for fact in facts:
        key, line = routing_key(fact), fact.encode()
        if key == OTHER and open_.keys() != {OTHER}:  # its license may have facts under its own key before and after
            open_.clear()
        if key not in open_ or open_[key].is_full_for(line):
            open_[key] = _Box(key)
            boxes.append(open_[key])
        open_[key].add(line)
    return [Parcel(box.key, b"\n".join(box.lines), len(box.lines)) for box in boxes]


def unpack(body: bytes) -> Unpacked:
    unpacked = Unpacked([], [])
    for line in body.split(b"\n"):
        try:
            unpacked.facts.append(_read(line))
        except _UNREADABLE as error:
            unpacked.unreadable.append(str(error))
    return unpacked


def routing_key(fact: str) -> str:
    """What kind of license the fact is about, as far as this release can tell."""
    try:
        routed = _routed.decode(fact)
    except _UNREADABLE:
        return OTHER
    return KEY_PREFIX + routed.terms.kind if routed.schema <= SCHEMA else OTHER


class _Box:
    """A message being filled."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.lines: list[bytes] = []
        self._size = 0

    def is_full_for(self, line: bytes) -> bool:
        return len(self.lines) == MESSAGE_FACTS or self._size + len(line) >= MESSAGE_BYTES

    def add(self, line: bytes) -> None:
        self.lines.append(line)
        self._size += len(line) + 1


def _read(line: bytes) -> Fact:
    fact = decode(line)
    if fact.schema > SCHEMA:
        raise msgspec.ValidationError(f"schema {fact.schema} is newer than this release's {SCHEMA}")
    return fact

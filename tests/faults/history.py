"""The history: what clients, vendors and the nemesis saw, kept outside the system as lines of JSON.

Rules:
- A file for each process, opened for appending; a record is written with one call before anything else happens, so
  that a process that is killed has lost nothing that others acted upon.
- `at` is CLOCK_MONOTONIC in nanoseconds, which is one for the whole machine. A `clock` record says what the wall clock
  showed at that moment, because the ledger's own times are of the wall clock; a `ledger-clock` record what Postgres
  answered between `began_ns` and `at`, in case that its host's clock was set.
- A call is two records: `invoke` before it is sent, then `ok`, `refused` or `unknown`. Attempts of one operation have
  the same `op`, and a `call` of their own.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

OUTCOMES = ("ok", "refused", "unknown")
"""Unknown is a connection that was lost, silence, or a 5xx: it may have taken effect, now or later."""

_CHUNK = 1 << 20
_TOGETHER_NS = 100_000


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line. `until` is the end of the lease that an answer quoted, in seconds since 1970.

    `device` is the one that the call is about and `told` the one that the answer names; `limit` is that of an answer,
    or the one that a vendor asks for. `strange` are the devices of an answer that are not the license's own.
    """

    kind: str
    at: int
    call: str = ""
    op: str = ""
    attempt: int = 0
    verb: str = ""
    license: str = ""
    device: str = ""
    generation: int | None = None
    foreign: bool = False
    nonce: bool = False
    status: int = 0
    code: str = ""
    told: str = ""
    state: str = ""
    until: int | None = None
    used: int | None = None
    limit: int | None = None
    strange: tuple[str, ...] = ()
    wall_ns: int = 0
    fault: str = ""
    group: str = ""
    kill: bool = False
    cycle: int = 0
    began_ns: int = 0
    healed_ns: int = 0


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery of a fact to the witness."""

    license: str
    version: int
    type: str
    at: int


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Record).decode


class Writer:
    """Appends records to `folder/NAME.jsonl`."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self._file = os.open(folder / f"{name}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.clock()

    def write(self, kind: str, **members: Any) -> int:
        """Returns the moment that the record bears."""
        at = time.monotonic_ns()
        self.put(Record(kind=kind, at=at, **members))
        return at

    def put(self, record: msgspec.Struct) -> None:
        os.write(self._file, _encode(record) + b"\n")

    def clock(self) -> None:
        """Both clocks, read so closely together that nothing came between."""
        while True:
            at, wall_ns, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
            if after - at < _TOGETHER_NS:
                return self.put(Record(kind="clock", at=at, wall_ns=wall_ns))

    def close(self) -> None:
        os.close(self._file)


class Reader:
    """Reads what was appended since it read last, from all files of the folder whose names begin so."""

    def __init__(self, folder: Path, *prefixes: str) -> None:
        self._folder = folder
        self._prefixes = prefixes
        self._offsets: dict[Path, int] = {}

    def __call__(self) -> Iterator[Record]:
        for line in self.lines():
            yield _decode(line)

    def lines(self) -> Iterator[bytes]:
        """Whole lines alone: one that is being written is left for the next time."""
        for path in sorted(self._folder.glob("*.jsonl")):
            if path.name.startswith(self._prefixes or ("",)):
                yield from self._of(path)

    def _of(self, path: Path) -> Iterator[bytes]:
        with path.open("rb") as file:
            file.seek(self._offsets.get(path, 0))
            rest = b""
            while chunk := file.read(_CHUNK):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from lines
            self._offsets[path] = file.tell() - len(rest)

"""Verifying the trail against its seals, and against what else tells of it. Reads, and changes nothing.

What is compared, in this order:
- every seal with the one before it, its own hash and its MAC. A seal under a master secret that is not held is vouched
  for by a later one under a held secret, as that one's hash is over its hash;
- the rows with the seal that speaks for them. Seals that do not hold themselves are not compared with rows;
- the rows that are not sealed yet with their licenses;
- each license with its rows: versions have no gap and end where the license is;
- each fact in the outbox with the row that it tells of;
- a head that was seen before with the chain.

Rows are streamed and memory stays bounded. It runs beside the traffic: what is sealed never changes, and everything
else is compared within one statement.
"""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from difflib import SequenceMatcher
from enum import StrEnum
from itertools import groupby
from typing import Any

import msgspec

from shared.ledger.catalog import FIRST
from shared.ledger.chain import GENESIS, MARK_BYTES, Body, Kind, Seal, Stamp, Tally, month_of
from shared.ledger.connections import LOST, Pool, UnavailableError
from shared.ledger.rows import own
from shared.ledger.sealing import seal_of
from shared.ledger.statements import load

_SQL = load("sealing.sql")

SEALS_AT_ONCE = 200
ROWS_AT_ONCE = 5000
LICENSES_AT_ONCE = 200
LISTED = 100
OVERDUE_S = 300.0
"""Rows older than this should have been sealed."""

Progress = Callable[[int, int], None]
"""Told how far the rows are compared, and how far they go."""


class Fault(StrEnum):
    """What can be found. The values are the words of the JSON report."""

    EDITED = "row_edited"
    DELETED = "row_deleted"
    INSERTED = "row_inserted"
    REORDERED = "rows_reordered"
    SEAL_EDITED = "seal_edited"
    SEAL_MISSING = "seal_missing"
    SEAL_FORGED = "seal_forged"
    SEAL_UNKNOWN_KEY = "seal_under_unknown_key"
    CUT = "trail_cut"
    UNSEALED = "not_sealed"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One fault, in words, and where it is."""

    fault: Fault
    text: str
    seal: int | None = None


@dataclass(slots=True)
class Report:
    """What was compared, and what was found; of many findings of a kind the first `LISTED` are kept."""

    seals: int = 0
    rows: int = 0
    unsealed: int = 0
    licenses: int = 0
    dropped: list[date] = field(default_factory=list)
    head: Seal | None = None
    counts: Counter[Fault] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    def add(self, fault: Fault, text: str, seal: int | None = None) -> None:
        self.counts[fault] += 1
        if self.counts[fault] <= LISTED:
            self.findings.append(Finding(fault=fault, text=text, seal=seal))


async def verify(
    pool: Pool, stamp: Stamp, *, seen: tuple[int, bytes] | None = None, progress: Progress = lambda _done, _of: None
) -> Report:
    """Compare all there is. `seen` is a head from before: its number and its hash. Raises `UnavailableError`."""
    verifier = _Verifier(pool, stamp, progress)
    try:
        await verifier.chain()
        await verifier.unsealed()
        await verifier.licenses()
        await verifier.outbox()
        if seen is not None:
            await verifier.head_seen(*seen)
    except LOST as error:
        raise UnavailableError from error
    return verifier.report


class _Verifier:
    def __init__(self, pool: Pool, stamp: Stamp, progress: Progress) -> None:
        self._pool = pool
        self._stamp = stamp
        self._progress = progress
        self._dropped: dict[date, int] = {}
        self._unknown: Seal | None = None
        self.report = Report()

    # --- Seals and the rows they speak for ------------------------------------------------------------------------

    async def chain(self) -> None:
        await self._read_dropped()
        issued = await self._pool.fetchval(_SQL["issued"])
        async for groups in self._pages():
            judged = [(group, [self._is_sound(seal) for seal in group]) for group in groups]
            await self._compare([group for group, sound in judged if all(sound) and group[0].kind is Kind.ROWS])
            self._progress(min(groups[-1][-1].last_id, issued), issued)
        if self._unknown is not None:
            self.report.add(
                Fault.SEAL_UNKNOWN_KEY,
                f"from seal {self._unknown.number} on the chain is under the master secret {self._unknown.key_id!r}, "
                "which is not held: add it to secrets.keys and verify again",
                self._unknown.number,
            )

    async def _pages(self) -> AsyncIterator[list[list[Seal]]]:
        """Seals in their order, those of one range of ids together."""
        after, waiting = 0, list[Seal]()
        while page := await self._pool.fetch(_SQL["seals"], after, SEALS_AT_ONCE):
            after = page[-1]["number"]
            waiting += map(seal_of, page)
            groups = [list(group) for _, group in groupby(waiting, lambda seal: (seal.first_id, seal.last_id))]
            waiting = groups.pop() if len(page) == SEALS_AT_ONCE else []
            if groups:
                yield groups
        if waiting:
            yield [waiting]

    def _is_sound(self, seal: Seal) -> bool:
        """Whether the seal holds itself; what is wrong with it, and with its place in the chain, is reported."""
        report, before = self.report, self.report.head
        report.head = seal
        report.seals += 1
        number, previous = (0, GENESIS) if before is None else (before.number, before.hash)
        fits = self._stamp.fits(seal.key_id, seal.hash, seal.mac)
        if seal.number != number + 1:
            gone = f"seal {number + 1}" if seal.number == number + 2 else f"seals {number + 1} to {seal.number - 1}"
            report.add(Fault.SEAL_MISSING, f"{gone} gone: restore from a backup and compare the rows", number + 1)
        elif seal.previous != previous:
            report.add(Fault.SEAL_EDITED, f"seal {seal.number} does not follow seal {number}", seal.number)
            return False
        elif not _continues(before, seal):
            report.add(Fault.SEAL_EDITED, f"seal {seal.number} leaves out or repeats rows", seal.number)
            return False
        if seal.computed_hash() != seal.hash:
            report.add(Fault.SEAL_EDITED, f"seal {seal.number} was changed: it does not have its own hash", seal.number)
            return False
        if fits is False:
            report.add(
                Fault.SEAL_FORGED,
                f"seal {seal.number} was not made with the master secret {seal.key_id!r}: somebody without it sealed "
                "these rows anew",
                seal.number,
            )
            return False
        self._unknown = (self._unknown or seal) if fits is None else None
        return True

    async def _compare(self, groups: Sequence[Sequence[Seal]]) -> None:
        """The rows of each range with its seals."""
        if not groups:
            return
        async with self._pool.acquire() as connection, connection.transaction(readonly=True):
            span = groups[0][0].first_id, groups[-1][0].last_id
            rows = aiter(connection.cursor(_SQL["range"], *span, prefetch=ROWS_AT_ONCE))
            row = await anext(rows, None)
            for seals in groups:
                found: dict[date, _Found] = defaultdict(_Found)
                while row is not None and row["id"] <= seals[0].last_id:
                    if row["id"] >= seals[0].first_id:
                        found[month_of(row)].add(row)
                        self.report.rows += 1
                    row = await anext(rows, None)
                await self._judge(seals, found)

    async def _judge(self, seals: Sequence[Seal], found: dict[date, "_Found"]) -> None:
        expected = {seal.month: seal for seal in seals}
        if any(seal.month not in found and not self._went(seal) for seal in seals):
            await self._read_dropped()  # it may have gone while this ran
        for month in sorted(expected.keys() | found.keys()):
            seal, rows = expected.get(month), found.get(month)
            if rows is None:
                assert seal is not None
                if not self._went(seal):
                    self._gone(seal, seal.count)
            elif seal is None or self._went(seal):
                for row in rows.rows:
                    self._say(Fault.INSERTED, row, seals[0])
            else:
                body = rows.tally.body(month)
                if (body.count, body.digest) != (seal.count, seal.digest):
                    self._name(seal, body, rows.rows)

    def _name(self, seal: Seal, found: Body, rows: Sequence["_Row"]) -> None:
        """Say what happened to the rows of a month that are not as they were sealed."""
        before, now = list(_marks(seal.marks)), list(_marks(found.marks))
        if before == now:
            self.report.add(
                Fault.EDITED, f"rows of seal {seal.number} were given other ids ({_span(seal)})", seal.number
            )
            return
        if Counter(before) == Counter(now):
            moved = [row for was, is_, row in zip(before, now, rows, strict=True) if was != is_]
            for row in moved:
                self._say(Fault.REORDERED, row, seal)
            return
        for _, i, i_end, j, j_end in _changes(before, now):
            both = min(i_end - i, j_end - j)
            for row in rows[j : j + both]:
                self._say(Fault.EDITED, row, seal)
            for row in rows[j + both : j_end]:
                self._say(Fault.INSERTED, row, seal)
            if gone := i_end - i - both:
                self._gone(seal, gone)

    def _say(self, fault: Fault, row: "_Row", seal: Seal) -> None:
        self.report.add(fault, f"{_SAID[fault]}: {row} (seal {seal.number})", seal.number)

    def _gone(self, seal: Seal, count: int) -> None:
        rows = "a row is" if count == 1 else f"{count} rows are"
        self.report.add(Fault.DELETED, f"{rows} gone that seal {seal.number} speaks for ({_span(seal)})", seal.number)

    async def _read_dropped(self) -> None:
        """The months that went past their retention, each with the last seal that says so."""
        for row in await self._pool.fetch(_SQL["dropped"]):
            seal = seal_of(row)
            if seal.computed_hash() == seal.hash and self._stamp.fits(seal.key_id, seal.hash, seal.mac) is not False:
                self._dropped[seal.month] = seal.number
        self.report.dropped = sorted(self._dropped)

    def _went(self, seal: Seal) -> bool:
        return seal.number < self._dropped.get(seal.month, 0)

    # --- What is not sealed yet -----------------------------------------------------------------------------------

    async def unsealed(self) -> None:
        report, overdue = self.report, 0
        after = report.head.last_id if report.head is not None else 0
        rows: Sequence[Any] = [None] * ROWS_AT_ONCE
        while len(rows) == ROWS_AT_ONCE:
            rows = await self._pool.fetch(_SQL["unsealed"], after, ROWS_AT_ONCE, OVERDUE_S)
            after = rows[-1]["id"] if rows else after
            issued = await self._pool.fetchval(_SQL["issued"])
            report.unsealed += len(rows)
            overdue += sum(row["overdue"] for row in rows)
            for row in rows:
                if row["reached"] is None or row["version"] > row["reached"] or row["id"] > issued:
                    report.add(Fault.INSERTED, f"a row that no change of its license wrote: {_row(row)}")
        if overdue:
            report.add(
                Fault.UNSEALED,
                f"{overdue} rows wait to be sealed for over {OVERDUE_S / 60:.0f} minutes: see that a reaper runs and "
                "what it logs. If they were sealed before, the chain was cut: compare with a logged head (--head)",
            )

    # --- What else tells of the trail -----------------------------------------------------------------------------

    async def licenses(self) -> None:
        after = (FIRST, FIRST)
        while rows := await self._pool.fetch(_SQL["licenses"], *after, LICENSES_AT_ONCE):
            after = own(rows[-1]["account_id"]), own(rows[-1]["id"])
            self.report.licenses += len(rows)
            for row in rows:
                self._judge_license(row)

    def _judge_license(self, row: Any) -> None:
        report, first, last = self.report, row["first"], row["last"]
        name = f"license {row['id']} of account {row['account_id']}"
        if last is None:
            if not self._dropped:
                report.add(Fault.CUT, f"the trail has no row of {name}, which is at version {row['version']}")
            return
        if last < row["version"]:
            report.add(Fault.CUT, f"the trail ends at version {last} of {name}, which is at {row['version']}")
        elif last > row["version"]:
            report.add(Fault.INSERTED, f"the trail goes on to version {last} of {name}, which is at {row['version']}")
        if row["rows"] < last - first + 1:
            report.add(Fault.DELETED, f"versions between {first} and {last} lack in the trail of {name}")
        elif row["rows"] > last - first + 1:
            report.add(Fault.INSERTED, f"a version between {first} and {last} is twice in the trail of {name}")
        if first > 1 and not self._dropped:
            report.add(Fault.DELETED, f"the trail of {name} begins at version {first}, and no month was dropped")

    async def outbox(self) -> None:
        after = 0
        rows: Sequence[Any] = [None] * ROWS_AT_ONCE
        while len(rows) == ROWS_AT_ONCE:
            rows = await self._pool.fetch(_SQL["untold"], after, ROWS_AT_ONCE)
            after = rows[-1]["id"] if rows else after
            for row in rows:
                if not row["told"] and month_of(row) not in self._dropped:
                    name = f"license {row['license_id']} of account {row['account_id']}"
                    self.report.add(
                        Fault.DELETED, f"the outbox tells of version {row['version']} of {name}; the trail does not"
                    )

    async def head_seen(self, number: int, hash: bytes) -> None:
        row = await self._pool.fetchrow(_SQL["seal"], number)
        if row is None:
            ends = "has no seal" if self.report.head is None else f"ends at seal {self.report.head.number}"
            self.report.add(Fault.CUT, f"seal {number} was seen before and is gone: the chain {ends}", number)
        elif row["hash"] != hash:
            self.report.add(
                Fault.CUT,
                f"seal {number} is another than the one seen before: the trail was cut and sealed anew, or Postgres "
                "was restored from an older backup",
                number,
            )


class _Row(msgspec.Struct, frozen=True, gc=False):
    """Which row, for whoever looks for it."""

    id: int
    account_id: Any
    license_id: Any
    version: int
    event: str

    def __str__(self) -> str:
        return f"id {self.id}, {self.event}, version {self.version} of license {self.license_id}"


def _row(row: Any) -> _Row:
    return _Row(row["id"], row["account_id"], row["license_id"], row["version"], row["event"])


@dataclass(slots=True)
class _Found:
    """Rows of one month among those of a range."""

    tally: Tally = field(default_factory=Tally)
    rows: list[_Row] = field(default_factory=list)

    def add(self, row: Any) -> None:
        self.tally.add(row)
        self.rows.append(_row(row))


_SAID = {
    Fault.EDITED: "a row was changed after it was sealed",
    Fault.INSERTED: "a row was added after its place was sealed",
    Fault.REORDERED: "a row stands in another's place",
}


def _continues(before: Seal | None, seal: Seal) -> bool:
    """Whether the seal begins where the one before ended, or speaks for another month of the same rows."""
    if before is None:
        return seal.first_id == 1
    same = seal.kind is before.kind is Kind.ROWS and (seal.first_id, seal.last_id) == (before.first_id, before.last_id)
    return seal.first_id == before.last_id + 1 or (same and seal.month > before.month)


def _marks(marks: bytes) -> Iterator[bytes]:
    return (marks[at : at + MARK_BYTES] for at in range(0, len(marks), MARK_BYTES))


def _changes(before: list[bytes], now: list[bytes]) -> Iterator[tuple[str, int, int, int, int]]:
    steps = SequenceMatcher(a=before, b=now, autojunk=False).get_opcodes()
    return (step for step in steps if step[0] != "equal")


def _span(seal: Seal) -> str:
    return f"ids {seal.first_id} to {seal.last_id}, {seal.month:%B %Y}"

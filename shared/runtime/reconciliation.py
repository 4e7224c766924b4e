"""Reconciliation: what Redis holds, compared with Postgres license by license, and put right where it differs.

- A difference counts only when a second look finds it `CONFIRM_AFTER_S` later, with Postgres at the same version: by
  then every change has arrived, as a push or as a fact. That look asks Redis first, so no later change can be in it.
- Repair takes the license out of Redis and fills in what Postgres held at the second look. Both give way to whatever
  is newer, so it may run beside the traffic, and any number beside each other.
- It is gentle: a page, then a pause, and one process at a time.
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic

import structlog

from shared.ledger.connections import Pool, UnavailableError
from shared.ledger.reader import LicenseRef
from shared.ledger.reconciling import FIRST, named, page_after
from shared.licensing.model import Change
from shared.runtime.background import pause
from shared.runtime.metrics import Metrics
from shared.runtime.sections import Reconciliation
from shared.seats.drift import Fields, Kind, drift, is_missing
from shared.seats.inspection import AwayError, Inspection
from shared.seats.projection import Projection

_log = structlog.get_logger()

PAGE = 100
CONFIRM_AFTER_S = 5.0
RETRY_S = 5.0


@dataclass(slots=True)
class Found:
    """Licenses looked at, those of which Redis knew nothing, drifted by kind and repaired; keys of older epochs."""

    looked_at: int = 0
    missing: int = 0
    drifted: Counter[Kind] = field(default_factory=Counter)
    repaired: int = 0
    outdated: int = 0

    def add(self, more: "Found") -> None:
        self.looked_at += more.looked_at
        self.missing += more.missing
        self.drifted += more.drifted
        self.repaired += more.repaired
        self.outdated += more.outdated


@dataclass(slots=True, frozen=True)
class _Suspect:
    version: int
    due: float


class Round:
    """Every license once, step by step; then the keys of older epochs. Without `repair` nothing is changed."""

    def __init__(
        self,
        pool: Pool,
        inspection: Inspection,
        projection: Projection,
        *,
        repair: bool = True,
        page: int = PAGE,
        confirm_after_s: float = CONFIRM_AFTER_S,
    ) -> None:
        self._pool = pool
        self._inspection = inspection
        self._projection = projection
        self._repair = repair
        self._page = page
        self._confirm_after_s = confirm_after_s
        self._after: LicenseRef | None = FIRST
        self._cursor: int | None = 0
        self._suspects: dict[LicenseRef, _Suspect] = {}

    async def step(self) -> Found | None:
        """What the next page was found to be; None when the round is over.

        Raises `UnavailableError` and `AwayError`; then the same step is the next.
        """
        if not self._inspection.epoch:
            raise UnavailableError
        if due := self._due():
            return await self._confirm(due)
        if self._after is not None:
            return await self._look(self._after)
        if self._cursor is not None:
            return await self._sweep(self._cursor)
        if not self._suspects:
            return None
        await asyncio.sleep(0.1)
        return Found()

    def _due(self) -> list[LicenseRef]:
        now = monotonic()
        return [ref for ref, suspect in self._suspects.items() if suspect.due <= now][: self._page]

    async def _look(self, after: LicenseRef) -> Found:
        epoch = self._inspection.epoch
        held = await page_after(self._pool, after, limit=self._page)
        seen = await self._inspection.read([_ref(change) for change in held])
        for change, fields in zip(held, seen, strict=True):
            if drift(epoch, fields, change):
                self._suspects[_ref(change)] = _Suspect(change.license.version, monotonic() + self._confirm_after_s)
        self._after = _ref(held[-1]) if len(held) == self._page else None
        return Found(looked_at=len(held), missing=sum(is_missing(epoch, fields) for fields in seen))

    async def _confirm(self, refs: Sequence[LicenseRef]) -> Found:
        epoch = self._inspection.epoch
        seen = dict(zip(refs, await self._inspection.read(refs), strict=True))
        found = Found()
        drifted = []
        for change in await named(self._pool, refs):
            ref = _ref(change)
            differences = drift(epoch, seen[ref], change)
            if differences and change.license.version == self._suspects[ref].version:
                _tell(change, differences)
                found.drifted.update(differences.keys())
                drifted.append(change)
        for ref in refs:
            del self._suspects[ref]
        if self._repair and drifted:
            found.repaired = await self._put_right(drifted, seen)
        return found

    async def _put_right(self, drifted: Sequence[Change], seen: dict[LicenseRef, Fields]) -> int:
        try:
            removed = await self._inspection.discard({_ref(change): seen[_ref(change)] for change in drifted})
        except AwayError:
            return 0  # the next round finds them again
        await self._projection.fill(drifted)
        return removed

    async def _sweep(self, cursor: int) -> Found:
        following, outdated = await self._inspection.sweep(cursor, remove=self._repair)
        self._cursor = following or None
        return Found(outdated=outdated)


class Reconciler:
    """Round after round in the background, with metrics."""

    def __init__(
        self,
        pool: Pool,
        inspection: Inspection,
        projection: Projection,
        metrics: Metrics,
        settings: Reconciliation,
        *,
        confirm_after_s: float = CONFIRM_AFTER_S,
    ) -> None:
        self._pool = pool
        self._inspection = inspection
        self._projection = projection
        self._settings = settings
        self._confirm_after_s = confirm_after_s
        self._name = os.urandom(8)
        drifted = metrics.counter("drift", "Licenses that Redis held otherwise than Postgres.", ["kind"])
        self._drifted = {kind: drifted.labels(kind.value) for kind in Kind}
        self._repaired = metrics.counter("drift_repaired", "Licenses that were put right in Redis.")
        self._outdated = metrics.counter(
            "projection_outdated", "Licenses of older epochs that were removed from Redis."
        )
        self._round_s = metrics.gauge("reconciliation_round_seconds", "How long the last whole round took.")

    async def run(self, stop: asyncio.Event) -> None:
        """Until told to stop; whatever fails is told, and tried again."""
        while not stop.is_set():
            began = monotonic()
            if await self._round(stop):
                self._round_s.set(monotonic() - began)
            left_s = began + self._settings.round_s - monotonic()
            await pause(stop, max(left_s, 0.1) * random.uniform(0.9, 1.1))  # noqa: S311 - jitter

    async def _round(self, stop: asyncio.Event) -> bool:
        """Whether the round came to its end. While it is another process's turn, it waits."""
        page = min(PAGE, self._settings.licenses_per_s)
        round = Round(self._pool, self._inspection, self._projection, page=page, confirm_after_s=self._confirm_after_s)
        while not stop.is_set():
            pause_s = RETRY_S
            try:
                if await self._inspection.take_turn(self._name):
                    if (found := await round.step()) is None:
                        return True
                    self._count(found)
                    pause_s = page / self._settings.licenses_per_s
            except (UnavailableError, AwayError):
                pass  # as the pulse and the connection tell
            except Exception:
                _log.exception("reconciliation.failed")
                return False
            await pause(stop, pause_s)
        return False

    def _count(self, found: Found) -> None:
        for kind, count in found.drifted.items():
            self._drifted[kind].inc(count)
        self._repaired.inc(found.repaired)
        self._outdated.inc(found.outdated)


def _ref(change: Change) -> LicenseRef:
    return change.license.account_id, change.license.id


def _tell(change: Change, differences: dict[Kind, str]) -> None:
    license = change.license
    words = {kind.value: difference for kind, difference in differences.items()}
    _log.warning(
        "projection.drift",
        account_id=str(license.account_id),
        license_id=str(license.id),
        version=license.version,
        **{f"drift_{kind}": word for kind, word in words.items()},
    )

"""Going once through all candidates of a kind: while the ledger decides about one page, the next is fetched.

Before each page the breakers judge, after the page was read: what a stepped clock made a candidate is not asked for.
"""

import asyncio
from collections.abc import Callable, Sequence

import msgspec
import structlog

from services.reaper.guard import Guard
from shared.ledger.connections import Pool
from shared.ledger.halts import Look
from shared.ledger.ledger import Ledger
from shared.ledger.reaping import START, Candidate, Position, Which, candidates
from shared.licensing.model import Announce, Decision, Expire, Granted

_log = structlog.get_logger()

Choose = Callable[[Look], Callable[[Candidate], bool]]
"""Which candidates may be asked for, as things stand."""


class Swept(msgspec.Struct, kw_only=True):
    """Devices that were asked for, changed, failed, held by other transactions, and left alone."""

    asked: int = 0
    changed: int = 0
    failed: int = 0
    held: int = 0
    left_alone: int = 0


class Sweep:
    def __init__(self, pool: Pool, ledger: Ledger, guard: Guard, *, page: int) -> None:
        self._pool = pool
        self._ledger = ledger
        self._guard = guard
        self._page = page

    async def __call__(
        self,
        which: Which,
        kind: type[Announce] | type[Expire],
        choose: Choose,
        *,
        stop: asyncio.Event,
        waits: bool = False,
        progress: Callable[[Swept], object] = lambda _: None,
    ) -> Swept:
        """Sweep until the end, or until `stop` is set. With `waits`, wait for licenses that others hold.

        Raises `UnavailableError`, after what was asked for has been answered.
        """
        swept = Swept()
        asked: Sequence[asyncio.Future[Decision | None]] = []
        position: Position | None = START
        try:
            while position is not None and not stop.is_set():
                page = await candidates(self._pool, which, after=position, limit=self._page)
                chosen = list(filter(choose(await self._guard.look()), page.found))
                swept.left_alone += len(page.found) - len(chosen)
                before, asked = asked, [self._ledger.offer(_command(kind, one), waits=waits) for one in chosen]
                await _settle(swept, before)
                progress(swept)
                position = page.next
        finally:
            await _settle(swept, asked)
        progress(swept)
        return swept


async def _settle(swept: Swept, asked: Sequence[asyncio.Future[Decision | None]]) -> None:
    """Wait for the answers and count them."""
    answers = await asyncio.gather(*asked, return_exceptions=True)
    failures = [answer for answer in answers if isinstance(answer, BaseException)]
    if failures:
        _log.warning("reaper.commands_failed", commands=len(failures), error=repr(failures[0]))
    swept.asked += len(answers)
    swept.failed += len(failures)
    for answer in answers:
        if answer is None:
            swept.held += 1
        elif not isinstance(answer, BaseException) and isinstance(answer.answer, Granted):
            swept.changed += answer.answer.changed


def _command(kind: type[Announce] | type[Expire], candidate: Candidate) -> Announce | Expire:
    return kind(
        account_id=candidate.account_id,
        license_id=candidate.license_id,
        actor="reaper",
        device_id=candidate.device_id,
        generation=candidate.generation,
    )

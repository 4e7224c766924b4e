"""One pass of the reaper: announce first, then free.

Candidates are hints, read without a lock. Each becomes a command, and the ledger decides again under its lock: a
reaper that was paused for minutes, or works beside others, changes nothing wrongly.
"""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import structlog

from shared.ledger.connections import Pool
from shared.ledger.ledger import Ledger
from shared.ledger.reaping import Candidate, Which, candidates
from shared.licensing.model import Announce, Command, Expire, Granted

_log = structlog.get_logger()


_STEPS: tuple[tuple[Which, type[Announce] | type[Expire]], ...] = (
    ("expiring_devices", Announce),
    ("expired_devices", Expire),
)


class Pass(msgspec.Struct, kw_only=True):
    """What a pass did: devices it looked at, announced and freed, and commands that failed and will be tried again."""

    looked_at: int = 0
    announced: int = 0
    freed: int = 0
    failed: int = 0


class Reap:
    def __init__(self, pool: Pool, ledger: Ledger, *, page: int = 1000) -> None:
        self._pool = pool
        self._ledger = ledger
        self._page = page

    async def __call__(self, stop: asyncio.Event | None = None) -> Pass:
        """Announce and free whatever is due, or what can be before `stop` is set.

        Raises `UnavailableError` when Postgres cannot be asked.
        """
        done = Pass()
        for which, kind in _STEPS:
            async for page in self._pages(which):
                if stop is not None and stop.is_set():
                    return done
                changed = await self._submit_all(done, [_command(kind, one) for one in page])
                done.announced += changed * (kind is Announce)
                done.freed += changed * (kind is Expire)
        return done

    async def plan(self) -> list[Candidate]:
        """The devices that a pass would free now, changing nothing."""
        return [candidate async for page in self._pages("expired_devices") for candidate in page]

    async def _pages(self, which: Which) -> AsyncIterator[list[Candidate]]:
        last: Candidate | None = None
        while page := await candidates(self._pool, which, after=last, limit=self._page):
            yield page
            last = page[-1]

    async def _submit_all(self, done: Pass, commands: list[Command]) -> int:
        done.looked_at += len(commands)
        answers = await asyncio.gather(*map(self._submit, commands))
        done.failed += answers.count(None)
        return answers.count(True)

    async def _submit(self, command: Command) -> bool | None:
        try:
            decision = await self._ledger.submit(command)
        except Exception as error:
            _log.warning("reaper.command_failed", error=repr(error))
            return None
        return isinstance(decision.answer, Granted) and decision.answer.changed


def _command(kind: type[Announce] | type[Expire], candidate: Candidate) -> Command:
    return kind(
        account_id=candidate.account_id,
        license_id=candidate.license_id,
        actor="reaper",
        device_id=candidate.device_id,
        generation=candidate.generation,
    )

"""The ledger: the only place where seats change.

Commands that arrive while a transaction runs are taken together by the next. Two lanes keep a hot license from
stalling the others: the first leaves out licenses that another transaction holds, the second waits for those alone.
What comes meanwhile for a license that is waited for waits with the others, and is decided with them.

No more commands are taken than are decided within `wait_s`, by the pace of the batches before: under overload those
that are taken are answered in time, and the others refused at once.

What a caller may see besides a decision:
- `OverloadedError`: there is no room; nothing was done.
- `UnavailableError`: Postgres could not be asked; nothing was changed.
- `OutcomeUnknownError`: the connection failed at COMMIT; asking again tells.
- `LicenseNotFoundError`: no such license.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import monotonic

import structlog

from shared.batching import GroupLoop, OverloadedError
from shared.batching.pace import Pace
from shared.ledger.connections import LOST, Pool, UnavailableError
from shared.ledger.transaction import LicenseNotFoundError, Outcome, OutcomeUnknownError, Ref, transact
from shared.licensing.model import Change, Command, Decision

_log = structlog.get_logger()

BATCH_LIMIT = 256
QUEUE_LIMIT = 4096
LANES = 2
"""Transactions of the first lane at a time; the second has one."""

PATIENCE_S = 60.0
"""How long commands may wait for which nobody stands there to be answered."""

AfterCommit = Callable[[Sequence[Change]], Awaitable[None]]


@dataclass(slots=True)
class _Pending:
    command: Command
    future: asyncio.Future[Decision | None]
    waits: bool = True

    @property
    def license(self) -> Ref:
        return self.command.account_id, self.command.license_id


class Ledger:
    """Decides commands in grouped transactions.

    `after_commit` is told what the ledger now holds, before the callers are answered; whatever it raises is logged
    and changes no answer. `on_refused` is told how many there was no room for.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        after_commit: AfterCommit,
        batch_limit: int = BATCH_LIMIT,
        queue_limit: int = QUEUE_LIMIT,
        wait_s: float = PATIENCE_S,
        on_refused: Callable[[int], object] = lambda _: None,
    ) -> None:
        self._pool = pool
        self._after_commit = after_commit
        self._pace = Pace(wait_s=wait_s, most=queue_limit)
        self._on_refused = on_refused
        self._closing = False
        self._finishing: set[asyncio.Task[None]] = set()
        self._awaited: Counter[Ref] = Counter()
        self._free: GroupLoop[_Pending] = GroupLoop(
            self._serve_free, limit=batch_limit, in_flight=LANES, capacity=queue_limit
        )
        self._held: GroupLoop[_Pending] = GroupLoop(
            self._serve_held, limit=batch_limit, in_flight=1, capacity=queue_limit + LANES * batch_limit
        )

    def check_room(self) -> None:
        """Raises `OverloadedError` where a command would not be taken: known before anything is done for it."""
        if self._taken >= self._pace.room:
            self._on_refused(1)
            raise OverloadedError

    @property
    def _taken(self) -> int:
        """Commands that wait or are being decided."""
        return len(self._free) + len(self._held)

    async def submit(self, command: Command) -> Decision:
        """Decide one command and make it durable. A caller that stops waiting cancels nothing."""
        decision = await self.offer(command, waits=True)
        assert decision is not None
        return decision

    def offer(self, command: Command, *, waits: bool) -> asyncio.Future[Decision | None]:
        """The same for many commands. Without `waits` the answer is None where another transaction holds the license.

        Raises `OverloadedError` and `UnavailableError` at once; whatever happens later is in the future.
        """
        if self._closing:
            raise UnavailableError
        self.check_room()
        future: asyncio.Future[Decision | None] = asyncio.get_running_loop().create_future()
        pending = _Pending(command, future, waits)
        if waits and pending.license in self._awaited:
            self._await_license(pending)
        else:
            self._free.put(pending)
        return future

    async def close(self) -> None:
        """Take no more commands and finish those taken."""
        self._closing = True
        await self._free.drain()
        await self._held.drain()
        if self._finishing:
            await asyncio.wait(self._finishing)

    async def _serve_free(self, batch: list[_Pending]) -> None:
        for pending in await self._serve_in_time(batch, wait=False):
            if not pending.waits:
                _answer_none(pending)
                continue
            try:
                self._await_license(pending)
            except Exception as error:
                _fail(pending, error)

    def _await_license(self, pending: _Pending) -> None:
        self._held.put(pending)
        self._awaited[pending.license] += 1

    async def _serve_held(self, batch: list[_Pending]) -> None:
        for pending in await self._serve_in_time(batch, wait=True):
            _fail(pending, LicenseNotFoundError())
        self._awaited -= Counter(pending.license for pending in batch)

    async def _serve_in_time(self, batch: list[_Pending], *, wait: bool) -> list[_Pending]:
        """Learn the pace from each batch: those for whom there turns out to be no room need not wait to hear it."""
        began = monotonic()
        left = await self._serve(batch, wait=wait)
        self._pace.saw(len(batch) - len(left), monotonic() - began, abreast=1 if wait else LANES)
        excess = self._taken - len(batch) - self._pace.room
        if excess > 0:
            refused = self._free.take_back(excess)
            self._on_refused(len(refused))
            _fail_all(refused, OverloadedError())
        return left

    async def _serve(self, batch: list[_Pending], *, wait: bool) -> list[_Pending]:
        """Decide a batch; returns those whose license was not to be had."""
        try:
            async with self._pool.acquire() as connection:
                outcome = await transact(connection, [pending.command for pending in batch], wait=wait)
        except OutcomeUnknownError as error:
            _fail_all(batch, error)
        except LOST as error:
            _log.warning("ledger.unavailable", error=repr(error), commands=len(batch))
            _fail_all(batch, UnavailableError())
        except Exception as error:
            return await self._serve_one_by_one(batch, error, wait=wait)
        else:
            return self._finish(batch, outcome)
        return []

    async def _serve_one_by_one(self, batch: list[_Pending], error: Exception, *, wait: bool) -> list[_Pending]:
        """A batch failed before COMMIT: each command again alone, so that a bad one fails alone."""
        if len(batch) == 1:
            _log.error("ledger.command_failed", command=type(batch[0].command).__name__, exc_info=error)
            _fail_all(batch, error)
            return []
        _log.warning("ledger.batch_failed", error=repr(error), commands=len(batch))
        return [left for pending in batch for left in await self._serve([pending], wait=wait)]

    def _finish(self, batch: list[_Pending], outcome: Outcome) -> list[_Pending]:
        left = [pending for pending, decision in zip(batch, outcome.decisions, strict=True) if decision is None]
        task = asyncio.create_task(self._answer(batch, outcome))
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)
        return left

    async def _answer(self, batch: list[_Pending], outcome: Outcome) -> None:
        try:
            await self._after_commit(outcome.changes)
        except Exception as error:
            _log.warning("ledger.after_commit_failed", exc_info=error)
        for pending, decision in zip(batch, outcome.decisions, strict=True):
            if decision is not None and not pending.future.done():
                pending.future.set_result(decision)


def _answer_none(pending: _Pending) -> None:
    if not pending.future.done():
        pending.future.set_result(None)


def _fail_all(batch: Sequence[_Pending], error: Exception) -> None:
    for pending in batch:
        _fail(pending, error)


def _fail(pending: _Pending, error: Exception) -> None:
    if not pending.future.done():
        pending.future.set_exception(error)


__all__ = ["AfterCommit", "Ledger", "LicenseNotFoundError", "OutcomeUnknownError", "UnavailableError"]

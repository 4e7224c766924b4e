"""Those who wait for the ledger: for a license that somebody else holds, in a full queue, or no longer."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest

from shared.batching import OverloadedError
from shared.ledger.connections import Connection, UnavailableError
from shared.ledger.transaction import Outcome, transact
from shared.licensing.model import Activate, Change, Command, Decision, Extend, device_id
from tests.builders import (
    add_license,
    add_licenses,
    ask,
    code_of,
    device_of,
    fetch,
    names,
    open_ledger,
    owner,
)
from tests.conftest import Database
from tests.invariants import check_invariants

DAY = timedelta(days=1)


# --- A license that somebody else holds -----------------------------------------------------------------------


async def test_commands_on_other_licenses_are_answered_while_a_held_one_waits(database: Database) -> None:
    hot, *cold = await add_licenses(database, 6)
    async with owner(database) as holder, open_ledger(database) as ledger:
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute("SELECT 1 FROM license WHERE id = $1 FOR UPDATE", hot[1])
        waiting = [asyncio.create_task(ledger.submit(ask(Activate, name, ref=hot))) for name in names(3)]
        for _ in range(3):
            async with asyncio.timeout(2):
                await asyncio.gather(*(ledger.submit(ask(Activate, ref=ref)) for ref in cold), return_exceptions=False)
        assert [task.done() for task in waiting] == [False] * 3
        await transaction.rollback()
        decisions = await asyncio.gather(*waiting)
    assert [decision.license.seats_used for decision in decisions] == [1, 2, 3]


async def test_commands_that_come_for_a_license_that_is_waited_for_wait_with_those_before(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = await add_license(database, seats=50)
    asked: list[tuple[int, bool]] = []

    async def noting(connection: Connection, commands: Sequence[Command], *, wait: bool) -> Outcome:
        asked.append((len(commands), wait))
        return await transact(connection, commands, wait=wait)

    monkeypatch.setattr("shared.ledger.ledger.transact", noting)
    async with owner(database) as holder, open_ledger(database) as ledger:
        async with holder.transaction():
            await holder.execute("SELECT 1 FROM license FOR UPDATE")
            waiting = [asyncio.create_task(ledger.submit(ask(Activate, "first", ref=ref)))]
            await asyncio.sleep(0.2)
            waiting += [asyncio.create_task(ledger.submit(ask(Activate, name, ref=ref))) for name in names(20)]
            await asyncio.sleep(0.1)
        decisions = await asyncio.gather(*waiting)
        await ledger.submit(ask(Activate, "last", ref=ref))
    assert [decision.license.seats_used for decision in decisions] == list(range(1, 22))
    assert asked == [(1, False), (1, True), (20, True), (1, False)]


async def test_the_clock_is_read_after_the_wait_for_the_lock(database: Database) -> None:
    ref = await add_license(database)
    async with owner(database) as holder, open_ledger(database) as ledger:
        async with holder.transaction():
            await holder.execute("SELECT 1 FROM license FOR UPDATE")
            waiting = asyncio.create_task(ledger.submit(ask(Activate, ref=ref)))
            await asyncio.sleep(0.5)
            released_at = await holder.fetchval("SELECT clock_timestamp()")
        device = device_of(await waiting)
    assert device.activated_at is not None
    assert device.activated_at >= released_at
    assert device.lease_expires_at == device.activated_at + 90 * DAY


async def test_a_license_that_is_held_for_too_long_is_unavailable_and_unchanged(database: Database) -> None:
    ref = await add_license(database)
    async with owner(database) as holder, open_ledger(database, statement_timeout_s=0.3) as ledger:
        async with holder.transaction():
            await holder.execute("SELECT 1 FROM license FOR UPDATE")
            with pytest.raises(UnavailableError):
                await ledger.submit(ask(Activate, ref=ref))
        assert code_of(await ledger.submit(ask(Activate, ref=ref))) is None
    await check_invariants(database)


# --- Callers --------------------------------------------------------------------------------------------------


async def test_a_caller_that_goes_away_cancels_nothing(database: Database) -> None:
    ref = await add_license(database)
    async with owner(database) as holder, open_ledger(database) as ledger:
        async with holder.transaction():
            await holder.execute("SELECT 1 FROM license FOR UPDATE")
            leaving = asyncio.create_task(ledger.submit(ask(Activate, "a", ref=ref)))
            staying = asyncio.create_task(ledger.submit(ask(Activate, "b", ref=ref)))
            await asyncio.sleep(0.1)
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
        assert code_of(await staying) is None
    assert await fetch(database, "SELECT seats_used FROM license") == [(2,)]


async def test_a_full_queue_refuses_at_once_and_what_it_took_is_served(database: Database) -> None:
    ref = await add_license(database, seats=50)
    async with open_ledger(database, queue_limit=5) as ledger:
        answers = await asyncio.gather(
            *(ledger.submit(ask(Activate, name, ref=ref)) for name in names(8)), return_exceptions=True
        )
        assert [type(answer) for answer in answers] == [Decision] * 5 + [OverloadedError] * 3
        assert code_of(await ledger.submit(ask(Activate, "later", ref=ref))) is None
    assert await fetch(database, "SELECT seats_used FROM license") == [(6,)]


async def test_closing_finishes_what_was_taken_and_takes_no_more(database: Database) -> None:
    ref = await add_license(database, seats=50)
    async with open_ledger(database) as ledger:
        taken = [asyncio.create_task(ledger.submit(ask(Activate, name, ref=ref))) for name in names(20)]
        await asyncio.sleep(0)
        await ledger.close()
        assert all(task.done() for task in taken)
        with pytest.raises(UnavailableError):
            await ledger.submit(ask(Activate, ref=ref))
    assert await fetch(database, "SELECT seats_used FROM license") == [(20,)]


async def test_what_was_committed_is_told_before_the_callers_are_answered(database: Database) -> None:
    ref = await add_license(database)
    told: list[Change] = []

    async def tell(changes: Sequence[Change]) -> None:
        told.extend(changes)

    async with open_ledger(database, after_commit=tell) as ledger:
        decision = await ledger.submit(ask(Activate, ref=ref))
        assert told == [Change(license=decision.license, base_version=1, devices=(device_of(decision),))]
        await ledger.submit(ask(Extend, ref=ref))
        assert told[1:] == [Change(license=decision.license, base_version=2, devices=(device_of(decision),))]


async def test_trouble_after_the_commit_changes_no_answer(database: Database) -> None:
    ref = await add_license(database)

    async def fail(changes: Sequence[Change]) -> None:
        raise ConnectionError

    async with open_ledger(database, after_commit=fail) as ledger:
        assert device_of(await ledger.submit(ask(Activate, ref=ref))).id == device_id(ref[1], "laptop")

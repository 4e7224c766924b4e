"""The ledger on a real Postgres: many at once, in one batch and across processes."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from uuid import uuid4

import asyncpg
import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from shared.ledger.ledger import Ledger, LicenseNotFoundError
from shared.ledger.reader import LicenseRef
from shared.licensing.codes import Code
from shared.licensing.model import (
    Activate,
    Approval,
    Approve,
    Command,
    Decision,
    DeviceState,
    Expire,
    Extend,
    Granted,
    Reason,
    Refused,
    Reinstate,
    Release,
    Resize,
    Suspend,
)
from tests.builders import (
    add_license,
    add_licenses,
    add_token,
    ask,
    code_of,
    device_of,
    fetch,
    floating,
    make_terms,
    names,
    open_ledger,
    shift_clock,
)
from tests.conftest import Database
from tests.invariants import check_invariants

NONCE = b"\x00\xff".ljust(16, b"\x01")
DAY = timedelta(days=1)
TOO_LONG = "x" * 257
"""A device's name that the database refuses."""


async def activate_all(ledger: Ledger, ref: LicenseRef, fingerprints: Sequence[str]) -> list[Decision]:
    return await asyncio.gather(*(ledger.submit(ask(Activate, one, ref=ref)) for one in fingerprints))


# --- A crowd at one license -----------------------------------------------------------------------------------


async def test_two_hundred_devices_at_four_processes_get_exactly_fifty_seats(database: Database) -> None:
    ref = await add_license(database, seats=50)
    requests = names(200) * 2  # every request comes twice, through any process
    random.Random(7).shuffle(requests)
    async with AsyncExitStack() as stack:
        ledgers = [await stack.enter_async_context(open_ledger(database)) for _ in range(4)]
        decisions = await asyncio.gather(
            *(ledgers[n % 4].submit(ask(Activate, one, ref=ref)) for n, one in enumerate(requests))
        )
    granted = [decision for decision in decisions if isinstance(decision.answer, Granted)]
    assert len({device_of(decision).id for decision in granted}) == 50
    assert sum(decision.answer == Granted(changed=True, device=device_of(decision)) for decision in granted) == 50
    assert {code_of(decision) for decision in decisions} == {None, Code.DEVICE_LIMIT_EXCEEDED}
    assert await fetch(database, "SELECT seats_used, seats_allowed FROM license") == [(50, 50)]
    await check_invariants(database)


async def test_seats_that_come_and_go_at_many_licenses_leave_every_count_right(database: Database) -> None:
    refs = await add_licenses(database, 6, seats=3)
    chance = random.Random(11)
    kinds: list[type[Command]] = [Activate, Activate, Release, Extend, Suspend, Reinstate]
    async with open_ledger(database) as one, open_ledger(database) as two:
        await asyncio.gather(
            *(
                chance.choice([one, two]).submit(
                    ask(chance.choice(kinds), chance.choice(names(5)), ref=chance.choice(refs))
                )
                for _ in range(600)
            )
        )
    await check_invariants(database)


async def test_a_token_is_used_exactly_as_often_as_it_may_be(database: Database) -> None:
    ref = await add_license(database, seats=50)
    token = await add_token(database, ref, max_uses=10)
    async with open_ledger(database) as one, open_ledger(database) as two:
        decisions = await asyncio.gather(
            *(
                ledger.submit(ask(Activate, name, ref=ref, token_id=token))
                for name in names(30)
                for ledger in (one, two)
            )
        )
    assert {code_of(decision) for decision in decisions} == {None, Code.TOKEN_EXHAUSTED}
    assert await fetch(database, "SELECT uses FROM activation_token") == [(10,)]
    assert await fetch(database, "SELECT seats_used FROM license") == [(10,)]


async def test_a_token_opens_its_own_license_alone_whoever_is_in_the_batch(database: Database) -> None:
    ours, theirs = await add_license(database), await add_license(database)
    token = await add_token(database, ours)
    async with open_ledger(database) as ledger:
        decisions = await asyncio.gather(
            *(ledger.submit(ask(Activate, ref=ref, token_id=token)) for ref in (ours, theirs))
        )
    assert [code_of(decision) for decision in decisions] == [None, Code.TOKEN_INVALID]


# --- One batch ------------------------------------------------------------------------------------------------


async def test_commands_of_one_batch_see_each_others_effects_in_their_order(database: Database) -> None:
    ref = await add_license(database, seats=1)
    async with open_ledger(database) as ledger:
        decisions = await asyncio.gather(
            ledger.submit(ask(Activate, "a", ref=ref)),
            ledger.submit(ask(Activate, "b", ref=ref)),
            ledger.submit(ask(Release, "a", ref=ref)),
            ledger.submit(ask(Activate, "b", ref=ref)),
            ledger.submit(ask(Extend, "a", ref=ref)),
        )
    assert [code_of(decision) for decision in decisions] == [
        None,
        Code.DEVICE_LIMIT_EXCEEDED,
        None,
        None,
        Code.LEASE_LOST,
    ]
    assert await fetch(database, "SELECT version, event FROM audit ORDER BY version") == [
        (1, "license.created"),
        (2, "device.activated"),
        (3, "device.released"),
        (4, "device.activated"),
    ]
    await check_invariants(database)


async def test_a_command_that_the_database_refuses_fails_alone(database: Database) -> None:
    refs = await add_licenses(database, 2)
    async with open_ledger(database) as ledger:
        with capture_logs() as logs:
            answers = await asyncio.gather(
                ledger.submit(ask(Activate, "a", ref=refs[0])),
                ledger.submit(ask(Activate, "b", ref=refs[0], name=TOO_LONG)),
                ledger.submit(ask(Activate, "c", ref=refs[1])),
                ledger.submit(ask(Activate, "d\x00", ref=refs[1])),
                ledger.submit(ask(Activate, "e", ref=refs[1], name="\ud800")),
                ledger.submit(ask(Activate, "f", ref=refs[1])),
                return_exceptions=True,
            )
    assert [isinstance(answer, Decision) for answer in answers] == [True, False, True, False, False, True]
    assert [log["event"] for log in logs] == ["ledger.batch_failed", *["ledger.command_failed"] * 3]
    assert isinstance(answers[1], asyncpg.CheckViolationError)
    assert await fetch(database, "SELECT fingerprint FROM device ORDER BY 1") == [("a",), ("c",), ("f",)]
    await check_invariants(database)


async def test_all_of_a_batch_is_decided_at_one_moment_of_the_databases_clock(database: Database) -> None:
    await shift_clock(database, 30 * DAY)
    ref = await add_license(database)
    async with open_ledger(database) as ledger:
        await activate_all(ledger, ref, names(3))
    rows = await fetch(
        database,
        "SELECT DISTINCT d.activated_at, d.lease_expires_at - d.activated_at, a.at, o.created_at,"
        " ledger_clock() - a.at < interval '1 minute'"
        " FROM device d JOIN audit a ON a.device_id = d.id JOIN outbox o ON o.version = a.version",
    )
    assert len(rows) == 1
    activated_at, lease, audited_at, told_at, is_recent = rows[0]
    assert (lease, audited_at, told_at, is_recent) == (90 * DAY, activated_at, activated_at, True)


async def test_a_license_is_found_under_its_own_account_alone(database: Database) -> None:
    ours, theirs = await add_license(database), await add_license(database)
    async with open_ledger(database) as ledger:
        for ref in [(theirs[0], ours[1]), (ours[0], uuid4())]:
            with pytest.raises(LicenseNotFoundError):
                await ledger.submit(ask(Activate, ref=ref))
        assert isinstance((await ledger.submit(ask(Activate, ref=ours))).answer, Granted)


# --- What is written ------------------------------------------------------------------------------------------

STATE = "SELECT xmin::text, version, seats_used FROM license UNION ALL SELECT xmin::text, generation, 0 FROM device"
WRITTEN = "SELECT (SELECT count(*) FROM audit), (SELECT count(*) FROM outbox)"


async def test_a_refusal_writes_nothing(database: Database) -> None:
    ref = await add_license(database, seats=1)
    async with open_ledger(database) as ledger:
        await ledger.submit(ask(Activate, "a", ref=ref))
        before = await fetch(database, STATE), await fetch(database, WRITTEN)
        refused = await asyncio.gather(
            ledger.submit(ask(Activate, "b", ref=ref)),
            ledger.submit(ask(Extend, "b", ref=ref)),
            ledger.submit(ask(Release, "b", ref=ref)),
            ledger.submit(ask(Release, "a", ref=ref, generation=2)),
        )
        repeated = await asyncio.gather(
            ledger.submit(ask(Activate, "a", ref=ref)),
            ledger.submit(ask(Expire, "a", ref=ref)),
            ledger.submit(ask(Resize, ref=ref, seats=1)),
        )
    assert all(isinstance(decision.answer, Refused) for decision in refused)
    assert all(isinstance(decision.answer, Granted) and not decision.answer.changed for decision in repeated)
    assert (await fetch(database, STATE), await fetch(database, WRITTEN)) == before


async def test_a_contact_moves_the_lease_and_tells_nobody(database: Database) -> None:
    ref = await add_license(database)
    async with open_ledger(database) as ledger:
        await ledger.submit(ask(Activate, ref=ref))
        before = await fetch(database, "SELECT xmin::text, version FROM license"), await fetch(database, WRITTEN)
        await shift_clock(database, 2 * DAY)
        device = device_of(await ledger.submit(ask(Extend, ref=ref)))
    assert (await fetch(database, "SELECT xmin::text, version FROM license"), await fetch(database, WRITTEN)) == before
    rows = await fetch(
        database, "SELECT last_contact_at, lease_expires_at, lease_expires_at - activated_at FROM device"
    )
    assert rows[0][:2] == (device.last_contact_at, device.lease_expires_at)
    assert 92 * DAY <= rows[0][2] < 93 * DAY


async def test_a_contact_and_an_event_of_one_batch_are_both_kept(database: Database) -> None:
    ref = await add_license(database)
    async with open_ledger(database) as ledger:
        await activate_all(ledger, ref, ["a", "b"])
        await shift_clock(database, 2 * DAY)
        await asyncio.gather(ledger.submit(ask(Extend, "a", ref=ref)), ledger.submit(ask(Release, "b", ref=ref)))
    rows = await fetch(
        database,
        "SELECT fingerprint, state, lease_expires_at > activated_at + interval '91 days' FROM device ORDER BY 1",
    )
    assert rows == [("a", "active", True), ("b", "released", False)]
    await check_invariants(database)


async def test_a_device_is_written_whole_and_read_back_the_same(database: Database) -> None:
    ref = await add_license(database, terms=make_terms(approval=Approval.ALLOW_LIST))
    async with open_ledger(database) as ledger:
        waiting = device_of(await ledger.submit(ask(Activate, ref=ref, name="Zoë’s 💻", nonce=NONCE)))
        approved = device_of(await ledger.submit(ask(Approve, ref=ref)))
        active = device_of(await ledger.submit(ask(Activate, ref=ref, nonce=NONCE)))
        again = device_of(await ledger.submit(ask(Activate, ref=ref)))
        released = device_of(await ledger.submit(ask(Release, ref=ref, reason=Reason.ADMIN)))
        after = device_of(await ledger.submit(ask(Release, ref=ref)))
    assert (waiting.state, waiting.name, waiting.approved) == (DeviceState.PENDING, "Zoë’s 💻", False)
    assert approved == replace(waiting, approved=True)
    assert (active.nonces, active.generation, active.name) == ((NONCE,), 1, "Zoë’s 💻")
    assert (again, after) == (active, released)
    await check_invariants(database)


# --- Silent devices of a full license -------------------------------------------------------------------------


async def test_a_full_license_frees_its_ended_leases_with_the_newcomers_seat(database: Database) -> None:
    ref = await add_license(database, seats=2, terms=floating())
    async with open_ledger(database) as ledger:
        await activate_all(ledger, ref, ["silent", "heard"])
        await shift_clock(database, timedelta(seconds=400))
        await ledger.submit(ask(Extend, "heard", ref=ref))
        await shift_clock(database, timedelta(seconds=700))
        assert code_of(await ledger.submit(ask(Activate, "new", ref=ref))) is None
        assert code_of(await ledger.submit(ask(Activate, "newer", ref=ref))) is Code.DEVICE_LIMIT_EXCEEDED
    trail = await fetch(
        database, "SELECT event, reason, seats_used, xmin::text FROM audit ORDER BY version DESC LIMIT 2"
    )
    assert [row[:3] for row in trail] == [("device.activated", None, 2), ("device.released", "lease_expired", 1)]
    assert trail[0][3] == trail[1][3]  # one transaction
    await check_invariants(database)


async def test_a_crowd_of_newcomers_gets_every_seat_that_silent_devices_left(database: Database) -> None:
    ref = await add_license(database, seats=200, terms=floating())
    async with open_ledger(database) as ledger:
        await activate_all(ledger, ref, names(200, "silent"))
        await shift_clock(database, timedelta(seconds=700))
        decisions = await activate_all(ledger, ref, names(200, "new"))
    assert [code_of(decision) for decision in decisions] == [None] * 200
    await check_invariants(database)


async def test_a_newcomer_gets_a_seat_of_a_shrunk_license_whose_devices_are_all_silent(database: Database) -> None:
    ref = await add_license(database, seats=5, terms=floating())
    async with open_ledger(database) as ledger:
        await activate_all(ledger, ref, names(5, "silent"))
        await ledger.submit(ask(Resize, ref=ref, seats=2))
        await shift_clock(database, timedelta(seconds=700))
        assert code_of(await ledger.submit(ask(Activate, "new", ref=ref))) is None
    assert await fetch(database, "SELECT seats_used <= 2, seats_allowed FROM license") == [(True, 2)]
    await check_invariants(database)


async def test_a_silent_device_that_is_heard_in_the_newcomers_batch_is_not_freed(database: Database) -> None:
    ref = await add_license(database, seats=2, terms=floating())
    async with open_ledger(database) as ledger:
        await ledger.submit(ask(Activate, "oldest", ref=ref))
        await ledger.submit(ask(Activate, "silent", ref=ref))
        await shift_clock(database, timedelta(seconds=700))
        decisions = await asyncio.gather(
            ledger.submit(ask(Extend, "oldest", ref=ref)), ledger.submit(ask(Activate, "new", ref=ref))
        )
    assert [code_of(decision) for decision in decisions] == [None, None]
    assert await fetch(database, "SELECT fingerprint FROM device WHERE state = 'released'") == [("silent",)]


# --- The last word --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("UPDATE license SET seats_used = seats_allowed + 1", "license_never_oversold"),
        ("UPDATE license SET seats_used = -1", "license_never_oversold"),
        ("UPDATE license SET seats_allowed = seats_limit - 1", "license_allowance"),
        ("UPDATE activation_token SET uses = max_uses + 1", "activation_token_never_overused"),
    ],
)
async def test_the_database_itself_refuses_to_oversell(database: Database, statement: str, constraint: str) -> None:
    await add_token(database, await add_license(database))
    with pytest.raises(asyncpg.CheckViolationError) as refusal:
        await fetch(database, statement)
    assert refusal.value.constraint_name == constraint

"""More commands than Postgres can serve in time: some are answered in time, and the others refused at once."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shared.batching import OverloadedError
from shared.ledger.ledger import Ledger
from shared.licensing.model import Activate, Decision
from tests.builders import add_license, ask, fetch, names, open_role, owner
from tests.conftest import Database
from tests.invariants import check_invariants
from tests.platform import Answer, Platform, eventually

pytest_plugins = ["tests.platform"]

WAIT_S = 0.4
ROW_S = 0.004
CAP = f"""
CREATE FUNCTION take_time() RETURNS trigger LANGUAGE plpgsql AS
'BEGIN PERFORM pg_sleep({ROW_S}); RETURN new; END';
CREATE TRIGGER take_time BEFORE INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION take_time();
"""


async def cap(database: Database) -> None:
    """From now on each fact takes its time, whatever the size of the batch."""
    async with owner(database) as connection:
        await connection.execute(CAP)


async def uncap(database: Database) -> None:
    async with owner(database) as connection:
        await connection.execute("DROP TRIGGER take_time ON outbox")


@asynccontextmanager
async def open_ledger_in_time(database: Database, refused: list[int]) -> AsyncIterator[Ledger]:
    async def tell_nobody(_: object) -> None:
        pass

    async with open_role(database.dsn_for("seatkeeper_activation")) as pool:
        ledger = Ledger(pool, after_commit=tell_nobody, wait_s=WAIT_S, on_refused=refused.append)
        yield ledger
        await ledger.close()


async def test_what_is_taken_under_overload_is_answered_in_time_and_the_rest_at_once(database: Database) -> None:
    ref = await add_license(database, seats=100_000)
    refused: list[int] = []
    took_s: dict[type, list[float]] = {Decision: [], OverloadedError: []}

    async def ask_once(ledger: Ledger, fingerprint: str) -> None:
        began = time.monotonic()
        try:
            answer: object = await ledger.submit(ask(Activate, fingerprint, ref=ref))
        except OverloadedError as error:
            answer = error
        took_s[type(answer)].append(time.monotonic() - began)

    await cap(database)
    async with open_ledger_in_time(database, refused) as ledger:
        await asyncio.gather(*(ask_once(ledger, name) for name in names(2000, "herd")))
        for times in took_s.values():
            times.clear()
        async with asyncio.TaskGroup() as group:
            for wave in range(50):
                for name in names(100, f"{wave}"):
                    group.create_task(ask_once(ledger, name))
                await asyncio.sleep(0.04)

    decided, overloaded = sorted(took_s[Decision]), sorted(took_s[OverloadedError])
    assert len(decided) + len(overloaded) == 5000
    assert sum(refused) >= len(overloaded) > 2500
    assert len(decided) > 0.5 * 2 / ROW_S  # of the two seconds, by one lane: the license is one
    assert decided[len(decided) * 99 // 100] < 4 * WAIT_S
    assert overloaded[len(overloaded) // 2] < 0.1
    await check_invariants(database)


async def test_a_ledger_that_was_slow_takes_all_again_once_it_is_quick(database: Database) -> None:
    ref = await add_license(database, seats=100_000)
    async with open_ledger_in_time(database, []) as ledger:
        await cap(database)
        herd = (ledger.submit(ask(Activate, name, ref=ref)) for name in names(600, "herd"))
        answers = await asyncio.gather(*herd, return_exceptions=True)
        assert OverloadedError in map(type, answers)
        await uncap(database)
        for name in names(3, "after"):
            await ledger.submit(ask(Activate, name, ref=ref))
        for number, count in enumerate([60] * 10 + [500]):  # the quickest batch tells how many there is room for
            await asyncio.gather(*(ledger.submit(ask(Activate, name, ref=ref)) for name in names(count, f"{number}-")))


async def test_what_was_refused_changed_nothing(database: Database) -> None:
    ref = await add_license(database, seats=100_000)
    await cap(database)
    async with open_ledger_in_time(database, []) as ledger:
        herd = (ledger.submit(ask(Activate, name, ref=ref)) for name in names(1000))
        answers = await asyncio.gather(*herd, return_exceptions=True)
    granted = sum(isinstance(answer, Decision) for answer in answers)
    assert {type(answer) for answer in answers} == {Decision, OverloadedError}
    assert await fetch(database, "SELECT seats_used FROM license") == [(granted,)]
    assert await fetch(database, "SELECT count(*) FROM device") == [(granted,)]


async def test_heartbeats_inside_the_floor_are_answered_while_the_ledger_has_no_room(fresh_platform: Platform) -> None:
    platform = fresh_platform
    grant = await (await platform.vendor()).license(seats=100_000)
    token = (await platform.api.activate(grant.key)).ok(201)["deviceToken"]
    await cap(platform.database)
    herd = [asyncio.create_task(platform.api.activate(grant.key, name)) for name in names(1500, "herd")]

    refused: list[Answer] = []

    async def overloaded() -> bool:
        refused[:] = [await platform.api.activate(grant.key, "another")]
        return refused[0].status == 503

    await eventually(overloaded)
    assert refused[0].refusal == (503, "OVERLOADED")
    assert refused[0].headers["Retry-After"] == "1"
    for _ in range(5):
        (await platform.api.heartbeat(token)).ok()
    answers = await asyncio.gather(*herd)
    assert {answer.status for answer in answers} == {201, 503}
    metrics = platform.resources.metrics.render().decode()
    (count,) = (line.split()[1] for line in metrics.splitlines() if line.startswith("seatkeeper_ledger_refused_total "))
    assert float(count) > sum(answer.status == 503 for answer in answers)

"""The inbox: however often and in whatever order facts come, each has its effect in Postgres once."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import pytest

from shared.facts.amqp import Publisher
from shared.facts.topology import PROJECTOR
from shared.ledger.connections import Connection, Pool, UnavailableError
from shared.ledger.inbox import Effect, Inbox, clear_received, receive_once
from shared.licensing.facts import Fact, encode
from tests.builders import fetch, open_role, shift_clock
from tests.conftest import Database
from tests.facts import consuming, depth, make_fact, new_ref, until

pytest_plugins = ["tests.rabbitmq"]

COUNT = "INSERT INTO effect (license_id, version) SELECT * FROM unnest($1::uuid[], $2::bigint[])"
SLOW = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.005); RETURN NEW; END $$"
EFFECTS = "SELECT version, count(*)::int FROM effect GROUP BY license_id, version ORDER BY version"


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    """The reaper's role, and a table in which effects can be counted."""
    await fetch(database, "CREATE TABLE effect (license_id uuid, version bigint)")
    await fetch(database, "GRANT INSERT ON effect TO seatkeeper_reaper")
    async with open_role(database.dsn_for("seatkeeper_reaper"), size=8) as pool:
        yield pool


async def count(connection: Connection, facts: Sequence[Fact]) -> None:
    await connection.execute(COUNT, [fact.license_id for fact in facts], [fact.version for fact in facts])


async def test_a_fact_that_comes_twice_has_its_effect_once(database: Database, pool: Pool) -> None:
    inbox = Inbox(pool, "reaper", count)
    await inbox([make_fact(1), make_fact(2)])
    await inbox([make_fact(2), make_fact(3), make_fact(3)])
    assert await fetch(database, EFFECTS) == [(1, 1), (2, 1), (3, 1)]


async def test_new_facts_come_in_the_order_in_which_they_were_delivered(pool: Pool) -> None:
    facts = [make_fact(version) for version in (3, 1, 3, 2, 1)]
    async with pool.acquire() as connection:
        assert [fact.version for fact in await receive_once(connection, "reaper", facts)] == [3, 1, 2]
        assert await receive_once(connection, "reaper", facts) == []
        assert await receive_once(connection, "reaper", []) == []


async def test_consumers_licenses_and_accounts_are_told_apart(pool: Pool) -> None:
    account, license = new_ref()
    other_account, other_license = new_ref()
    facts = [make_fact(1, ref=ref) for ref in ((account, license), (other_account, license), (account, other_license))]
    async with pool.acquire() as connection:
        for consumer in ("reaper", "mail"):
            assert await receive_once(connection, consumer, facts) == facts


async def test_an_effect_that_fails_leaves_its_facts_new(database: Database, pool: Pool) -> None:
    async def fail(connection: Connection, facts: Sequence[Fact]) -> None:
        await count(connection, facts)
        raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        await Inbox(pool, "reaper", fail)([make_fact(1)])
    assert await fetch(database, EFFECTS) == []
    await Inbox(pool, "reaper", count)([make_fact(1)])
    assert await fetch(database, EFFECTS) == [(1, 1)]


async def test_a_delivery_waits_for_another_of_the_same_fact_and_takes_over_when_that_fails(
    database: Database, pool: Pool
) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def fail(connection: Connection, facts: Sequence[Fact]) -> None:
        entered.set()
        await go_on.wait()
        raise ValueError

    first = asyncio.ensure_future(Inbox(pool, "reaper", fail)([make_fact(1)]))
    await entered.wait()
    second = asyncio.ensure_future(Inbox(pool, "reaper", count)([make_fact(1)]))
    await asyncio.sleep(0.1)
    assert not second.done()
    go_on.set()
    await asyncio.wait([first, second])
    assert isinstance(first.exception(), ValueError)
    assert await fetch(database, EFFECTS) == [(1, 1)]


async def test_deliveries_side_by_side_in_any_order_never_lock_each_other_out(database: Database, pool: Pool) -> None:
    await fetch(database, SLOW)
    await fetch(database, "CREATE TRIGGER slow BEFORE INSERT ON inbox FOR EACH ROW EXECUTE FUNCTION slow()")
    facts = [make_fact(version) for version in range(1, 21)]
    inbox = Inbox(pool, "reaper", count)
    await asyncio.gather(inbox(facts), inbox(facts[::-1]), inbox(facts[10:] + facts[:10]))
    assert await fetch(database, EFFECTS) == [(version, 1) for version in range(1, 21)]


async def test_many_deliveries_side_by_side_have_each_effect_once(database: Database, pool: Pool) -> None:
    facts = [make_fact(version, ref=ref) for ref in (new_ref(), new_ref()) for version in range(1, 101)]
    inbox = Inbox(pool, "reaper", count)
    chance = random.Random(3)
    shuffled = [chance.sample(facts, 60) for _ in range(40)] + [facts]
    await asyncio.gather(*map(inbox, shuffled))
    assert await fetch(database, "SELECT count(*), count(DISTINCT (license_id, version)) FROM effect") == [(200, 200)]


async def test_a_connection_lost_on_the_way_is_told_as_such(database: Database, pool: Pool) -> None:
    async def lose(connection: Connection, facts: Sequence[Fact]) -> None:
        await count(connection, facts)
        await fetch(
            database, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'"
        )
        await until(connection.is_closed)

    with pytest.raises(UnavailableError):
        await Inbox(pool, "reaper", lose)([make_fact(1)])
    await Inbox(pool, "reaper", count)([make_fact(1)])
    assert await fetch(database, EFFECTS) == [(1, 1)]


async def test_what_was_received_long_ago_is_forgotten(database: Database, pool: Pool) -> None:
    inbox = Inbox(pool, "reaper", count)
    await inbox([make_fact(version) for version in range(1, 2502)])
    await shift_clock(database, timedelta(days=29))
    await inbox([make_fact(3000)])
    await clear_received(pool)
    assert await fetch(database, "SELECT count(*) FROM inbox") == [(2502,)]
    await shift_clock(database, timedelta(days=31))
    await clear_received(pool)
    assert await fetch(database, "SELECT version FROM inbox") == [(3000,)]


@pytest.mark.parametrize("service", ["activation", "heartbeat", "reaper", "standalone"])
async def test_every_service_may_receive_and_forget_but_not_change(database: Database, service: str) -> None:
    async with open_role(database.dsn_for(f"seatkeeper_{service}")) as pool:
        async with pool.acquire() as connection:
            assert len(await receive_once(connection, service, [make_fact(1)])) == 1
        await clear_received(pool)
        rights = "SELECT has_table_privilege($1, 'inbox', 'UPDATE'), has_table_privilege($1, 'inbox', 'TRUNCATE')"
        assert await fetch(database, rights, f"seatkeeper_{service}") == [(False, False)]


async def test_deliveries_that_are_duplicated_shuffled_and_fail_have_each_effect_once(
    facts_url: str, database: Database, pool: Pool
) -> None:
    chance = random.Random(7)
    facts = [
        encode(make_fact(version, ref=ref)) for ref in (new_ref(), new_ref(), new_ref()) for version in range(1, 41)
    ]
    inbox = Inbox(pool, "reaper", failing_now_and_then(chance))
    publisher = Publisher(facts_url, name="tests")
    for _ in range(4):
        chance.shuffle(facts)
        for start in range(0, len(facts), 9):
            await publisher.publish(facts[start : start + 9])
    await publisher.close()
    async with consuming(facts_url, inbox, prefetch=4) as one, consuming(facts_url, inbox, prefetch=4) as two:
        await until(lambda: one.tally.messages + two.tally.messages == 4 * 14, within_s=20)
    assert await fetch(database, "SELECT count(*), count(DISTINCT (license_id, version)) FROM effect") == [(120, 120)]
    assert await depth(facts_url, PROJECTOR.dead_queue) == 0


def failing_now_and_then(chance: random.Random) -> Effect:
    async def effect(connection: Connection, facts: Sequence[Fact]) -> None:
        await count(connection, facts)
        if chance.random() < 0.2:
            raise ValueError

    return effect

"""From the commit to the consumer: every fact, soon, and each license's in the order of its commits."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from shared.facts.amqp import Publisher
from shared.facts.relay import Relay
from shared.ledger.connections import Pool, UnavailableError
from shared.ledger.ledger import Ledger
from shared.ledger.outbox import clear_sent, relay_once
from shared.ledger.reader import LicenseRef
from shared.licensing.facts import decode, encode
from shared.licensing.model import Activate, Resize
from shared.runtime.background import background
from tests.builders import add_license, add_licenses, ask, fetch, open_ledger, open_role, owner
from tests.conftest import Database
from tests.facts import Received, consuming, make_fact, open_way, until

pytest_plugins = ["tests.rabbitmq"]

UNSENT = "SELECT count(*) FROM outbox WHERE sent_at IS NULL"
INSERT = "INSERT INTO outbox (account_id, license_id, version, fact, created_at) VALUES ($1, $2, $3, $4, now())"


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    async with open_role(database.dsn_for("seatkeeper_activation"), size=8) as pool:
        yield pool


@asynccontextmanager
async def relaying(database: Database, url: str, woken: asyncio.Event, *, limit: int = 20) -> AsyncIterator[Publisher]:
    """A relay at work, with a pool and a publisher of its own, as a process of a service has."""
    publisher = Publisher(url, name="tests", timeout_s=0.5)
    async with open_role(database.dsn_for("seatkeeper_activation"), size=2) as pool:
        relay = Relay(
            take=lambda publish: relay_once(pool, publish, limit=limit),
            full=limit,
            transport=publisher,
            clear=lambda: clear_sent(pool),
            woken=woken,
        )
        async with background(relay.run):
            yield publisher
    await publisher.close()


@asynccontextmanager
async def waking_ledger(database: Database, woken: Sequence[asyncio.Event]) -> AsyncIterator[Ledger]:
    async def wake(changes: object) -> None:
        for event in woken:
            event.set()

    async with open_ledger(database, after_commit=wake) as ledger:
        yield ledger


async def resize(ledger: Ledger, ref: LicenseRef, count: int) -> None:
    """So many changes of one license, one after the other."""
    for seats in range(count):
        await ledger.submit(ask(Resize, ref=ref, seats=10 + seats))


async def test_a_commit_reaches_the_consumer_at_once(facts_url: str, database: Database) -> None:
    ref, received, woken = await add_license(database), Received(), asyncio.Event()
    woken.set()
    loop = asyncio.get_running_loop()
    async with (
        consuming(facts_url, received),
        relaying(database, facts_url, woken),
        waking_ledger(database, [woken]) as ledger,
    ):
        await until(lambda: received.versions == [1])
        began = loop.time()
        await ledger.submit(ask(Activate, ref=ref))
        await until(lambda: received.versions == [1, 2])
        assert loop.time() - began < 0.25
    assert await fetch(database, UNSENT) == [(0,)]


async def test_many_relays_keep_each_license_in_order_while_connections_break(
    facts_url: str, database: Database
) -> None:
    refs, received, chance = await add_licenses(database, 5), Received(), random.Random(11)
    woken = [asyncio.Event() for _ in range(4)]
    async with AsyncExitStack() as stack:
        way = await stack.enter_async_context(open_way(facts_url))
        await stack.enter_async_context(consuming(facts_url, received))
        for event in woken:
            await stack.enter_async_context(relaying(database, way.url, event, limit=7))
        ledger = await stack.enter_async_context(waking_ledger(database, woken))
        changes = asyncio.gather(*(resize(ledger, ref, 300) for ref in refs))
        while not changes.done():
            await asyncio.sleep(chance.uniform(0.05, 0.2))
            way.cut()
        await changes
        await until(lambda: sum(map(len, received.by_license().values())) == 5 * 301, within_s=30)
    assert received.by_license() == {ref[1]: list(range(1, 302)) for ref in refs}
    assert await fetch(database, UNSENT) == [(0,)]


async def test_a_relay_waits_for_its_turn_and_then_goes_on_where_the_other_ended(
    database: Database, pool: Pool
) -> None:
    ref, entered, go_on = await add_license(database), asyncio.Event(), asyncio.Event()
    async with open_ledger(database) as ledger:
        await resize(ledger, ref, 5)
    order: list[tuple[str, int]] = []

    async def first(facts: Sequence[str]) -> None:
        entered.set()
        await go_on.wait()
        order.extend(("first", decode(fact).version) for fact in facts)

    async def second(facts: Sequence[str]) -> None:
        order.extend(("second", decode(fact).version) for fact in facts)

    taking = asyncio.ensure_future(relay_once(pool, first, limit=3))
    await entered.wait()
    waiting = asyncio.ensure_future(relay_once(pool, second, limit=3))
    await asyncio.sleep(0.2)
    assert order == []
    go_on.set()
    assert [await taking, await waiting] == [3, 3]
    assert order == [("first", 1), ("first", 2), ("first", 3), ("second", 4), ("second", 5), ("second", 6)]


async def test_a_relay_that_lost_its_turn_is_followed_from_where_it_began(database: Database, pool: Pool) -> None:
    ref = await add_license(database)
    async with open_ledger(database) as ledger:
        await resize(ledger, ref, 3)
    seen: list[list[int]] = []

    async def note(facts: Sequence[str]) -> None:
        seen.append([decode(fact).version for fact in facts])

    async def lose_the_turn(facts: Sequence[str]) -> None:
        await fetch(database, "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted")
        await relay_once(pool, note)
        await note(facts)

    with pytest.raises(UnavailableError):
        await relay_once(pool, lose_the_turn, limit=2)
    assert seen == [[1, 2, 3, 4], [1, 2]]


async def test_a_change_that_was_begun_first_and_committed_last_is_not_left_behind(
    facts_url: str, database: Database
) -> None:
    """Its fact has the lower id, and turns up when the relay has long been past it."""
    early, late = await add_licenses(database, 2)
    received, woken = Received(), asyncio.Event()
    async with consuming(facts_url, received), relaying(database, facts_url, woken), owner(database) as slow:
        async with slow.transaction():
            await slow.execute(INSERT, *early, 2, encode(make_fact(2, ref=early)))
            async with waking_ledger(database, [woken]) as ledger:
                await ledger.submit(ask(Activate, ref=late))
            await until(lambda: received.by_license() == {early[1]: [1], late[1]: [1, 2]})
        woken.set()
        await until(lambda: received.by_license() == {early[1]: [1, 2], late[1]: [1, 2]})
    (last,) = await fetch(database, "SELECT license_id FROM outbox ORDER BY id DESC LIMIT 1")
    assert last[0] == late[1]

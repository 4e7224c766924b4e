"""The outbox on its way: each fact at least once, marked only when it was taken over, and enough to mend Redis."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from services.heartbeat.projector import Projector
from shared.facts import relay as relay_module
from shared.facts.relay import Relay, Take
from shared.facts.transport import InProcess, Receive, Transport
from shared.ledger.connections import Pool, UnavailableError
from shared.ledger.outbox import BATCH, clear_sent, relay_once
from shared.ledger.reader import LicenseRef
from shared.licensing.facts import Fact, decode
from shared.licensing.model import Activate, Block, Command, DeviceState, Extend, Release, Resize, Suspend, device_id
from shared.runtime.background import background
from shared.seats import keys
from shared.seats.connection import RedisConnection
from shared.seats.projection import Clock, Projection
from tests.builders import NOW, add_license, add_licenses, ask, fetch, open_ledger, open_role, shift_clock
from tests.conftest import Database

UNSENT = "SELECT count(*) FROM outbox WHERE sent_at IS NULL"
HEARTBEAT = "seatkeeper_heartbeat"


class Received:
    """A receiver that remembers; it fails as many times as it is told to."""

    def __init__(self, failures: int = 0) -> None:
        self.facts: list[Fact] = []
        self.failures = failures

    async def __call__(self, facts: Sequence[Fact]) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError
        self.facts.extend(facts)

    @property
    def versions(self) -> list[int]:
        return [fact.version for fact in self.facts]


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    async with open_role(database.dsn_for(HEARTBEAT)) as pool:
        yield pool


@asynccontextmanager
async def running(pool: Pool, *receivers: Receive, woken: asyncio.Event | None = None) -> AsyncIterator[None]:
    """A relay at work, woken once at its start."""
    woken = woken or asyncio.Event()
    woken.set()
    async with background(relay_of(pool, InProcess(receivers), woken).run):
        yield


def relay_of(pool: Pool, transport: Transport, woken: asyncio.Event) -> Relay:
    return Relay(
        take=lambda publish: relay_once(pool, publish, limit=10),
        full=10,
        transport=transport,
        clear=lambda: clear_sent(pool),
        woken=woken,
    )


async def change(database: Database, ref: LicenseRef, count: int) -> None:
    """Commit so many changes after the license's creation."""
    async with open_ledger(database) as ledger:
        for seats in range(count):
            await ledger.submit(ask(Resize, ref=ref, seats=10 + seats))


async def until(condition: Received, count: int) -> None:
    async with asyncio.timeout(5):
        while len(condition.facts) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


# --- Handing over ---------------------------------------------------------------------------------------------


async def test_facts_are_handed_over_in_their_order_and_marked(database: Database, pool: Pool) -> None:
    ref = await add_license(database)
    await change(database, ref, 3)
    received = Received()
    assert await relay_once(pool, InProcess([received]).publish) == 4
    assert [(fact.type, fact.version, fact.license_id) for fact in received.facts] == [
        ("license.created", 1, ref[1]),
        ("license.resized", 2, ref[1]),
        ("license.resized", 3, ref[1]),
        ("license.resized", 4, ref[1]),
    ]
    assert await fetch(database, UNSENT) == [(0,)]
    assert await relay_once(pool, InProcess([received]).publish) == 0
    assert len(received.facts) == 4


async def test_facts_are_not_marked_before_they_were_taken_over(database: Database, pool: Pool) -> None:
    await add_license(database)
    seen: list[int] = []

    async def publish(facts: Sequence[str]) -> None:
        seen.extend(row[0] for row in await fetch(database, UNSENT))

    await relay_once(pool, publish)
    assert (seen, await fetch(database, UNSENT)) == ([1], [(0,)])


async def test_facts_that_were_not_taken_over_are_handed_over_again(database: Database, pool: Pool) -> None:
    await change(database, await add_license(database), 1)
    received = Received(failures=1)
    with pytest.raises(ConnectionError):
        await relay_once(pool, InProcess([received]).publish)
    assert await fetch(database, UNSENT) == [(2,)]
    await relay_once(pool, InProcess([received]).publish)
    assert received.versions == [1, 2]


async def test_a_receiver_that_fails_makes_the_others_get_the_facts_twice(database: Database, pool: Pool) -> None:
    await add_license(database)
    first, second = Received(), Received(failures=1)
    with pytest.raises(ConnectionError):
        await relay_once(pool, InProcess([first, second]).publish)
    await relay_once(pool, InProcess([first, second]).publish)
    assert (first.versions, second.versions) == ([1, 1], [1])


async def test_a_relay_that_dies_after_handing_over_hands_over_again(database: Database, pool: Pool) -> None:
    await add_license(database)
    received = Received()

    async def publish_and_die(facts: Sequence[str]) -> None:
        await received([decode(fact) for fact in facts])
        await fetch(
            database, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'"
        )

    with pytest.raises(UnavailableError):
        await relay_once(pool, publish_and_die)
    await relay_once(pool, InProcess([received]).publish)
    assert received.versions == [1, 1]


async def test_two_relays_take_turns_and_hand_over_each_fact_once(database: Database, pool: Pool) -> None:
    await change(database, await add_license(database), 19)
    told: list[list[int]] = []
    at_work = 0

    async def publish(facts: Sequence[str]) -> None:
        nonlocal at_work
        at_work += 1
        assert at_work == 1
        await asyncio.sleep(0.1)
        told.append([decode(fact).version for fact in facts])
        at_work -= 1

    async with asyncio.timeout(5):
        assert await asyncio.gather(*(relay_once(pool, publish, limit=10) for _ in range(2))) == [10, 10]
    assert told == [list(range(1, 11)), list(range(11, 21))]
    assert await fetch(database, UNSENT) == [(0,)]


async def test_what_was_sent_long_ago_is_cleared_away(database: Database, pool: Pool) -> None:
    ref = await add_license(database)
    await relay_once(pool, InProcess([]).publish)
    await change(database, ref, 1)
    await shift_clock(database, timedelta(hours=23))
    await clear_sent(pool)
    assert await fetch(database, "SELECT version FROM outbox ORDER BY 1") == [(1,), (2,)]
    await shift_clock(database, timedelta(hours=25))
    await clear_sent(pool)
    assert await fetch(database, "SELECT version FROM outbox") == [(2,)]


async def test_clearing_keeps_up_with_whatever_was_sent(database: Database, pool: Pool) -> None:
    ref = await add_license(database)
    await fetch(
        database,
        "INSERT INTO outbox (account_id, license_id, version, fact, created_at, sent_at)"
        " SELECT $1, $2, n, '{}', now(), now() - interval '2 days' FROM generate_series(2, 2500) n",
        *ref,
    )
    await clear_sent(pool)
    assert await fetch(database, "SELECT version FROM outbox") == [(1,)]


# --- The worker -----------------------------------------------------------------------------------------------


async def test_a_commit_wakes_the_relay(database: Database, pool: Pool) -> None:
    ref = await add_license(database)
    received, woken = Received(), asyncio.Event()

    async def wake(changes: object) -> None:
        woken.set()

    async with running(pool, received, woken=woken), open_ledger(database, after_commit=wake) as ledger:
        await until(received, 1)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await ledger.submit(ask(Activate, ref=ref))
        await until(received, 2)
        assert loop.time() - began < 0.5  # without the waking it would rest for a second


async def test_the_relay_empties_a_full_outbox_batch_by_batch(database: Database, pool: Pool) -> None:
    await change(database, await add_license(database), 34)
    received = Received()
    async with running(pool, received):
        await until(received, 35)
    assert received.versions == list(range(1, 36))


async def test_commits_that_follow_each_other_closely_share_turns() -> None:
    loop, woken, turns = asyncio.get_running_loop(), asyncio.Event(), 0

    async def take(publish: Callable[[Sequence[str]], Awaitable[None]]) -> int:
        nonlocal turns
        turns += 1
        return 9

    async with background(turning(take, woken).run):
        until_s = loop.time() + 0.3
        while loop.time() < until_s:
            woken.set()
            await asyncio.sleep(0)
    assert 5 < turns <= 0.3 / relay_module.GATHER_S + 2


async def test_a_full_turn_is_followed_by_the_next_at_once() -> None:
    loop, counts, ended = asyncio.get_running_loop(), [10] * 100, asyncio.Event()
    began = loop.time()

    async def take(publish: Callable[[Sequence[str]], Awaitable[None]]) -> int:
        if counts:
            return counts.pop()
        ended.set()
        return 0

    woken = asyncio.Event()
    woken.set()
    async with background(turning(take, woken).run), asyncio.timeout(5):
        await ended.wait()
    assert loop.time() - began < 100 * relay_module.GATHER_S / 2


def turning(take: Take, woken: asyncio.Event) -> Relay:
    """A relay whose turns are full with ten facts, and that has nothing to clear."""

    async def clear() -> None:
        pass

    return Relay(take=take, full=10, transport=InProcess([]), clear=clear, woken=woken)


async def test_the_relay_survives_a_transport_that_fails_for_a_while(database: Database, pool: Pool) -> None:
    await add_license(database)
    received = Received(failures=2)
    async with running(pool, received):
        await until(received, 1)
    assert received.versions == [1]


async def test_the_relay_survives_a_transport_that_fails_for_days(
    database: Database, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_license(database)
    monkeypatch.setattr(relay_module, "random", SimpleNamespace(uniform=lambda shortest, longest: 0.0))
    failures, received = iter(range(1100)), Received()

    async def take(publish: Callable[[Sequence[str]], Awaitable[None]]) -> int:
        if next(failures, None) is not None:
            raise ConnectionError
        return await relay_once(pool, publish)

    with capture_logs():
        relay = Relay(
            take=take,
            full=BATCH,
            transport=InProcess([received]),
            clear=lambda: clear_sent(pool),
            woken=asyncio.Event(),
        )
        async with background(relay.run):
            await until(received, 1)
    assert received.versions == [1]


# --- Mending Redis --------------------------------------------------------------------------------------------


class Mirror:
    """Redis as facts alone make it."""

    def __init__(self, url: str) -> None:
        self.connection = RedisConnection(url)
        self.projection = Projection(self.connection, Clock(now_s=NOW.timestamp, epoch=lambda: 1))
        self.receive = Projector(self.projection)

    async def held(self, ref: LicenseRef) -> tuple[int, int, set[bytes]]:
        """Version and used seats in Redis, and the fields of the devices."""
        standing = await self.projection.standing(*ref)
        assert standing is not None
        fields = await self.connection.client.hkeys(keys.license_key(*ref))
        return (
            standing.version,
            standing.seats_used,
            {field for field in fields if isinstance(field, bytes)} - {keys.HEADER_FIELD},
        )


@pytest.fixture
async def mirror(redis_url: str) -> AsyncIterator[Mirror]:
    mirror = Mirror(redis_url)
    yield mirror
    await mirror.connection.close()


async def in_postgres(database: Database, ref: LicenseRef) -> tuple[int, int, set[bytes]]:
    rows = await fetch(database, "SELECT version, seats_used FROM license WHERE id = $1", ref[1])
    active = await fetch(
        database, "SELECT id FROM device WHERE license_id = $1 AND state = $2", ref[1], DeviceState.ACTIVE
    )
    return rows[0][0], rows[0][1], {keys.device_field(id) for (id,) in active}


async def play(database: Database, refs: Sequence[LicenseRef]) -> None:
    """A history of both licenses; nothing of it is pushed."""
    chance = random.Random(5)
    kinds: list[type[Command]] = [Activate, Activate, Activate, Release, Block, Suspend, Extend]
    async with open_ledger(database) as ledger:
        for _ in range(60):
            await ledger.submit(ask(chance.choice(kinds), f"device-{chance.randrange(6)}", ref=chance.choice(refs)))
        for ref in refs:
            await ledger.submit(ask(Activate, "last", ref=ref))


async def test_facts_alone_repair_redis(database: Database, pool: Pool, mirror: Mirror) -> None:
    refs = await add_licenses(database, 2)
    await play(database, refs)
    await relay_of(pool, InProcess([mirror.receive]), asyncio.Event()).drain()
    for ref in refs:
        assert await mirror.held(ref) == await in_postgres(database, ref)


async def test_facts_in_any_order_and_number_show_the_newest_and_no_seat_that_is_gone(
    database: Database, mirror: Mirror
) -> None:
    refs = await add_licenses(database, 2)
    await play(database, refs)
    facts = [decode(text) for (text,) in await fetch(database, "SELECT fact FROM outbox")] * 2
    for seed in range(5):
        await mirror.connection.client.flushdb()
        random.Random(seed).shuffle(facts)
        for start in range(0, len(facts), 7):
            await mirror.receive(facts[start : start + 7])
        for ref in refs:
            (version, used, fields), (true_version, true_used, true_fields) = (
                await mirror.held(ref),
                await in_postgres(database, ref),
            )
            assert (version, used) == (true_version, true_used)
            assert fields <= true_fields


async def test_a_late_fact_does_not_bring_a_released_device_back(
    database: Database, pool: Pool, mirror: Mirror
) -> None:
    ref = await add_license(database)

    async def push(changes: object) -> None:
        await mirror.projection.push(changes)  # type: ignore[arg-type]

    async with open_ledger(database, after_commit=push) as ledger:
        await ledger.submit(ask(Activate, ref=ref))
        await ledger.submit(ask(Release, ref=ref))
    assert await relay_once(pool, InProcess([mirror.receive]).publish) == 3
    assert await mirror.held(ref) == (3, 0, set())
    assert (await mirror.projection.contact(*ref, device_id(ref[1], "laptop"), 0)).floor_s is None

"""The watermark: an emptied, restarted or set-back Redis is found out, and the epoch raised once, however many look."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from redis.asyncio import Redis

from services.standalone.embedded import start_redis, wheel_valkey_binary
from shared.ledger.clock import Clock
from shared.ledger.connections import UnavailableError
from shared.seats.connection import RedisConnection
from shared.seats.keys import WATERMARK
from shared.seats.watermark import MAX_AGE_S, Watermark
from tests.builders import NOW, fetch, open_role, shift_clock
from tests.conftest import Database

EPOCH = "SELECT epoch FROM projection"


class Keeper:
    """A process that keeps the watermark."""

    def __init__(self, clock: Clock, connection: RedisConnection) -> None:
        self.clock = clock
        self.watermark = Watermark(connection, clock.raise_epoch)

    async def keep(self) -> None:
        await self.watermark.keep(now=self.clock.now(), epoch=lambda: self.clock.epoch)


@pytest.fixture
async def keepers(database: Database, redis_url: str) -> AsyncIterator[list[Keeper]]:
    """Four processes that have agreed on a first mark."""
    async with AsyncExitStack() as stack:
        keepers = []
        for _ in range(4):
            pool = await stack.enter_async_context(open_role(database.dsn_for("seatkeeper_heartbeat"), size=1))
            connection = RedisConnection(redis_url)
            stack.push_async_callback(connection.close)
            keepers.append(Keeper(Clock(pool), connection))
        await pulse(keepers)
        await pulse(keepers)
        yield keepers


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url, protocol=2) as client:
        yield client


async def pulse(keepers: list[Keeper]) -> None:
    """All of them at once, each by its own reading of the clock."""
    await asyncio.gather(*(keeper.clock.read() for keeper in keepers))
    await asyncio.gather(*(keeper.keep() for keeper in keepers))


async def rewrite(client: Redis, *, run: str | None = None, older_s: float = 0) -> None:
    """Put back the mark as it would be after a restore: of another run of the server, or so much older."""
    mark = await client.get(WATERMARK)
    assert isinstance(mark, bytes)
    epoch, own_run, at_us = mark.decode().split(":")
    await client.set(WATERMARK, f"{epoch}:{run or own_run}:{int(at_us) - int(older_s * 1_000_000)}")


# --- An unbroken history --------------------------------------------------------------------------------------


async def test_the_first_mark_in_an_empty_redis_begins_a_new_epoch(database: Database, keepers: list[Keeper]) -> None:
    assert await fetch(database, EPOCH) == [(2,)]
    assert {keeper.clock.epoch for keeper in keepers} == {2}


async def test_marks_of_many_side_by_side_raise_nothing(database: Database, keepers: list[Keeper]) -> None:
    for keeper in [*keepers, *reversed(keepers)]:
        await keeper.clock.read()
        await keeper.keep()
    for _ in range(3):
        await pulse(keepers)
    assert await fetch(database, EPOCH) == [(2,)]


async def test_a_process_that_comes_late_joins_the_history(
    database: Database, keepers: list[Keeper], redis_url: str
) -> None:
    connection = RedisConnection(redis_url)
    newcomer = Keeper(keepers[0].clock, connection)
    await newcomer.keep()
    await connection.close()
    assert await fetch(database, EPOCH) == [(2,)]


async def test_the_mark_moves_with_the_databases_clock(
    database: Database, keepers: list[Keeper], client: Redis
) -> None:
    before = await client.get(WATERMARK)
    await shift_clock(database, timedelta(seconds=MAX_AGE_S - 1))
    await pulse(keepers)
    after = await client.get(WATERMARK)
    assert isinstance(before, bytes)
    assert isinstance(after, bytes)
    moved_us = int(after.rsplit(b":", 1)[1]) - int(before.rsplit(b":", 1)[1])
    assert 3_900_000 < moved_us < 5_000_000
    assert await fetch(database, EPOCH) == [(2,)]


# --- A broken one ---------------------------------------------------------------------------------------------

BREAKS: dict[str, Callable[[Redis], Awaitable[object]]] = {
    "emptied": lambda client: client.flushdb(),
    "restarted": lambda client: rewrite(client, run="0123abcd"),
    "set back by two seconds": lambda client: rewrite(client, older_s=2),
    "six seconds old": lambda client: rewrite(client, older_s=MAX_AGE_S + 1),
}


@pytest.mark.parametrize("break_it", BREAKS.values(), ids=BREAKS.keys())
async def test_a_broken_history_raises_the_epoch_once_for_all(
    database: Database, keepers: list[Keeper], client: Redis, break_it: Callable[[Redis], Awaitable[object]]
) -> None:
    await break_it(client)
    await pulse(keepers)
    await pulse(keepers)
    await pulse(keepers)
    assert await fetch(database, EPOCH) == [(3,)]
    assert {keeper.clock.epoch for keeper in keepers} == {3}


async def test_marks_that_were_late_raise_the_epoch_once(database: Database, keepers: list[Keeper]) -> None:
    await shift_clock(database, timedelta(seconds=MAX_AGE_S + 1))
    await pulse(keepers)
    await pulse(keepers)
    assert await fetch(database, EPOCH) == [(3,)]


async def test_the_first_to_notice_raises_it_for_the_others(
    database: Database, keepers: list[Keeper], client: Redis
) -> None:
    await client.flushdb()
    await keepers[0].clock.read()
    await keepers[0].keep()
    for keeper in keepers[1:]:
        await keeper.keep()  # has not heard of the new epoch yet
        await keeper.clock.read()
        await keeper.keep()
    assert await fetch(database, EPOCH) == [(3,)]


async def test_a_redis_that_is_away_raises_nothing(database: Database, keepers: list[Keeper], client: Redis) -> None:
    await client.execute_command("CLIENT PAUSE 400 ALL")  # type: ignore[no-untyped-call]
    await pulse(keepers)
    assert await fetch(database, EPOCH) == [(2,)]
    await asyncio.sleep(0.4)
    await pulse(keepers)
    assert await fetch(database, EPOCH) == [(2,)]


def test_a_server_that_was_started_anew_with_its_old_data_is_noticed(tmp_path: Path) -> None:
    epochs = [1]

    async def raise_epoch(seen: int) -> None:
        epochs.append(seen + 1)

    with asyncio.Runner() as runner:
        for expected in ([1, 2], [1, 2, 3]):
            options = {"appendonly": "yes", "appendfsync": "always"}
            with start_redis(tmp_path, binary=wheel_valkey_binary(), options=options) as server:
                connection = RedisConnection(server.url)
                watermark = Watermark(connection, raise_epoch)
                for _ in range(3):
                    runner.run(watermark.keep(now=NOW, epoch=lambda: epochs[-1]))
                runner.run(connection.close())
            assert epochs == expected


# --- The clock ------------------------------------------------------------------------------------------------


async def test_the_clock_is_the_databases_and_goes_on_between_readings(database: Database) -> None:
    await shift_clock(database, timedelta(days=30))
    async with open_role(database.dsn_for("seatkeeper_heartbeat"), size=1) as pool:
        clock = Clock(pool)
        with pytest.raises(UnavailableError):
            clock.now()
        await clock.read()
        first = clock.now()
        await asyncio.sleep(0.05)
        assert timedelta(seconds=0.04) < clock.now() - first < timedelta(seconds=5)
    (true,) = (await fetch(database, "SELECT ledger_clock()"))[0]
    assert abs(true - first) < timedelta(seconds=5)


async def test_the_epoch_is_raised_by_one_of_those_who_saw_the_same(database: Database) -> None:
    async with open_role(database.dsn_for("seatkeeper_heartbeat")) as pool:
        clocks = [Clock(pool) for _ in range(5)]
        await asyncio.gather(*(clock.raise_epoch(1) for clock in clocks))
    assert {clock.epoch for clock in clocks} == {2}

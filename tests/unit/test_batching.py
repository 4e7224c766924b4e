"""Serving together what arrives together."""

import asyncio
from collections.abc import Sequence

import pytest

from shared.batching import Batcher, GroupLoop, OverloadedError
from shared.batching.pace import Pace


class Served:
    """Batches that were begun, each held until `release` is set."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.running = 0
        self.release = asyncio.Event()

    async def __call__(self, batch: list[int]) -> None:
        self.batches.append(batch)
        self.running += 1
        await self.release.wait()
        self.running -= 1


def group(served: Served, *, limit: int = 10, in_flight: int = 1, capacity: int = 100) -> GroupLoop[int]:
    return GroupLoop(served, limit=limit, in_flight=in_flight, capacity=capacity)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def put_all(loop: GroupLoop[int], items: Sequence[int]) -> None:
    for item in items:
        loop.put(item)


async def test_a_lone_item_waits_for_no_company() -> None:
    served = Served()
    group(served).put(1)
    await settle()
    assert served.batches == [[1]]


async def test_what_arrives_in_one_turn_is_served_together() -> None:
    served = Served()
    put_all(group(served), [1, 2, 3])
    await settle()
    assert served.batches == [[1, 2, 3]]


async def test_what_arrives_during_a_batch_is_taken_together_by_the_next() -> None:
    served = Served()
    loop = group(served)
    for item in [1, 2, 3]:
        loop.put(item)
        await settle()
    served.release.set()
    await loop.drain()
    assert served.batches == [[1], [2, 3]]


async def test_a_batch_has_its_limit() -> None:
    served = Served()
    served.release.set()
    loop = group(served, limit=2)
    put_all(loop, [1, 2, 3, 4, 5])
    await loop.drain()
    assert served.batches == [[1, 2], [3, 4], [5]]


async def test_only_so_many_batches_are_in_flight() -> None:
    served = Served()
    loop = group(served, in_flight=2)
    for item in [1, 2, 3, 4]:
        loop.put(item)
        await settle()
    assert served.batches == [[1], [2]]
    served.release.set()
    await loop.drain()
    assert served.batches == [[1], [2], [3, 4]]


async def test_what_arrives_in_the_very_moment_a_batch_ends_is_served_too() -> None:
    batches: list[list[int]] = []

    async def serve(batch: list[int]) -> None:
        batches.append(batch)
        if batch == [1]:
            asyncio.get_running_loop().call_soon(loop.put, 2)

    loop: GroupLoop[int] = GroupLoop(serve, limit=10, in_flight=1, capacity=100)
    loop.put(1)
    await settle()
    assert batches == [[1], [2]]


async def test_a_full_queue_takes_nothing_and_serves_what_it_has() -> None:
    served = Served()
    loop = group(served, capacity=2)
    put_all(loop, [1, 2])
    with pytest.raises(OverloadedError):
        loop.put(3)
    served.release.set()
    await loop.drain()
    loop.put(4)
    await loop.drain()
    assert served.batches == [[1, 2], [4]]


async def test_draining_waits_for_what_is_queued_and_what_is_served() -> None:
    served = Served()
    loop = group(served, limit=1)
    put_all(loop, [1, 2])
    draining = asyncio.create_task(loop.drain())
    await settle()
    assert not draining.done()
    served.release.set()
    await draining
    assert served.batches == [[1], [2]]
    assert served.running == 0


async def test_a_loop_counts_what_waits_and_what_is_served() -> None:
    served = Served()
    loop = group(served, limit=2)
    put_all(loop, [1, 2, 3])
    assert len(loop) == 3
    await settle()
    assert (served.batches, len(loop)) == ([[1, 2]], 3)
    served.release.set()
    await loop.drain()
    assert len(loop) == 0


async def test_what_came_last_can_be_taken_back_while_it_waits() -> None:
    served = Served()
    loop = group(served, limit=2)
    put_all(loop, [1, 2, 3, 4, 5])
    await settle()
    assert loop.take_back(2) == [5, 4]
    assert loop.take_back(9) == [3]
    served.release.set()
    await loop.drain()
    assert served.batches == [[1, 2]]


# --- The pace -------------------------------------------------------------------------------------------------


def pace(*batches: tuple[int, float], wait_s: float = 0.5) -> Pace:
    """A pace of at most 4096, after two lanes served batches of so many in so many seconds."""
    made = Pace(wait_s=wait_s, most=4096)
    for count, seconds in batches:
        made.saw(count, seconds, abreast=2)
    return made


def test_there_is_room_for_as_many_as_are_served_in_time() -> None:
    assert pace((100, 0.25)).room == 400
    assert pace((100, 0.25), wait_s=1.0).room == 800


def test_nothing_is_refused_by_a_server_that_was_never_slow() -> None:
    assert pace().room == 4096
    assert pace((1, 0.002), (200, 0.05), (40, 0.099)).room == 4096


def test_few_that_took_long_tell_nothing() -> None:
    assert pace((1, 3.0), (31, 3.0)).room == 4096


def test_the_slowest_server_is_given_enough_to_show_that_it_recovered() -> None:
    assert pace((256, 60.0)).room == 64
    assert pace((256, 60.0), (32, 0.01)).room == 3200
    assert pace((256, 60.0), (64, 0.005)).room == 4096


def test_a_small_quick_batch_proves_only_what_it_did() -> None:
    assert pace((100, 0.25), (1, 0.005)).room == 400
    assert pace((100, 0.25), (5, 0.01)).room == 500


# --- Asking ---------------------------------------------------------------------------------------------------


class Doubled:
    """Answers each key with its double, once `release` is set; a negative key fails the whole batch."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.release = asyncio.Event()

    async def __call__(self, keys: Sequence[int]) -> list[int]:
        self.asked.append(list(keys))
        await self.release.wait()
        if min(keys) < 0:
            raise LookupError
        return [2 * key for key in keys]


async def test_each_asker_gets_the_answer_to_its_own_key() -> None:
    doubled = Doubled()
    doubled.release.set()
    batcher = Batcher(doubled)
    assert await asyncio.gather(*map(batcher.ask, [3, 1, 2])) == [6, 2, 4]
    assert doubled.asked == [[3, 1, 2]]


async def test_those_who_ask_the_same_share_one_answer() -> None:
    doubled = Doubled()
    batcher = Batcher(doubled)
    asking = [batcher.ask(7) for _ in range(3)]
    await settle()
    asking.append(batcher.ask(7))
    await settle()
    doubled.release.set()
    assert await asyncio.gather(*asking) == [14] * 4
    assert doubled.asked == [[7]]


async def test_an_answer_is_not_kept_for_those_who_ask_later() -> None:
    doubled = Doubled()
    doubled.release.set()
    batcher = Batcher(doubled)
    await batcher.ask(7)
    await batcher.ask(7)
    assert doubled.asked == [[7], [7]]


async def test_an_asker_that_goes_away_takes_nobodys_answer_along() -> None:
    doubled = Doubled()
    batcher = Batcher(doubled)
    leaving, staying = batcher.ask(7), batcher.ask(7)
    await settle()
    leaving.cancel()
    await settle()
    doubled.release.set()
    assert await staying == 14
    assert leaving.cancelled()


async def test_a_failed_batch_fails_for_all_who_asked_and_for_no_later_one() -> None:
    doubled = Doubled()
    doubled.release.set()
    batcher = Batcher(doubled)
    answers = await asyncio.gather(*map(batcher.ask, [-1, 2, 2]), return_exceptions=True)
    assert [type(answer) for answer in answers] == [LookupError] * 3
    assert await batcher.ask(2) == 4


async def test_an_overloaded_batcher_refuses_new_keys_and_shares_those_it_has() -> None:
    doubled = Doubled()
    batcher = Batcher(doubled, capacity=1)
    first, same = batcher.ask(1), batcher.ask(1)
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError):
        await batcher.ask(2)
    doubled.release.set()
    assert (await first, await same) == (2, 2)
    assert await batcher.ask(2) == 4

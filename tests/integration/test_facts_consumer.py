"""Consuming: each fact handled at least once, failures tried again, and what cannot be handled out of the way."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from shared.facts.connection import open_channel
from shared.facts.consumer import Consumer
from shared.facts.handling import Pace
from shared.facts.topology import DELIVERY_LIMIT, PROJECTOR
from shared.licensing.facts import Fact
from shared.runtime.background import background
from tests.facts import (
    LATER_SCHEMA,
    QUICK,
    Received,
    consuming,
    depth,
    make_facts,
    new_ref,
    poison,
    publish,
    publish_mixed,
    until,
    until_depth,
)

pytest_plugins = ["tests.rabbitmq"]

ROOT = Path(__file__).resolve().parents[2]
DEAD = PROJECTOR.dead_queue


# --- Handled --------------------------------------------------------------------------------------------------


async def test_facts_reach_the_handler_in_order_and_leave_the_queue(facts_url: str) -> None:
    received = Received()
    async with consuming(facts_url, received) as consumer:
        await publish(facts_url, *(make_facts([n, n + 1]) for n in range(1, 40, 2)))
        await until(lambda: len(received.facts) == 40)
        assert received.versions == list(range(1, 41))
        assert consumer.trouble is None
    assert (consumer.tally.messages, consumer.tally.facts, consumer.tally.connections) == (20, 40, 1)
    assert await depth(facts_url, PROJECTOR.queue) == 0


async def test_two_consumers_share_a_queue(facts_url: str) -> None:
    first, second = Received(), Received()
    async with consuming(facts_url, first, prefetch=1), consuming(facts_url, second, prefetch=1):
        await publish(facts_url, *(make_facts([n]) for n in range(1, 41)))
        await until(lambda: len(first.facts) + len(second.facts) == 40)
    assert sorted(first.versions + second.versions) == list(range(1, 41))
    assert first.facts
    assert second.facts


KILLED = """
import asyncio, os, signal, sys
from shared.facts.consumer import Consumer
from shared.facts.topology import PROJECTOR
from shared.runtime.background import background

async def handle(facts):
    print(facts[0].version, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    await Consumer(sys.argv[1], PROJECTOR, handle).run(asyncio.Event())

asyncio.run(main())
"""


async def test_facts_of_a_consumer_that_was_killed_after_handling_are_delivered_again(facts_url: str) -> None:
    await publish(facts_url, make_facts([1]))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, facts_url, cwd=ROOT, stdout=subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert (output, process.returncode) == (b"1\n", -signal.SIGKILL)
    received = Received()
    async with consuming(facts_url, received):
        await until(lambda: received.versions == [1])
    assert await depth(facts_url, PROJECTOR.queue) == 0


async def test_what_kills_every_consumer_ends_in_the_dead_letters(facts_url: str) -> None:
    await publish(facts_url, make_facts([1]))
    await kill_consumers(facts_url, DELIVERY_LIMIT + 1)
    await until_depth(facts_url, DEAD, 1)
    assert await depth(facts_url, PROJECTOR.queue) == 0


async def kill_consumers(url: str, count: int) -> None:
    """As many take the message in hand and are gone."""
    for _ in range(count):
        async with open_channel(url, name="tests") as channel:
            assert await (await channel.get_queue(PROJECTOR.queue)).get(timeout=5) is not None


async def test_deliveries_that_killed_a_consumer_were_tries(facts_url: str) -> None:
    received = poison(1)
    await publish(facts_url, make_facts([1]))
    await kill_consumers(facts_url, 3)
    async with consuming(facts_url, received):
        await until_depth(facts_url, DEAD, 1)
    assert received.calls == [[1], [1]]


# --- Failing --------------------------------------------------------------------------------------------------


async def test_a_message_that_fails_is_tried_again_until_it_succeeds(facts_url: str) -> None:
    failures = iter([ValueError(), ValueError(), ValueError(), ValueError()])
    received = Received(fails=lambda fact: next(failures, None))
    async with consuming(facts_url, received) as consumer:
        await publish(facts_url, make_facts([1]))
        await until(lambda: received.versions == [1])
    assert received.calls == [[1]] * 5
    assert consumer.tally.failures == 4
    assert await depth(facts_url, DEAD) == 0


async def test_a_message_that_fails_five_times_is_a_dead_letter_and_holds_up_no_other(facts_url: str) -> None:
    received = poison(1)
    async with consuming(facts_url, received, prefetch=2) as consumer:
        await publish(facts_url, *(make_facts([n]) for n in range(1, 11)))
        await until(lambda: consumer.tally.dead == 1)
        await until(lambda: len(received.facts) == 9)
        await until_depth(facts_url, DEAD, 1)
    assert received.calls.count([1]) == 5
    assert received.versions == list(range(2, 11))
    assert received.calls.index([2]) < received.calls.index([1], 1)
    assert await depth(facts_url, PROJECTOR.queue) == 0


async def test_the_delay_before_another_try_grows(facts_url: str) -> None:
    loop, times = asyncio.get_running_loop(), []

    async def handle(facts: Sequence[Fact]) -> None:
        times.append(loop.time())
        raise ValueError

    async with consuming(facts_url, handle, pace=Pace(first_s=0.01, longest_s=10)) as consumer:
        await publish(facts_url, make_facts([1]))
        await until(lambda: consumer.tally.dead == 1)
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert all(later > 1.5 * earlier for earlier, later in pairwise(waits)), waits


async def test_a_fact_that_cannot_be_handled_holds_up_its_own_license_alone(facts_url: str) -> None:
    received = poison(2)
    crowd = [make_facts([version], ref=new_ref())[0] for version in (1, 2, 3)]
    async with consuming(facts_url, received) as consumer:
        await publish(facts_url, crowd)
        await until(lambda: consumer.tally.dead == 1)
        await until_depth(facts_url, DEAD, 1)
    assert sorted(received.versions) == [1, 3]  # once each, though their message was tried five times
    assert received.calls.count([2]) == 5


async def test_a_fact_of_a_later_schema_is_a_dead_letter_and_those_beside_it_are_handled_once(facts_url: str) -> None:
    received = Received()
    async with consuming(facts_url, received) as consumer:
        await publish_mixed(facts_url, [*make_facts([1]), LATER_SCHEMA, *make_facts([2])])
        await until_depth(facts_url, DEAD, 1)
        await publish(facts_url, make_facts([3]))
        await until(lambda: len(received.facts) == 3)
    assert received.versions == [1, 2, 3]
    assert (consumer.tally.failures, consumer.tally.dead) == (0, 1)


async def test_what_is_no_fact_at_all_is_a_dead_letter(facts_url: str) -> None:
    received = Received()
    async with consuming(facts_url, received):
        for rubbish in ("", "\x00\x01", "null", "[]"):
            await publish(facts_url, [rubbish])
        await until_depth(facts_url, DEAD, 4)
    assert not received.calls


# --- Something the handler needs is away ----------------------------------------------------------------------


async def test_while_something_is_away_messages_wait_and_no_try_is_counted(facts_url: str) -> None:
    away = True
    received = Received(fails=lambda fact: ConnectionError() if away else None)
    async with consuming(facts_url, received, prefetch=4) as consumer:
        await publish(facts_url, *(make_facts([n]) for n in range(1, 11)))
        await until(lambda: consumer.tally.failures > 10 * QUICK.tries)
        assert not received.facts
        away = False
        await until(lambda: len(received.facts) == 10)
    assert sorted(received.versions) == list(range(1, 11))
    assert consumer.tally.dead == 0
    assert await depth(facts_url, DEAD) == 0


async def test_a_message_that_alone_finds_something_away_is_a_dead_letter_too(facts_url: str) -> None:
    received = poison(1, TimeoutError())
    async with consuming(facts_url, received) as consumer:
        for version in range(1, 200):
            await publish(facts_url, make_facts([version]))
            if consumer.tally.dead:
                break
    assert consumer.tally.dead == 1
    assert 1 not in received.versions


async def test_a_message_at_its_last_try_waits_too_while_something_is_away(facts_url: str) -> None:
    failures = iter([ConnectionError()] * 10)
    received = Received(fails=lambda fact: next(failures, None))
    await publish(facts_url, make_facts([1]))
    await kill_consumers(facts_url, DELIVERY_LIMIT)
    async with consuming(facts_url, received):
        await until(lambda: received.versions == [1])
    assert await depth(facts_url, DEAD) == 0


# --- Stopping -------------------------------------------------------------------------------------------------


async def test_a_consumer_that_is_told_to_stop_finishes_what_it_has_in_hand(facts_url: str) -> None:
    entered, received = asyncio.Event(), Received()

    async def handle(facts: Sequence[Fact]) -> None:
        entered.set()
        await asyncio.sleep(0.2)
        await received(facts)

    await publish(facts_url, make_facts([1]), make_facts([2]))
    async with consuming(facts_url, handle):
        await entered.wait()
    assert received.versions == [1, 2]
    assert await depth(facts_url, PROJECTOR.queue) == 0


async def test_a_consumer_that_is_told_to_stop_gives_back_what_it_could_not_handle(facts_url: str) -> None:
    await publish(facts_url, make_facts([1]))
    async with consuming(facts_url, poison(1), pace=Pace(first_s=60)) as consumer:
        await until(lambda: consumer.tally.failures == 1)
    await until_depth(facts_url, PROJECTOR.queue, 1)


async def test_a_consumer_stops_at_once_while_the_broker_is_away(facts_url: str) -> None:
    consumer = Consumer(facts_url.replace("@127.0.0.1", "@127.0.0.2"), PROJECTOR, Received())
    async with asyncio.timeout(2):
        async with background(consumer.run):
            await until(lambda: consumer.trouble != "not connected yet")
            await asyncio.sleep(0.3)

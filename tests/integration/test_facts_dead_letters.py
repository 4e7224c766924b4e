"""Dead letters: listed without being used up, sent back to their own consumer, or thrown away."""

from datetime import UTC, datetime, timedelta

import pytest

from shared.facts.connection import open_channel
from shared.facts.dead_letters import drop, letters, replay
from shared.facts.topology import DELIVERY_LIMIT, PROJECTOR, REAPER, TopologyError
from shared.licensing.model import Kind
from tests.builders import REF
from tests.facts import (
    LATER_SCHEMA,
    Received,
    consuming,
    depth,
    make_facts,
    poison,
    publish,
    publish_mixed,
    until,
    until_depth,
)

pytest_plugins = ["tests.rabbitmq"]


async def bury(url: str, *versions: int) -> None:
    """Have a consumer give up a message for each version."""
    received = Received(fails=lambda fact: ValueError())
    await publish(url, *(make_facts([version], kind=Kind.FLOATING) for version in versions))
    async with consuming(url, received) as consumer:
        await until(lambda: consumer.tally.dead == len(versions))
        await until_depth(url, PROJECTOR.dead_queue, len(versions))


async def test_a_letter_tells_what_it_holds_and_why_it_is_dead(facts_url: str) -> None:
    await publish_mixed(facts_url, [*make_facts([7], kind=Kind.FLOATING), LATER_SCHEMA])
    async with consuming(facts_url, Received()):
        await until_depth(facts_url, PROJECTOR.dead_queue, 1)
    (letter,) = await letters(facts_url, PROJECTOR)
    assert (letter.queue, letter.reason) == (PROJECTOR.queue, "rejected")
    assert letter.died_at is not None
    assert letter.published_at is not None
    assert abs(datetime.now(UTC) - letter.died_at) < timedelta(minutes=1)
    assert abs(datetime.now(UTC) - letter.published_at) < timedelta(minutes=1)
    assert [(fact.type, fact.license_id, fact.version) for fact in letter.facts] == [("device.activated", REF[1], 7)]
    assert len(letter.unreadable) == 1


async def test_looking_uses_nothing_up(facts_url: str) -> None:
    await bury(facts_url, 1, 2, 3)
    first = await letters(facts_url, PROJECTOR)
    for _ in range(DELIVERY_LIMIT + 2):
        assert await letters(facts_url, PROJECTOR) == first
    assert len(first) == 3
    assert await letters(facts_url, PROJECTOR, limit=2) == first[:2]
    await until_depth(facts_url, PROJECTOR.dead_queue, 3)


async def test_each_consumer_has_its_own_dead_letters(facts_url: str) -> None:
    await bury(facts_url, 1)
    assert await letters(facts_url, REAPER) == []
    assert await depth(facts_url, REAPER.queue) == 1


async def test_a_replayed_letter_reaches_its_own_consumer_alone_and_leaves_the_dead(facts_url: str) -> None:
    await bury(facts_url, 1, 2)
    assert await replay(facts_url, PROJECTOR) == 2
    assert await depth(facts_url, REAPER.queue) == 2  # as many as were published
    received = Received()
    async with consuming(facts_url, received):
        await until(lambda: sorted(received.versions) == [1, 2])
    assert await letters(facts_url, PROJECTOR) == []


async def test_a_replayed_letter_has_all_its_tries_again_and_keeps_its_id(facts_url: str) -> None:
    await bury(facts_url, 1)
    (before,) = await letters(facts_url, PROJECTOR)
    received = poison(1)
    await replay(facts_url, PROJECTOR)
    async with consuming(facts_url, received) as consumer:
        await until(lambda: consumer.tally.dead == 1)
        await until_depth(facts_url, PROJECTOR.dead_queue, 1)
    assert received.calls == [[1]] * 5
    (after,) = await letters(facts_url, PROJECTOR)
    assert (after.id, after.reason) == (before.id, "rejected")


async def test_letters_are_replayed_and_dropped_by_id(facts_url: str) -> None:
    await bury(facts_url, 1, 2, 3)
    ids = {letter.facts[0].version: letter.id for letter in await letters(facts_url, PROJECTOR)}
    assert await replay(facts_url, PROJECTOR, [ids[2], "unknown"]) == 1
    assert await drop(facts_url, PROJECTOR, [ids[1]]) == 1
    assert [letter.id for letter in await letters(facts_url, PROJECTOR)] == [ids[3]]
    assert await depth(facts_url, PROJECTOR.queue) == 1


async def test_all_letters_can_be_dropped(facts_url: str) -> None:
    await bury(facts_url, 1, 2, 3)
    assert await drop(facts_url, PROJECTOR) == 3
    assert await letters(facts_url, PROJECTOR) == []
    assert await drop(facts_url, PROJECTOR) == 0
    assert await depth(facts_url, PROJECTOR.queue) == 0


async def test_a_replay_while_the_consumer_still_fails_comes_to_an_end(facts_url: str) -> None:
    await bury(facts_url, 1, 2, 3)
    async with consuming(facts_url, Received(fails=lambda fact: ValueError())):
        assert await replay(facts_url, PROJECTOR) == 3
        await until_depth(facts_url, PROJECTOR.dead_queue, 3)


async def test_letters_of_what_was_never_declared_are_refused_with_what_to_do(facts_url: str) -> None:
    async with open_channel(facts_url, name="tests") as channel:
        await channel.queue_delete(REAPER.dead_queue)
    with pytest.raises(TopologyError, match=r"lacks the queue seatkeeper\.reaper\.dead: declare the topology first"):
        await letters(facts_url, REAPER)

"""The operator's commands for what facts travel through: declare it, and look after dead letters."""

from datetime import datetime

import pytest
from aio_pika import Message

from services.standalone.embedded import free_port
from shared.facts import topology
from shared.facts.connection import open_channel
from shared.facts.topology import EXCHANGE, PROJECTOR, REAPER
from shared.licensing.facts import Fact, encode
from tests.facts import Received, consuming, depth, make_fact, until, until_depth, until_empty
from tests.integration.admin_process import Admin

pytest_plugins = ["tests.rabbitmq"]

UNREADABLE = b'{"schema": 1, "type": "device.activated"'


def admin_at(url: str) -> Admin:
    return Admin({"SEATKEEPER_RABBITMQ_URL": url})


@pytest.fixture
def admin(facts_url: str) -> Admin:
    return admin_at(facts_url)


async def published(url: str, id: str, *lines: bytes) -> None:
    async with open_channel(url, name="tests") as channel:
        exchange = await channel.get_exchange(EXCHANGE)
        message = Message(b"\n".join(lines), message_id=id)
        await exchange.publish(message, "fact.node_locked", mandatory=True)


async def poisoned(url: str, *ids: str) -> Fact:
    """Messages that the projector's consumer gives up, each with a readable fact and one that nobody can read."""
    fact = make_fact(7)
    async with consuming(url, Received(), subscriber=PROJECTOR) as consumer:
        for number, id in enumerate(ids, 1):
            await published(url, id, encode(fact).encode(), UNREADABLE)
            await until(lambda number=number: consumer.tally.dead == number)  # type: ignore[misc]
    await until_depth(url, PROJECTOR.dead_queue, len(ids))
    return fact


def failing(fact: Fact) -> Exception:
    return ValueError(fact.type)


# --- Declaring --------------------------------------------------------------------------------------------------


async def test_declaring_makes_what_services_look_for_and_may_be_repeated(amqp_url: str) -> None:
    admin = admin_at(amqp_url)

    first, second = [await admin("facts", "declare", "--json") for _ in range(2)]

    assert first.json == second.json == {"declared": [PROJECTOR.queue, REAPER.queue]}
    assert first.err == second.err == ""
    await topology.check(amqp_url)


async def test_several_may_declare_at_once(amqp_url: str) -> None:
    ran = await admin_at(amqp_url).at_once(("facts", "declare"), ("facts", "declare"))

    assert [(one.code, one.err) for one in ran] == [(0, "")] * 2
    assert all(PROJECTOR.queue in one.out and REAPER.queue in one.out for one in ran)


async def test_a_queue_with_other_settings_is_told_and_left_as_it_is(amqp_url: str) -> None:
    async with open_channel(amqp_url, name="tests") as channel:
        await channel.declare_queue(PROJECTOR.queue, durable=True)

    said = (await admin_at(amqp_url)("facts", "declare")).refused()

    assert f"the queue {PROJECTOR.queue} with other settings" in said
    assert "`facts declare`" in said


# --- Dead letters -----------------------------------------------------------------------------------------------


async def test_dead_letters_are_listed_with_their_facts_and_stay(admin: Admin, facts_url: str) -> None:
    fact = await poisoned(facts_url, "poison-1", "poison-2")

    as_json, table = await admin.at_once(
        ("dead-letters", "list", PROJECTOR.queue, "--json"), ("dead-letters", "list", REAPER.queue, "--json")
    )
    shown = await admin("dead-letters", "list", PROJECTOR.queue)

    assert table.json == []
    assert [letter["id"] for letter in as_json.json] == ["poison-1", "poison-2"]
    for letter in as_json.json:
        assert letter["reason"] == "rejected"
        assert letter["facts"] == f"device.activated {fact.license_id} v7"
        assert letter["unreadable"] == 1
        assert datetime.fromisoformat(letter["diedAt"])
    assert "poison-1" in shown.out
    assert await depth(facts_url, PROJECTOR.dead_queue) == 2


async def test_a_replay_sends_letters_to_their_own_consumer_again(admin: Admin, facts_url: str) -> None:
    fact = make_fact(3)
    async with consuming(facts_url, Received(failing), subscriber=PROJECTOR) as consumer:
        await published(facts_url, "failed", encode(fact).encode())
        await until(lambda: consumer.tally.dead)
    await until_depth(facts_url, PROJECTOR.dead_queue, 1)
    others = await depth(facts_url, REAPER.queue)

    assert (await admin("dead-letters", "replay", PROJECTOR.queue, "unheard-of", "--json")).json == {"replayed": 0}
    assert (await admin("dead-letters", "replay", PROJECTOR.queue, "failed", "--json")).json == {"replayed": 1}

    received = Received()
    async with consuming(facts_url, received, subscriber=PROJECTOR):
        await until(lambda: received.versions == [3])
    await until_empty(facts_url, PROJECTOR.dead_queue)
    assert await depth(facts_url, REAPER.queue) == others


async def test_letters_are_dropped_by_id_or_all(admin: Admin, facts_url: str) -> None:
    await poisoned(facts_url, "poison-1", "poison-2", "poison-3")

    one = await admin("dead-letters", "drop", PROJECTOR.queue, "poison-2", "--yes", "--json")
    left = await admin("dead-letters", "list", PROJECTOR.queue, "--json")
    rest = await admin("dead-letters", "drop", PROJECTOR.queue, "--yes")

    assert one.json == {"dropped": 1}
    assert sorted(letter["id"] for letter in left.json) == ["poison-1", "poison-3"]
    assert (rest.code, rest.out.split()) == (0, ["dropped", "2"])
    assert await depth(facts_url, PROJECTOR.dead_queue) == await depth(facts_url, PROJECTOR.queue) == 0


# --- What can be wrong ------------------------------------------------------------------------------------------

EACH = (
    ("facts", "declare"),
    ("dead-letters", "list", PROJECTOR.queue),
    ("dead-letters", "replay", PROJECTOR.queue),
    ("dead-letters", "drop", PROJECTOR.queue, "--yes"),
)


async def test_a_broker_that_is_away_is_one_line_without_its_password() -> None:
    admin = admin_at(f"amqp://app:hunter2@127.0.0.1:{free_port()}/")

    for ran in await admin.at_once(*EACH):
        said = ran.refused()
        assert "RabbitMQ is out of reach" in said
        assert "SEATKEEPER_RABBITMQ_URL" in said
        assert "hunter2" not in said


async def test_a_wrong_password_is_one_line_that_does_not_repeat_it(amqp_url: str) -> None:
    name, _, place = amqp_url.removeprefix("amqp://").rpartition("@")
    admin = admin_at(f"amqp://{name.partition(':')[0]}:hunter2@{place}")

    said = (await admin("facts", "declare")).refused()

    assert "SEATKEEPER_RABBITMQ_URL" in said
    assert "hunter2" not in said


async def test_what_was_not_declared_is_one_line_that_says_so(amqp_url: str) -> None:
    for ran in await admin_at(amqp_url).at_once(*EACH[1:]):
        said = ran.refused()
        assert f"RabbitMQ lacks the queue {PROJECTOR.dead_queue}" in said
        assert "`facts declare`" in said


async def test_an_unknown_consumer_is_one_line_that_names_those_there_are(amqp_url: str) -> None:
    commands = [("dead-letters", verb, "seatkeeper.nobody") for verb in ("list", "replay", "drop")]

    for ran in await admin_at(amqp_url).at_once(*commands):
        said = ran.refused()
        assert PROJECTOR.queue in said
        assert REAPER.queue in said


async def test_without_the_setting_it_is_told_what_is_missing() -> None:
    said = (await Admin()("facts", "declare")).refused(2)

    assert "SEATKEEPER_RABBITMQ_URL" in said

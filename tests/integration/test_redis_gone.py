"""Redis emptied, stopped, cut off, hung or set back: every endpoint answers as it would with Redis there."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest
import redis.asyncio

from services.standalone.embedded import RedisServer, start_redis, wheel_valkey_binary
from shared.licensing.model import Kind, Reinstate, Suspend
from tests.platform import LOOPBACK, Api, Gate, Grant, Platform, Services, Vendor, eventually, open_api

pytest_plugins = ["tests.platform"]

Trouble = Callable[[Platform], Awaitable[None]]
Seat = dict[str, Any]
ALIVE = (200, None, None)
FULL = {"valid": True, "code": "VALID", "full": True, "limit": 2, "used": 2}


def redis_gate(platform: Platform) -> Gate:
    assert platform.gates is not None
    return platform.gates.redis


def client(platform: Platform) -> "redis.asyncio.Redis":
    """A way to Redis beside the gate."""
    return redis.asyncio.Redis.from_url(platform.redis.url)


# --- Trouble before each request --------------------------------------------------------------------------------


async def none(_platform: Platform) -> None:
    """Redis is there: what the others are compared with."""


async def emptied(platform: Platform) -> None:
    async with client(platform) as connection:
        await connection.flushall()


async def emptied_with_its_scripts(platform: Platform) -> None:
    async with client(platform) as connection:
        await connection.flushall()
        await connection.script_flush()


async def cut_off(platform: Platform) -> None:
    await redis_gate(platform).shut()


async def coming_and_going(platform: Platform) -> None:
    gate = redis_gate(platform)
    await (gate.shut() if gate.is_open else gate.open())


async def connections_lost(platform: Platform) -> None:
    await redis_gate(platform).shut()
    await redis_gate(platform).open()


async def hung(platform: Platform) -> None:
    os.kill(platform.redis.pid, signal.SIGSTOP)


async def stopped(platform: Platform) -> None:
    platform.redis.stop()


TROUBLES: list[Trouble] = [
    *(none, emptied, emptied_with_its_scripts, cut_off, coming_and_going, connections_lost, hung, stopped),
]


class Troubled:
    """Every request comes just after the trouble."""

    def __init__(self, platform: Platform, trouble: Trouble) -> None:
        self._platform = platform
        self._trouble = trouble

    async def __call__(self, request: Awaitable[Any]) -> Any:
        await self._trouble(self._platform)
        return await request


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("trouble", TROUBLES)
async def test_every_answer_is_the_right_one(gated_platform: Platform, trouble: Trouble, kind: Kind) -> None:
    platform, ask = gated_platform, Troubled(gated_platform, trouble)
    vendor = await platform.vendor()
    grant = await vendor.license(seats=2, kind=kind)
    try:
        await tell_story(platform.api, vendor, grant, ask)
    finally:
        if trouble is hung:
            os.kill(platform.redis.pid, signal.SIGCONT)
    assert await platform.seats_used(grant) == 1


async def tell_story(api: Api, vendor: Vendor, grant: Grant, ask: Troubled) -> None:
    key = grant.key
    now = int(time.time())
    a = (await ask(api.activate(key, "a", timestamp=now, nonce="n"))).ok(201)
    again = (await ask(api.activate(key, "a", timestamp=now, nonce="n"))).ok(200)
    assert (a["deviceId"], a["generation"]) == (again["deviceId"], again["generation"])
    b = (await ask(api.activate(key, "b"))).ok(201)
    assert (await ask(api.activate(key, "c"))).refusal == (403, "DEVICE_LIMIT_EXCEEDED")

    for _ in range(2):
        assert (await ask(api.validate(key))).ok() == {
            "valid": True,
            "code": "VALID",
            "full": True,
            "limit": 2,
            "used": 2,
        }
        assert (await ask(api.validate(key, "a"))).ok()["valid"] is True
        assert (await ask(api.validate(key, "c"))).refusal == (403, "DEVICE_LIMIT_EXCEEDED")
        assert (await ask(api.heartbeat(a["deviceToken"], nonce="x"))).ok()["nonce"] == "x"

    assert (await ask(api.deactivate(key, a["deviceId"]))).ok() == {"success": True}
    for _ in range(2):
        assert await heard(ask(api.heartbeat(a["deviceToken"]))) == (410, "LEASE_LOST", "user")
        assert (await ask(api.validate(key, "a"))).ok()["code"] == "DEVICE_NOT_ACTIVATED"
    assert (await ask(api.activate(key, "a", timestamp=now, nonce="n"))).refusal == (409, "REPLAYED")
    a = (await ask(api.activate(key, "a"))).ok(201)
    assert a["generation"] == 2

    await vendor.licenses.set_status(grant.ref, Suspend)
    for _ in range(2):
        assert (await ask(api.heartbeat(a["deviceToken"]))).refusal == (403, "LICENSE_SUSPENDED")
        assert (await ask(api.validate(key))).ok()["valid"] is False
        assert (await ask(api.validate(key, "a"))).ok()["valid"] is False
        assert (await ask(api.activate(key, "a"))).refusal == (403, "LICENSE_SUSPENDED")
    await vendor.licenses.set_status(grant.ref, Reinstate)
    assert (await ask(api.heartbeat(a["deviceToken"]))).ok()["generation"] == 2
    assert (await ask(api.validate(key))).ok()["valid"] is True

    await vendor.licenses.set_blocked(grant.ref, UUID(a["deviceId"]), blocked=True)
    assert await heard(ask(api.heartbeat(a["deviceToken"]))) == (410, "LEASE_LOST", "blocked")
    assert (await ask(api.validate(key, "a"))).refusal == (403, "DEVICE_BLOCKED")
    reset = (await ask(api.reset(key, b["deviceId"]))).ok()
    assert reset == (await ask(api.reset(key, b["deviceId"]))).ok()
    assert await heard(ask(api.heartbeat(b["deviceToken"]))) == (410, "LEASE_LOST", "reset")
    c = (await ask(api.activate(key, "c"))).ok(201)
    listed = (await ask(api.devices(key))).ok()
    assert (listed["used"], [one["deviceId"] for one in listed["devices"]]) == (1, [c["deviceId"]])


async def heard(request: Awaitable[Any]) -> tuple[int, str | None, str | None]:
    answer = await request
    if answer.status == 200:
        return ALIVE
    return *answer.refusal, answer.json.get("reason")


# --- Redis comes back -------------------------------------------------------------------------------------------


async def answers_after_its_return(platform: Platform, ask: Callable[[], Awaitable[Any]]) -> list[Any]:
    """What is answered in the three seconds after Redis came back, which is longer than anything is put off."""
    deadline = time.monotonic() + 3
    answers = []
    while time.monotonic() < deadline:
        answers.append(await ask())
        await asyncio.sleep(0.02)
    assert platform.resources.redis.reachable
    return answers


@pytest.mark.parametrize("away_s", [0.0, 1.5])
async def test_a_seat_that_was_lost_while_redis_was_away_is_not_confirmed_after_its_return(
    gated_platform: Platform, away_s: float
) -> None:
    platform, gate = gated_platform, redis_gate(gated_platform)
    grant = await (await platform.vendor()).license()
    seat = (await platform.api.activate(grant.key)).ok(201)
    (await platform.api.heartbeat(seat["deviceToken"])).ok()

    await gate.shut()
    (await platform.api.deactivate(grant.key, seat["deviceId"])).ok()
    await asyncio.sleep(away_s)
    await gate.open()

    told = await answers_after_its_return(platform, lambda: heard(platform.api.heartbeat(seat["deviceToken"])))
    assert set(told) == {(410, "LEASE_LOST", "user")}


async def test_a_license_that_was_suspended_while_redis_was_away_is_not_valid_after_its_return(
    gated_platform: Platform,
) -> None:
    platform, gate = gated_platform, redis_gate(gated_platform)
    vendor = await platform.vendor()
    grant = await vendor.license()
    (await platform.api.activate(grant.key)).ok(201)
    for fingerprint in (None, "laptop"):
        assert (await platform.api.validate(grant.key, fingerprint)).ok()["valid"] is True

    await gate.shut()
    await vendor.licenses.set_status(grant.ref, Suspend)
    await gate.open()

    async def is_valid() -> tuple[bool, bool]:
        answers = [await platform.api.validate(grant.key, fingerprint) for fingerprint in (None, "laptop")]
        return answers[0].ok()["valid"], answers[1].ok()["valid"]

    assert set(await answers_after_its_return(platform, is_valid)) == {(False, False)}


async def test_a_push_that_was_lost_is_made_good_for_other_services_too(
    services: Services, vendor: Vendor, private_redis: RedisServer
) -> None:
    grant = await vendor.license()
    gate = Gate((LOOPBACK, int(private_redis.port or 0)))
    await gate.open()
    by_gate = {"redis": {"url": f"redis://{LOOPBACK}:{gate.port}/0"}}
    activation = await services.start("activation", changes=by_gate).ready()
    heartbeat = await services.start("heartbeat", changes={"redis": {"url": private_redis.url}}).ready()
    async with open_api(activation.url) as activate, open_api(heartbeat.url) as beat:
        seat = (await activate.activate(grant.key)).ok(201)
        (await beat.heartbeat(seat["deviceToken"])).ok()
        await gate.shut()
        (await activate.deactivate(grant.key, seat["deviceId"])).ok()
        await gate.open()

        async def is_lost() -> bool:
            return (await beat.heartbeat(seat["deviceToken"])).status == 410

        await eventually(is_lost, within_s=5)
    await gate.shut()


async def test_a_redis_that_was_set_back_is_noticed(gated_platform: Platform) -> None:
    platform = gated_platform
    grant = await (await platform.vendor()).license()
    seat = (await platform.api.activate(grant.key)).ok(201)
    (await platform.api.heartbeat(seat["deviceToken"])).ok()
    async with client(platform) as connection:
        kept = {name: await connection.dump(name) or b"" for name in await connection.keys()}
        assert len(kept) >= 2
        await asyncio.sleep(1.2)  # the watermark moves on
        (await platform.api.deactivate(grant.key, seat["deviceId"])).ok()
        await connection.flushall()
        for name, value in kept.items():
            await connection.restore(name, 0, value, replace=True)

    async def is_lost() -> bool:
        return (await platform.api.heartbeat(seat["deviceToken"])).status == 410

    await eventually(is_lost, within_s=5)


async def test_a_redis_that_was_started_anew_soon_serves_again(gated_platform: Platform) -> None:
    platform = gated_platform
    assert platform.gates is not None
    grant = await (await platform.vendor()).license()
    seat = (await platform.api.activate(grant.key)).ok(201)
    folder, port = platform.redis.log.parent, platform.redis.port
    platform.redis.stop()
    (await platform.api.heartbeat(seat["deviceToken"])).ok()

    with start_redis(folder, binary=wheel_valkey_binary(), port=port):

        async def is_reflected() -> bool:
            (await platform.api.heartbeat(seat["deviceToken"])).ok()
            seen = await platform.resources.projection.contact(*grant.ref, UUID(seat["deviceId"]), 1)
            return seen.floor_s is not None

        await eventually(is_reflected, within_s=5)
        await platform.gates.postgres.shut()
        (await platform.api.heartbeat(seat["deviceToken"])).ok()


async def test_without_redis_and_postgres_nothing_is_made_up(gated_platform: Platform) -> None:
    platform = gated_platform
    assert platform.gates is not None
    grant = await (await platform.vendor()).license()
    seat = (await platform.api.activate(grant.key)).ok(201)

    await platform.gates.redis.shut()
    await platform.gates.postgres.shut()

    answers = [
        await platform.api.activate(grant.key),
        await platform.api.validate(grant.key),
        await platform.api.validate(grant.key, "laptop"),
        await platform.api.heartbeat(seat["deviceToken"]),
        await platform.api.heartbeat(seat["deviceToken"], leave=True),
        await platform.api.deactivate(grant.key, seat["deviceId"]),
        await platform.api.reset(grant.key, seat["deviceId"]),
        await platform.api.devices(grant.key),
    ]
    for answer in answers:
        assert answer.refusal == (503, "OVERLOADED")
        assert answer.headers["Retry-After"] == "1"
        assert "valid" not in answer.json
    await platform.gates.postgres.open()
    assert await platform.seats_used(grant) == 1
    (await platform.api.heartbeat(seat["deviceToken"])).ok()


async def test_the_floor_holds_though_all_of_redis_is_lost(gated_platform: Platform) -> None:
    platform = gated_platform
    grant = await (await platform.vendor()).license()
    seat = (await platform.api.activate(grant.key)).ok(201)
    await platform.move_clock(days=80)
    (await platform.api.heartbeat(seat["deviceToken"])).ok()
    async with client(platform) as connection:
        await connection.flushall()

    await platform.move_clock(days=80 + 90)
    assert (await platform.standalone.reap()).freed == 0

    (await platform.api.heartbeat(seat["deviceToken"])).ok()

"""Guessing keys and tokens: throttled to the rate that is set, however it is tried, while who is known goes on."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from itertools import chain, count, takewhile
from typing import Any

from services.standalone.embedded import free_port
from tests.abuse.conftest import WHOLE, Table
from tests.abuse.target import UNKNOWN_KEY, Ground
from tests.platform import Api, Service, license_header, mistyped, open_api

pytest_plugins = ["tests.platform", "tests.abuse.target"]

GUESSES = 30_000 if WHOLE else 600
LASTING_S = 1.0
AT_ONCE = 16
BURST = 50
PER_S = 10
LIMITS = {"failed_authentications_per_min": 60 * PER_S, "failed_authentications_burst": BURST}

Guess = Callable[[Api, int], Any]


async def by_validating(api: Api, number: int) -> int:
    return (await api.validate(UNKNOWN_KEY.format(number))).status


async def by_activating(api: Api, number: int) -> int:
    return (await api.activate(UNKNOWN_KEY.format(number))).status


async def by_releasing(api: Api, number: int) -> int:
    return (await api.deactivate(UNKNOWN_KEY.format(number), "1")).status


async def by_listing(api: Api, number: int) -> int:
    return (await api.devices(UNKNOWN_KEY.format(number))).status


async def by_deleting(api: Api, number: int) -> int:
    headers = license_header(UNKNOWN_KEY.format(number))
    return (await api.ask("DELETE", "/v1/devices/1", headers=headers)).status


async def by_a_forged_origin(api: Api, number: int) -> int:
    headers = {"X-Forwarded-For": f"198.51.{number % 200}.{number % 250}", "Forwarded": f"for=10.0.0.{number % 250}"}
    return (await api.post("/v1/validate", {"key": UNKNOWN_KEY.format(number)}, headers=headers)).status


async def by_a_mistyped_key(api: Api, number: int) -> int:
    return (await api.validate(mistyped(f"1{number:027d}"))).status


async def by_a_forged_token(api: Api, number: int) -> int:
    return (await api.activate(None, token=f"eyJhbGciOiJFZERTQSJ9.{number}.AAAA")).status


async def by_a_heartbeat(api: Api, number: int) -> int:
    return (await api.heartbeat(f"skd1.{number:0104d}")).status


KEY_GUESSES: Sequence[Guess] = (
    by_validating,
    by_activating,
    by_releasing,
    by_listing,
    by_deleting,
    by_a_forged_origin,
    by_a_mistyped_key,
    by_a_forged_token,
)


class Outcome:
    def __init__(self, statuses: Sequence[int], took_s: float, processes: int = 1) -> None:
        self.looked_at = statuses.count(401)
        self.refused = statuses.count(429)
        self.tried = len(statuses)
        self.allowed = BURST + PER_S * took_s + AT_ONCE * processes
        self.note = f"{self.looked_at} looked at, at most {self.allowed:.0f} allowed in {took_s:.1f} s"

    @property
    def beyond(self) -> int:
        """How many more were looked at than the rate allows, or were answered otherwise."""
        return max(0, round(self.looked_at - self.allowed)) + self.tried - self.looked_at - self.refused


async def attack(apis: Sequence[Api], ways: Sequence[Guess], *, total: int) -> Outcome:
    """So many guesses and for so long at least, some at once, each by the next way and at the next service."""
    began = time.monotonic()
    numbers = takewhile(lambda number: number < total or time.monotonic() < began + LASTING_S, count())

    async def client() -> list[int]:
        return [await ways[number % len(ways)](apis[number % len(apis)], number) for number in numbers]

    answers = await asyncio.gather(*(client() for _ in range(AT_ONCE)))
    return Outcome(list(chain.from_iterable(answers)), time.monotonic() - began, len(apis))


async def test_guesses_are_throttled_to_the_rate_and_who_is_known_goes_on(ground: Ground, table: Table) -> None:
    activation = await ground.start("activation", limits=LIMITS)
    heartbeat = await ground.start("heartbeat", limits=LIMITS, reconciliation={"licenses_per_s": 0})
    known, new = await ground.vendor.license(), await ground.vendor.license()
    async with open_api(activation.url) as api, open_api(heartbeat.url) as pulse:
        token = (await api.activate(known.key)).ok(201)["deviceToken"]

        async def holders() -> list[int]:
            """Those whom the guesses must not lock out, again and again while they go on."""
            answers = []
            while not over.is_set():
                answers += [(await api.validate(known.key, "laptop")).status, (await pulse.heartbeat(token)).status]
                await asyncio.sleep(0.02)
            return answers

        over = asyncio.Event()
        going_on = asyncio.create_task(holders())
        outcome = await attack([api], KEY_GUESSES, total=GUESSES)
        beats = await attack([pulse], [by_a_heartbeat], total=GUESSES // 4)
        over.set()
        locked_out = [status for status in await going_on if status != 200]
        newcomer = await api.activate(new.key)
        assert outcome.looked_at >= BURST
        table.row("key guessing", tried=outcome.tried, got_through=outcome.beyond, note=outcome.note)
        table.row("token guessing", tried=beats.tried, got_through=beats.beyond, note=f"{beats.looked_at} looked at")
        assert not locked_out
        if newcomer.status != 201:
            assert newcomer.refusal == (429, "TOO_MANY_REQUESTS")
            assert 1 <= int(newcomer.headers["Retry-After"]) <= AT_ONCE
            await asyncio.sleep(int(newcomer.headers["Retry-After"]) + 0.2)
        assert (await api.activate(new.key)).status in (200, 201)
    assert [await activation.stop(), await heartbeat.stop()] == [0, 0]


async def test_several_processes_are_guessed_at_as_one(ground: Ground, table: Table) -> None:
    services = [await ground.start("activation", limits=LIMITS) for _ in range(3 if WHOLE else 2)]
    outcome = await guess_at(services)
    table.row(
        f"guessing, {len(services)} processes", tried=outcome.tried, got_through=outcome.beyond, note=outcome.note
    )


async def test_nothing_opens_while_redis_is_away(ground: Ground, table: Table) -> None:
    away = {"url": f"redis://127.0.0.1:{free_port()}/0"}
    service = await ground.start("activation", limits=LIMITS, redis=away)
    outcome = await guess_at([service])
    table.row("guessing, Redis away", tried=outcome.tried, got_through=outcome.beyond, note=outcome.note)


async def guess_at(services: Sequence[Service]) -> Outcome:
    async with AsyncExitStack() as stack:
        apis = [await stack.enter_async_context(open_api(service.url)) for service in services]
        outcome = await attack(apis, KEY_GUESSES, total=GUESSES)
    assert [await service.stop() for service in services] == [0] * len(services)
    return outcome

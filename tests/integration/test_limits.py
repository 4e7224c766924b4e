"""Limits on real servers: exact through Redis, shared by processes, and kept by each process while Redis is away."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
import pytest

from services.standalone.app import open_standalone
from services.standalone.embedded import RedisServer
from shared.runtime.resources import Resources
from shared.runtime.sections import Limits, Server
from shared.seats.connection import RedisConnection
from shared.seats.limits import Meter, Rate, RedisMeter
from shared.signing.device_token import DeviceClaims
from tests.conftest import Database
from tests.platform import (
    Api,
    Gates,
    Vendor,
    eventually,
    license_header,
    mistyped,
    new_vendor,
    open_api,
    open_gates,
    served,
    settings_for,
)

pytest_plugins = ["tests.platform"]

OFF = Limits(
    failed_authentications_per_min=0, license_requests_per_s=0, account_requests_per_s=0, license_heartbeats_per_s=0
)
UNKNOWN_KEY = "AN-IMPORTED-KEY-THAT-NOBODY-HAS-{}"


class Opened:
    def __init__(self, api: Api, vendor: Vendor, resources: Resources, gates: Gates) -> None:
        self.api = api
        self.vendor = vendor
        self.resources = resources
        self.gates = gates

    def throttled(self, side: str) -> float:
        found = self.resources.metrics.registry.get_sample_value("seatkeeper_throttled_total", {"side": side})
        assert found is not None
        return found


Open = Callable[..., AbstractAsyncContextManager[Opened]]


@pytest.fixture
async def open_limited(database: Database, private_redis: RedisServer) -> AsyncIterator[Open]:
    """Opens services with limits of their own, behind gates."""
    async with open_gates(database, private_redis) as gates:

        @asynccontextmanager
        async def open_one(*, trusted_proxies: tuple[str, ...] = (), **limits: float) -> AsyncIterator[Opened]:
            settings = settings_for(gates.postgres_dsn, gates.redis_url)
            settings = msgspec.structs.replace(
                settings,
                limits=msgspec.structs.replace(OFF, **limits),
                server=Server(trusted_proxies=trusted_proxies),
            )
            async with AsyncExitStack() as stack:
                standalone = await stack.enter_async_context(open_standalone(settings))
                url = await stack.enter_async_context(served(standalone.app))
                api = await stack.enter_async_context(open_api(url))
                vendor = await new_vendor(standalone.resources)
                yield Opened(api, vendor, standalone.resources, gates)

        yield open_one


GUESSES: dict[str, Any] = {"failed_authentications_per_min": 6, "failed_authentications_burst": 10}


async def guess(api: Api, number: int, **options: Any) -> tuple[int, str]:
    return (await api.post("/v1/validate", {"key": UNKNOWN_KEY.format(number)}, **options)).refusal


# --- The meter --------------------------------------------------------------------------------------------------


async def test_processes_that_take_at_the_same_time_get_exactly_one_burst_together(redis_url: str) -> None:
    connections = [RedisConnection(redis_url, timeout_s=5) for _ in range(4)]
    meters = [Meter(RedisMeter(connection), Rate.of(0.1, 100)) for connection in connections]
    try:
        waits = await asyncio.gather(*(meter.take(b"lf:a") for meter in meters for _ in range(200)))
    finally:
        for connection in connections:
            await connection.close()

    assert waits.count(0) == 100
    assert all(9 < wait_s <= 10 for wait_s in waits if wait_s)


async def test_a_key_lasts_no_longer_than_it_owes(redis_url: str) -> None:
    connection = RedisConnection(redis_url)
    meter = Meter(RedisMeter(connection), Rate.of(10.0, 5))
    try:
        for _ in range(5):
            assert await meter.take(b"lf:b") == 0
        left_ms = await connection.client.pttl(b"lf:b")
        assert 300 < left_ms <= 500
        assert await meter.take(b"lf:b") > 0
        await asyncio.sleep(left_ms / 1000 + 0.05)
        assert await connection.client.exists(b"lf:b") == 0
        assert await meter.take(b"lf:b") == 0
    finally:
        await connection.close()


async def test_what_one_process_sees_fail_another_waits_for(redis_url: str) -> None:
    one, other = RedisConnection(redis_url), RedisConnection(redis_url)
    try:
        failing, waiting = (Meter(RedisMeter(way), Rate.of(1.0, 3)) for way in (one, other))
        for _ in range(5):
            await failing.owe(b"lf:c")
        assert 2 < await waiting.wait_s(b"lf:c") <= 3
        assert await waiting.take(b"lf:c") > 0
    finally:
        await one.close()
        await other.close()


async def test_a_license_that_is_asked_for_now_and_then_costs_redis_nothing(redis_url: str) -> None:
    connection = RedisConnection(redis_url)
    try:
        meter = Meter(RedisMeter(connection), Rate.of(0.1, 320), unasked=1 / 32)
        assert [await meter.take(b"l{d}") for _ in range(10)] == [0] * 10
        assert await connection.client.exists(b"l{d}") == 0
        waits = [await meter.take(b"l{d}") for _ in range(400)]
        assert waits.count(0) == 320
    finally:
        await connection.close()


# --- By address -------------------------------------------------------------------------------------------------


async def test_guesses_are_throttled_and_who_is_known_goes_on(open_limited: Open) -> None:
    async with open_limited(**GUESSES) as opened:
        api = opened.api
        grant, other = await opened.vendor.license(), await opened.vendor.license()
        activated = (await api.activate(grant.key)).ok(201)

        answers = [await guess(api, number) for number in range(15)]
        assert answers == [(401, "LICENSE_KEY_INVALID")] * 10 + [(429, "TOO_MANY_REQUESTS")] * 5

        assert (await api.validate(grant.key)).ok()["valid"] is True
        assert (await api.activate(grant.key)).status == 200
        assert (await api.heartbeat(activated["deviceToken"])).status == 200
        assert (await api.devices(grant.key)).status == 200
        refused = await api.activate(other.key)
        assert refused.refusal == (429, "TOO_MANY_REQUESTS")
        assert 1 <= int(refused.headers["Retry-After"]) == refused.json["retryAfter"] <= 10
        assert "valid" not in (await api.validate(other.key)).json
        assert opened.throttled("address") == 7


async def test_every_route_that_authenticates_counts_and_is_throttled(open_limited: Open) -> None:
    async with open_limited(**GUESSES) as opened:
        api, key = opened.api, UNKNOWN_KEY.format(1)
        grant = await opened.vendor.license()
        forged = opened.resources.device_tokens.issue(
            DeviceClaims(account=grant.account, license=grant.id, device=grant.id, generation=1)
        )
        token = (await opened.vendor.token(grant)).token
        forged, altered = forged[:-1] + ("A" if forged[-1] != "A" else "B"), token[:-6] + "AAAAAA"

        async def attempts() -> list[tuple[int, str]]:
            return [
                (await api.activate(key)).refusal,
                (await api.activate(mistyped(grant.key))).refusal,
                (await api.activate(None, token=altered)).refusal,
                (await api.validate(key)).refusal,
                (await api.deactivate(key, "1")).refusal,
                (await api.post("/api/deactivate", {"licenseKey": key, "deviceId": "1"})).refusal,
                (await api.reset(key, "1")).refusal,
                (await api.devices(key)).refusal,
                (await api.ask("DELETE", "/v1/devices/1", headers=license_header(key))).refusal,
                (await api.heartbeat(forged)).refusal,
            ]

        assert {status for status, _ in await attempts()} == {401}
        assert set(await attempts()) == {(429, "TOO_MANY_REQUESTS")}
        items = (await api.post("/v1/heartbeats", {"heartbeats": [{"deviceToken": forged}] * 3})).ok()["answers"]
        assert [(item["status"], item["code"]) for item in items] == [(429, "TOO_MANY_REQUESTS")] * 3
        assert all(item["retryAfter"] >= 1 for item in items)


async def test_what_is_no_guess_is_not_counted(open_limited: Open) -> None:
    async with open_limited(**GUESSES) as opened:
        api = opened.api
        grant = await opened.vendor.license(seats=1)
        token = (await opened.vendor.token(grant, max_uses=1)).token
        assert (await api.activate(None, "one", token=token)).status == 201
        for number in range(15):
            assert (await api.activate(grant.key, timestamp=1)).refusal == (401, "TIMESTAMP_SKEWED")
            assert (await api.activate(grant.key, f"{number}")).refusal == (403, "DEVICE_LIMIT_EXCEEDED")
            assert (await api.activate(None, f"{number}", token=token)).status in (401, 403)
            assert (await api.ask("GET", "/v1/devices")).refusal == (401, "LICENSE_KEY_INVALID")
            assert (await api.post("/v1/activate", {"licenseKey": 1})).refusal == (400, "REQUEST_INVALID")

        assert await guess(api, 0) == (401, "LICENSE_KEY_INVALID")
        assert opened.throttled("address") == 0


async def test_guesses_at_the_same_time_are_paid_for(open_limited: Open) -> None:
    """As many as are under way may pass at once, but each is counted, so that the rate holds in the end."""
    async with open_limited(**GUESSES) as opened:
        answers = await asyncio.gather(*(guess(opened.api, number) for number in range(60)))
        passed = [status for status, _ in answers].count(401)
        assert passed >= 10
        wait_s = (await opened.api.validate(UNKNOWN_KEY.format(0))).json["retryAfter"]
        assert wait_s >= 10 * (passed - 10)


async def test_guesses_are_throttled_while_redis_is_away_and_when_it_comes_back(open_limited: Open) -> None:
    async with open_limited(**GUESSES) as opened:
        assert [await guess(opened.api, number) for number in range(5)] == [(401, "LICENSE_KEY_INVALID")] * 5
        await opened.gates.redis.shut()
        answers = [(await guess(opened.api, number))[0] for number in range(5, 20)]
        assert answers == [401] * 5 + [429] * 10
        await opened.gates.redis.open()
        await eventually(lambda: _true(opened.resources.redis.reachable))
        assert (await guess(opened.api, 21))[0] == 429


async def test_a_forged_forwarded_address_changes_nothing(open_limited: Open) -> None:
    async with open_limited(**GUESSES) as opened:
        answers = [
            await guess(opened.api, number, headers={"X-Forwarded-For": f"198.51.100.{number}"}) for number in range(15)
        ]
        assert [status for status, _ in answers] == [401] * 10 + [429] * 5


async def test_behind_a_trusted_proxy_each_client_has_its_own_count(open_limited: Open) -> None:
    async with open_limited(trusted_proxies=("127.0.0.0/8",), **GUESSES) as opened:

        async def status(number: int, *chain: str) -> int:
            return (await guess(opened.api, number, headers={"X-Forwarded-For": ", ".join(chain)}))[0]

        assert [await status(number, f"1.1.1.{number}", "198.51.100.7") for number in range(15)] == [401] * 10 + [
            429
        ] * 5
        assert await status(15, "198.51.100.7", "198.51.100.8") == 401
        assert await status(16, "198.51.100.7", "127.0.0.9") == 429


# --- By license and account -------------------------------------------------------------------------------------


async def test_a_license_that_asks_too_much_waits_and_others_do_not(open_limited: Open) -> None:
    async with open_limited(license_requests_per_s=0.2, burst_s=100) as opened:
        api = opened.api
        hot, other = await opened.vendor.license(seats=100), await opened.vendor.license()
        answers = await asyncio.gather(*(api.activate(hot.key, f"{number}") for number in range(60)))
        passed = [answer for answer in answers if answer.status == 201]
        assert 20 <= len(passed) <= 22
        refused = [answer for answer in answers if answer.status != 201]
        assert {answer.refusal for answer in refused} == {(429, "TOO_MANY_REQUESTS")}
        assert {answer.headers["Retry-After"] for answer in refused} <= {"4", "5"}
        assert (await api.activate(other.key)).status == 201

        device_id = passed[0].json["deviceId"]
        assert (await api.deactivate(hot.key, device_id)).status == 429
        assert (await api.reset(hot.key, device_id)).status == 429
        assert (await api.devices(hot.key)).status == 429
        assert (await api.validate(hot.key, "1")).status == 429
        assert (await api.validate(hot.key)).status == 200
        assert (await api.heartbeat(passed[0].json["deviceToken"])).status == 200


async def test_an_account_that_asks_too_much_waits_and_others_do_not(open_limited: Open) -> None:
    async with open_limited(account_requests_per_s=20, burst_s=1) as opened:
        grants = [await opened.vendor.license() for _ in range(60)]
        foreign = await (await new_vendor(opened.resources)).license()
        answers = await asyncio.gather(*(opened.api.activate(grant.key) for grant in grants))
        assert 20 <= [answer.status for answer in answers].count(201) < 50
        assert {answer.status for answer in answers} == {201, 429}
        assert (await opened.api.activate(foreign.key)).status == 201
        assert opened.throttled("account") > 0
        assert opened.throttled("license") == 0


async def test_the_limit_of_a_license_holds_while_redis_is_away(open_limited: Open) -> None:
    async with open_limited(license_requests_per_s=20, burst_s=1) as opened:
        grant = await opened.vendor.license(seats=100)
        assert (await opened.api.activate(grant.key)).status == 201
        await opened.gates.redis.shut()
        began = time.monotonic()
        answers = await asyncio.gather(*(opened.api.activate(grant.key, f"{number}") for number in range(60)))
        passed = [answer.status for answer in answers].count(201)
        assert 15 <= passed <= 21 + 20 * (time.monotonic() - began)
        assert {answer.status for answer in answers} == {201, 429}


async def test_the_heartbeats_of_one_license_are_bounded_without_redis(open_limited: Open) -> None:
    async with open_limited(license_heartbeats_per_s=10, burst_s=1) as opened:
        grant, other = await opened.vendor.license(), await opened.vendor.license()
        token, calm = [(await opened.api.activate(one.key)).json["deviceToken"] for one in (grant, other)]
        answers = [await opened.api.heartbeat(token) for _ in range(30)]
        assert {answer.status for answer in answers} == {200, 429}
        assert 10 <= [answer.status for answer in answers].count(200) < 25
        assert (await opened.api.heartbeat(calm)).status == 200
        answers = (await opened.api.post("/v1/heartbeats", {"heartbeats": [{"deviceToken": token}] * 30})).json[
            "answers"
        ]
        assert {answer["status"] for answer in answers} <= {200, 429}
        assert [answer["status"] for answer in answers].count(429) > 15
        assert opened.throttled("heartbeats") > 15


async def test_by_default_a_license_of_a_hundred_thousand_seats_activates_as_fast_as_it_can(
    open_limited: Open,
) -> None:
    defaults = msgspec.structs.asdict(Limits())
    async with open_limited(**defaults) as opened:
        grant = await opened.vendor.license(seats=100_000)

        async def activated(fingerprint: str) -> int:
            """The answer that comes at last: for want of room the ledger may ask for another try (503)."""
            for _ in range(30):
                if (status := (await opened.api.activate(grant.key, fingerprint)).status) != 503:
                    return status
                await asyncio.sleep(1)
            return 503

        assert set(await asyncio.gather(*(activated(f"{number}") for number in range(3000)))) == {201}


async def _true(value: bool) -> bool:
    return value

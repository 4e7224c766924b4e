"""The chaos switch: calls go wrong in their shares, in ways that clients have to bear, and never in production."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import msgspec
import pytest
from msgspec.structs import replace

from services.standalone.app import open_standalone
from services.standalone.embedded import RedisServer
from shared.runtime.sections import Chaos, Testing
from shared.web.chaos import BEFORE, REJECTIONS
from tests.invariants import check_invariants
from tests.platform import Answer, Platform, Services, open_api, served, settings_for

pytest_plugins = ["tests.platform"]

CALM = Chaos(reject=0, delay=0, reset=0, twice=0)
CALLS = 400
CUT_OFF = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)


@pytest.fixture
async def calm(fresh_platform: Platform) -> Platform:
    """The same database and Redis without chaos."""
    return fresh_platform


@asynccontextmanager
async def chaotic(calm: Platform, redis: RedisServer, chaos: bool | Chaos) -> AsyncIterator[Platform]:
    settings = settings_for(calm.database.dsn_for("seatkeeper_standalone"), redis.url)
    async with (
        open_standalone(replace(settings, testing=replace(settings.testing, chaos=chaos))) as standalone,
        served(standalone.app) as url,
        open_api(url) as api,
    ):
        yield Platform(api=api, standalone=standalone, database=calm.database, facts=[], redis=redis)


async def outcome(platform: Platform, key: str) -> str:
    try:
        answer = await platform.api.validate(key)
    except CUT_OFF:
        return "cut off"
    return str(answer.json["code"])


async def test_calls_go_wrong_in_their_shares_and_in_the_same_way_again(
    calm: Platform, private_redis: RedisServer
) -> None:
    grant = await (await calm.vendor()).license()
    found = []
    for _ in range(2):
        chaos = Chaos(reject=0.2, reset=0.1, delay=0, twice=0, seed=7)
        async with chaotic(calm, private_redis, chaos) as platform:
            found.append(Counter([await outcome(platform, grant.key) for _ in range(CALLS)]))
    first, second = found
    assert first == second
    assert set(first) == {"VALID", "cut off", *map(str, REJECTIONS)}
    rejected = sum(first[str(code)] for code in REJECTIONS) / CALLS
    assert first["cut off"] / CALLS == pytest.approx(0.1, abs=0.05)
    assert rejected == pytest.approx(0.18, abs=0.06)


async def test_a_rejection_says_when_to_try_again_and_that_one_may(calm: Platform, private_redis: RedisServer) -> None:
    grant = await (await calm.vendor()).license()
    seen: set[str] = set()
    async with chaotic(calm, private_redis, replace(CALM, reject=1.0, seed=1)) as platform:
        for _ in range(40):
            answer = await platform.api.validate(grant.key)
            assert answer.headers["Retry-After"] == "1"
            assert answer.json["retryable"] is True
            assert "valid" not in answer.json
            seen.add(answer.refusal[1])
    assert seen == set(map(str, REJECTIONS))


async def test_of_rejected_calls_none_but_those_of_unknown_outcome_were_done(
    calm: Platform, private_redis: RedisServer
) -> None:
    vendor = await calm.vendor()
    async with chaotic(calm, private_redis, replace(CALM, reject=1.0, seed=2)) as platform:
        for _ in range(12):
            grant = await vendor.license()
            _, code = (await platform.api.activate(grant.key)).refusal
            assert await calm.seats_used(grant) == (code == "OUTCOME_UNKNOWN")


async def test_what_is_cut_off_was_done_or_was_not(calm: Platform, private_redis: RedisServer) -> None:
    vendor = await calm.vendor()
    held = set()
    async with chaotic(calm, private_redis, replace(CALM, reset=1.0, seed=3)) as platform:
        for _ in range(12):
            grant = await vendor.license()
            with pytest.raises(CUT_OFF):
                await platform.api.activate(grant.key)
            held.add(await calm.seats_used(grant))
    assert held == {0, 1}


async def test_a_delayed_call_is_answered_later(calm: Platform, private_redis: RedisServer) -> None:
    grant = await (await calm.vendor()).license()
    async with chaotic(calm, private_redis, replace(CALM, delay=1.0, delay_s=0.4, seed=4)) as platform:
        began = time.monotonic()
        for _ in range(5):
            (await platform.api.validate(grant.key)).ok()
        assert 0.3 < time.monotonic() - began < 2.5


@pytest.mark.parametrize("close", [False, True], ids=["kept alive", "closed"])
async def test_what_is_answered_twice_is_done_twice_and_stands_twice_on_the_connection(
    calm: Platform, private_redis: RedisServer, close: bool
) -> None:
    grant = await (await calm.vendor()).license(seats=1)
    body = f'{{"licenseKey": "{grant.key}", "fingerprint": "laptop", "timestamp": {int(time.time())}}}'
    async with chaotic(calm, private_redis, replace(CALM, twice=1.0)) as platform:
        answers = await raw(platform.api.url, body, close=close)
    assert [answer.partition(b"\r\n")[0] for answer in answers] == [b"HTTP/1.1 200 OK"] * 2  # 201 was the first time
    assert [b"Connection: close" in answer for answer in answers] == [close] * 2
    assert answers[0].partition(b"\r\n\r\n")[2] == answers[1].partition(b"\r\n\r\n")[2]
    assert await calm.seats_used(grant) == 1
    await check_invariants(calm.database)


async def raw(url: str, body: str, *, close: bool) -> list[bytes]:
    """All answers that come on one connection to one request."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /v1/activate HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n"
    writer.write(f"{head}{'Connection: close' + chr(13) + chr(10) if close else ''}\r\n{body}".encode())
    answers = [await one(reader), await one(reader)]
    writer.close()
    return answers


async def one(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
        (length,) = (line for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
        return head + await reader.readexactly(int(length.split()[1]))


async def test_only_the_api_is_touched(calm: Platform, private_redis: RedisServer) -> None:
    grant = await (await calm.vendor()).license()
    async with chaotic(calm, private_redis, replace(CALM, reject=1.0)) as platform:
        ask = platform.api.ask
        untouched: list[Answer] = [await ask("GET", "/openapi.json"), await ask("GET", "/.well-known/jwks.json")]
        assert {answer.status for answer in untouched} == {200}
        authorized = {"Authorization": f"License {grant.key}"}
        assert (await ask("GET", "/v1/devices", headers=authorized)).json["retryable"] is True


# --- Processes ------------------------------------------------------------------------------------------------


async def test_production_does_not_start_with_it(services: Services) -> None:
    service = services.start("activation", changes={"testing": {"chaos": True}})
    assert await service.ended() == 2
    assert "testing is for environment = development" in service.printed


async def test_development_starts_with_it_and_its_probes_are_untouched(services: Services) -> None:
    chaos = {"reject": 1.0, "delay": 0, "reset": 0, "twice": 0}
    development = {"SEATKEEPER_ENVIRONMENT": "development"}
    service = await services.start("activation", changes={"testing": {"chaos": chaos}}, environ=development).ready()
    async with open_api(service.url) as api, open_api(service.health_url) as health:
        refused = [await api.validate("1") for _ in range(8)]
        assert {answer.json["code"] for answer in refused} & set(map(str, BEFORE))
        assert [(await health.ask("GET", path)).status for path in ("/healthz", "/readyz", "/metrics")] == [200] * 3


@pytest.mark.parametrize("chaos", [{"reject": 2}, {"reject": -1}, {"rejects": 0.1}, "much"])
def test_shares_are_between_none_and_all(chaos: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"chaos": chaos}, Testing)

"""The benchmark's clients on a network that loses requests and answers: what each makes of it, and of the seats."""

from itertools import chain, repeat
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from tests.bench.network_clients import Outcome, Seat, activate_each, by_sdk, without_retries
from tests.bench.network_way import Fate, Network, NetworkWay
from tests.platform import PRODUCT, Grant, Platform, Vendor

pytest_plugins = ["tests.platform"]

QUICK = Network(name="quick", round_trip_s=0.02, loss=0.0, resets=0, silences=0)


def way_with(platform: Platform, *troubles: Fate) -> NetworkWay:
    target = urlsplit(platform.api.url)
    way = NetworkWay(QUICK, (str(target.hostname), int(target.port or 0)), seed=1)
    way.fates = chain(troubles, repeat(Fate.SERVES))
    return way


def seats_of(vendor: Vendor, grant: Grant, folder: Path, count: int) -> list[Seat]:
    root_key = msgspec.json.encode(vendor.root_key).decode()
    return [
        Seat(grant.id, grant.key, PRODUCT, root_key, f"device-{number}", folder / str(number))
        for number in range(count)
    ]


async def test_without_retries_a_lost_answer_leaves_a_seat_behind(platform: Platform, tmp_path: Path) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license(seats=4)
    way = way_with(platform, Fate.RESET_BEFORE, Fate.RESET_AFTER)

    async with way.opened() as url:
        tried = await activate_each(url, seats_of(vendor, grant, tmp_path, 4), without_retries, per_s=5)

    assert [one.failure for one in tried] == ["reset", "reset", None, None]
    assert await platform.seats_used(grant) == 3


async def test_the_sdk_asks_until_it_is_answered_and_takes_one_seat(platform: Platform, tmp_path: Path) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license(seats=1)
    way = way_with(platform, Fate.RESET_AFTER, Fate.RESET_BEFORE, Fate.RESET_AFTER)

    async with way.opened() as url:
        (tried,) = await activate_each(url, seats_of(vendor, grant, tmp_path, 1), by_sdk, per_s=5)

    assert tried == Outcome(grant.id, tried.seconds, attempts=4, failure=None)
    assert way.connections == 4
    assert await platform.seats_used(grant) == 1

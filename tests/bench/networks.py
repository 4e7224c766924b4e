"""`make bench-networks`: activation over Wi-Fi, 4G and weak 3G, by a client that tries once and by the SDK.

A real activation service, on Postgres and Redis of its own, is reached through networks with round trips, lost
segments, resets and silences. They are set so that one try succeeds 98 %, 92 % and 74 % of the time; the client
without retries measures that, and how many seats it leaves behind: taken, while the answer was lost. Then the SDK
activates as many other devices. Licenses have exactly as many seats as devices: one too many would turn a device away.

Ends with 0 when the SDK succeeds at least 99.9 % of the time, no license holds more seats than it has devices, and the
networks were as bad as meant; with 2 when not; with 1 when it could not be measured.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import msgspec
from rich.console import Console

from services.portal.accounts import Accounts, terms
from services.portal.licenses import Licenses
from services.standalone.embedded import EmbeddedServerError
from shared.licensing.model import Kind
from shared.runtime import logging
from shared.runtime.resources import open_resources
from shared.runtime.sections import Log
from tests.bench.network_clients import Activation, Outcome, Seat, activate_each, by_sdk, without_retries
from tests.bench.network_report import BEGIN, END, NAIVE, SDK, Found, draw, found, markdown, table, write
from tests.bench.network_way import NETWORKS, Network, NetworkWay
from tests.bench.page import fill
from tests.bench.results import BUILD, machine
from tests.bench.world import DATABASE, World, running_world, versions
from tests.invariants import broken_rules

PRODUCT = "bench"
LICENSES = 5
PER_S = 20.0
"""Activations that begin each second on each network."""

CLIENTS: Mapping[str, Activation] = {NAIVE: without_retries, SDK: by_sdk}


def main() -> int:
    options = _options()
    logging.configure(Log(level="error"))
    began = time.monotonic()
    networks = [one for one in NETWORKS if options.network in (None, one.name)]
    try:
        with tempfile.TemporaryDirectory(prefix="seatkeeper-bench-") as folder, running_world(Path(folder)) as world:
            rows = asyncio.run(_measure(world, Path(folder), networks, options.activations))
    except (EmbeddedServerError, TimeoutError, OSError) as error:
        print(f"seatkeeper: {error}", file=sys.stderr)
        return 1
    Console(width=190).print(table(rows))
    about = machine(**versions(), minutes=round((time.monotonic() - began) / 60, 1))
    write(about, rows)
    draw(rows, [BUILD, *options.images])
    for document in options.markdown:
        fill(document, markdown(about, rows), begin=BEGIN, end=END)
    return 0 if all(one.met for one in rows) else 2


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.bench.networks", description=__doc__)
    parser.add_argument("--activations", type=int, default=2000, help="on each network, by each client")
    parser.add_argument("--network", help="this one alone, such as 4G", choices=[one.name for one in NETWORKS])
    parser.add_argument("--images", type=Path, action="append", default=[], help="a folder that takes the plot, too")
    parser.add_argument("--markdown", type=Path, action="append", default=[], help="a document that shows the table")
    return parser.parse_args()


async def _measure(world: World, folder: Path, networks: Sequence[Network], count: int) -> list[Found]:
    """The clients one after the other, each on all networks side by side."""
    target = urlsplit(world.start("activation").url)
    address = (str(target.hostname), int(target.port or 0))
    titles, rows = [network.title for network in networks], []
    for name, activate in CLIENTS.items():
        made = [await _seats(world, folder / f"{name}-{place}", count) for place in range(len(networks))]
        ways = [NetworkWay(network, address, seed) for seed, network in enumerate(networks)]
        outcomes = await asyncio.gather(*(_cross(way, seats, activate) for way, seats in zip(ways, made, strict=True)))
        used = await _seats_used(world)
        rows += [found(network, name, some, used) for network, some in zip(networks, outcomes, strict=True)]
    return sorted(rows, key=lambda one: titles.index(one.network))


async def _cross(way: NetworkWay, seats: Sequence[Seat], activate: Activation) -> list[Outcome]:
    async with way.opened() as url:
        return await activate_each(url, seats, activate, per_s=PER_S)


async def _seats(world: World, folder: Path, count: int) -> list[Seat]:
    """Devices dealt over new licenses, which have a seat for each of theirs and none more."""
    async with open_resources(world.settings("seatkeeper_operator"), application="bench") as r:
        accounts = Accounts(r.catalog, r.secrets, r.management_tokens)
        licenses = Licenses(r.catalog, r.ledger, r.reader, r.keystore, r.license_keys)
        account = await accounts.create("Bench")
        await accounts.add_product(account.id, code=PRODUCT, name="Bench")
        granted = terms(kind=Kind.NODE_LOCKED, product_code=PRODUCT)
        each = [len(range(number, count, LICENSES)) for number in range(LICENSES)]
        for seats in set(each):
            await accounts.add_policy(account.id, name=f"{seats} seats", seats=seats, terms=granted)
        made = [await licenses.create(account.id, policy=f"{seats} seats") for seats in each if seats]
    root_key = msgspec.json.encode(account.root_key).decode()
    return [
        Seat(license.id, license.key, PRODUCT, root_key, f"device-{number}-{license.id}", folder / str(number))
        for number in range(count)
        for license in [made[number % LICENSES]]
    ]


async def _seats_used(world: World) -> dict[UUID, int]:
    """What Postgres counts for each license, once it agrees with itself."""
    connection = await asyncpg.connect(world.postgres.dsn(DATABASE))
    try:
        broken = await broken_rules(connection)
        assert not broken, broken
        return {row["id"]: row["seats_used"] for row in await connection.fetch("SELECT id, seats_used FROM license")}
    finally:
        await connection.close()


if __name__ == "__main__":
    sys.exit(main())

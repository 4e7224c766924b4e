"""Two reapers, of which one is stopped by SIGSTOP between finding its candidates and having them decided.

While it is stopped its candidates are heard and promised a lease, and the other reaper goes on. Resumed, it frees none
of them. It is stopped in turn before its transaction began, and within it, when the licenses are locked already.

`ROUNDS` rounds are played, 5 unless the variable says otherwise: `make paused-reapers` plays 50.
"""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from enum import Enum
from typing import Any
from uuid import UUID

import redis.asyncio

from shared.licensing.model import Kind
from tests.conftest import Database
from tests.invariants import check_invariants
from tests.platform import Api, Grant, Service, Services, Vendor, eventually, open_api, rows
from tests.proxy import Proxy

pytest_plugins = ["tests.platform"]

ROUNDS = int(os.environ.get("ROUNDS", "5"))
PER_LICENSE = 6
TIMEOUT_S = 1.0
QUICK = {"reaper": {"interval_s": 0.2}, "postgres": {"statement_timeout_s": TIMEOUT_S}}
SILENT = """
    UPDATE device d
    SET last_contact_at = d.last_contact_at - back, lease_expires_at = d.lease_expires_at - back,
        announced_lease_end = d.lease_expires_at - back
    FROM (VALUES (interval '95 days')) AS ago (back)
    WHERE d.id = ANY ($1)
"""
RELEASED = "SELECT id FROM device WHERE id = ANY ($1) AND state = 'released'"
IN_TRANSACTION = (
    "SELECT 1 FROM pg_stat_activity WHERE application_name = 'seatkeeper-reaper' AND state = 'idle in transaction'"
)
_BEGIN, _LOCKS = b"BEGIN\x00", b"FOR UPDATE OF l"
_PARSE, _BIND, _HEAD_BYTES = b"P", b"B", 5
Seat = dict[str, Any]


class At(Enum):
    """Where a reaper's transaction is held up."""

    BEGIN = "before its transaction"
    LOCKED = "with the licenses locked"


class Checkpoint(Proxy):
    """The way of one reaper to Postgres. Closed, it holds up the next transaction, and says so once it has come."""

    def __init__(self, target_dsn: str) -> None:
        super().__init__(target_dsn)
        self._at: At | None = None
        self.reached, self._open = asyncio.Event(), asyncio.Event()
        self._open.set()

    def shut(self, at: At) -> None:
        self._at = at
        self.reached.clear()
        self._open.clear()

    def lift(self) -> None:
        self._at = None
        self._open.set()

    async def _pass_on(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._passing.add(task)
        server_in, server_out = await self._connect()
        held, locking = asyncio.Event(), set[bytes]()
        answers = asyncio.create_task(self._answer(server_in, client_out, held))
        try:
            while chunk := await client_in.read(65_536):
                if chunk.startswith(_PARSE) and _LOCKS in chunk:
                    locking.add(_names(chunk)[0])
                if _BEGIN in chunk and self._at is At.BEGIN:
                    self.reached.set()
                    await self._open.wait()
                elif self._at is At.LOCKED and chunk.startswith(_BIND) and _names(chunk)[1] in locking:
                    held.set()
                    self.reached.set()
                server_out.write(chunk)
                await server_out.drain()
        except ConnectionError:
            return
        finally:
            answers.cancel()
            client_out.close()
            server_out.close()
            self._passing.discard(task)

    async def _answer(
        self, server_in: asyncio.StreamReader, client_out: asyncio.StreamWriter, held: asyncio.Event
    ) -> None:
        """The statement that locks goes to Postgres; its answer comes no further."""
        while chunk := await server_in.read(65_536):
            if held.is_set():
                await self._open.wait()
                held.clear()
            client_out.write(chunk)
            await client_out.drain()
        client_out.close()


def _names(chunk: bytes) -> list[bytes]:
    """What a message to Postgres begins with: PARSE with the statement, BIND with the portal and the statement."""
    return chunk[_HEAD_BYTES:].split(b"\x00", 2)


class House:
    """Two reapers, and the services that devices talk to."""

    def __init__(
        self, database: Database, redis_url: str, checkpoint: Checkpoint, reapers: list[Service], api: Api, beats: Api
    ) -> None:
        self._database = database
        self._redis_url = redis_url
        self.checkpoint = checkpoint
        self.watched, self.other = reapers
        self._api = api
        self._beats = beats

    async def seat(self, grant: Grant, names: list[str]) -> list[Seat]:
        return [
            (await self._api.activate(grant.key, name)).ok(201) | {"key": grant.key, "name": name} for name in names
        ]

    async def fall_silent(self, seats: list[Seat]) -> None:
        """Set them back so far that any lease is over, as if they had been silent, in Redis too."""
        async with redis.asyncio.Redis.from_url(self._redis_url) as connection:
            await connection.flushall()
        await rows(self._database, SILENT, ids(seats))

    async def hear(self, seats: list[Seat], promised: dict[UUID, datetime]) -> None:
        for seat, answer in zip(
            seats, await asyncio.gather(*(self._beats.heartbeat(seat["deviceToken"]) for seat in seats)), strict=True
        ):
            promised[UUID(seat["deviceId"])] = datetime.fromisoformat(answer.ok()["leaseExpiresAt"])

    async def come_back(self, seat: Seat, promised: dict[UUID, datetime]) -> None:
        """One that has lost its seat: it has it again by a heartbeat where it floats, else by an activation."""
        answer = await self._beats.heartbeat(seat["deviceToken"])
        if answer.status == 410:
            answer = await self._api.activate(seat["key"], seat["name"])
            seat |= answer.ok(201)
        promised[UUID(seat["deviceId"])] = datetime.fromisoformat(answer.json["leaseExpiresAt"])

    async def freed(self, seats: list[Seat]) -> None:
        async def all_released() -> bool:
            return len(await rows(self._database, RELEASED, ids(seats))) == len(seats)

        await eventually(all_released, within_s=20)

    async def is_in_transaction(self) -> None:
        await eventually(lambda: rows(self._database, IN_TRANSACTION))

    def passes(self) -> list[int]:
        """For each pass of the watched reaper that found anything, how many devices it asked for."""
        return [line["looked_at"] for line in self.watched.log() if line["event"] == "reaper.pass"]

    async def has_passed(self, before: list[int]) -> None:
        async def is_past() -> bool:
            return len(self.passes()) > len(before)

        await eventually(is_past)

    async def check_promises(self, promised: dict[UUID, datetime]) -> None:
        found = {
            row["id"]: row
            for row in await rows(self._database, "SELECT * FROM device WHERE id = ANY ($1)", [*promised])
        }
        for id, end in promised.items():
            assert end > datetime.now(UTC)
            assert found[id]["state"] == "active", "a device that was heard has lost its seat"
            assert found[id]["lease_expires_at"] >= end


def ids(seats: list[Seat]) -> list[UUID]:
    return [UUID(seat["deviceId"]) for seat in seats]


@asynccontextmanager
async def open_house(services: Services, database: Database, redis_url: str) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        checkpoint = Checkpoint(database.dsn_for("seatkeeper_reaper"))
        await checkpoint.open()
        stack.push_async_callback(checkpoint.close)
        stack.callback(checkpoint.lift)
        watched = services.start("reaper", changes=QUICK | {"postgres": QUICK["postgres"] | {"dsn": checkpoint.dsn}})
        reapers = [watched, services.start("reaper", changes=QUICK)]
        activation, heartbeat = services.start("activation"), services.start("heartbeat")
        for service in (*reapers, activation, heartbeat):
            await service.ready()
        api, beats = [await stack.enter_async_context(open_api(one.url)) for one in (activation, heartbeat)]
        yield House(database, redis_url, checkpoint, reapers, api, beats)


def stop(service: Service) -> None:
    service.process.send_signal(signal.SIGSTOP)


def resume(service: Service) -> None:
    service.process.send_signal(signal.SIGCONT)


async def play(house: House, grants: list[Grant], number: int, at: At) -> dict[UUID, datetime]:
    """One round; returns what was promised while a reaper was stopped that meant to free these devices.

    At its end that reaper, alone, frees others: it is well, and done with what it held.
    """
    names = [f"{number}-{n}" for n in range(PER_LICENSE)]
    everyone = [seat for grant in grants for seat in await house.seat(grant, names)]
    heard, silent = everyone[::2], everyone[1::2]
    promised: dict[UUID, datetime] = {}

    stop(house.other)
    house.checkpoint.shut(at)
    await house.fall_silent(everyone)
    await asyncio.wait_for(house.checkpoint.reached.wait(), 10)
    stop(house.watched)
    if at is At.LOCKED:
        await house.is_in_transaction()
    await house.hear(heard, promised)
    resume(house.other)
    await house.freed(silent)
    for seat in random.sample(silent, len(silent) // 2):
        await house.come_back(seat, promised)
    others = [seat for grant in grants for seat in await house.seat(grant, [f"{number}-other"])]
    await asyncio.sleep(random.uniform(0, 0.5))
    stop(house.other)
    passes = house.passes()
    house.checkpoint.lift()
    resume(house.watched)
    await house.has_passed(passes)
    await house.check_promises(promised)

    await house.fall_silent(others)
    await house.freed(others)
    resume(house.other)
    return promised


async def test_a_reaper_that_is_resumed_long_after_frees_nobody_who_was_heard(
    services: Services, vendor: Vendor, database: Database, redis_url: str
) -> None:
    promised: dict[UUID, datetime] = {}
    async with open_house(services, database, redis_url) as house:
        seats = ROUNDS * (PER_LICENSE + 1)
        grants = [await vendor.license(seats=seats, kind=Kind.FLOATING, lease_s=86_399) for _ in range(2)]
        grants += [await vendor.license(seats=seats) for _ in range(2)]
        for number in range(ROUNDS):
            promised |= await play(house, grants, number, [*At][number % 2])
        await house.check_promises(promised)
        assert [await reaper.stop() for reaper in (house.watched, house.other)] == [0, 0]

    assert house.passes().count(len(grants) * PER_LICENSE) == ROUNDS, "each stopped pass went on with all it had found"
    given_up = [line for line in house.watched.log() if line["event"] == "ledger.unavailable"]
    assert len(given_up) == ROUNDS // 2, "of those that held locks Postgres ended the transaction"
    for reaper in (house.watched, house.other):
        assert [line for line in reaper.log() if line["level"] not in ("debug", "info", "warning")] == []
    assert len(promised) == ROUNDS * len(grants) * PER_LICENSE * 3 // 4
    ended = await rows(database, "SELECT device_id, reason FROM audit WHERE event = 'device.released'")
    assert len(ended) == ROUNDS * len(grants) * (PER_LICENSE // 2 + 1)
    assert {row["reason"] for row in ended} == {"idle", "lease_expired"}
    await check_invariants(database)

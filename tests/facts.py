"""What tests of facts use: facts in memory, a receiver that remembers, a consumer at work, and a way that can fail.

Paces are quick: what takes seconds in service takes hundredths here.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID, uuid4

import msgspec
from aio_pika import Message
from msgspec.structs import replace

from shared.facts.amqp import Publisher
from shared.facts.codec import routing_key
from shared.facts.connection import open_channel
from shared.facts.consumer import Consumer, Pace
from shared.facts.topology import EXCHANGE, PROJECTOR, Subscriber
from shared.facts.transport import Receive
from shared.ledger.reader import LicenseRef
from shared.licensing.facts import SCHEMA, Fact, encode, fact_of
from shared.licensing.model import Event, EventKind, Kind
from shared.runtime.background import background
from tests.builders import NOW, REF, floating, make_device, make_license, make_terms

QUICK = Pace(first_s=0.02, longest_s=0.1, longest_away_s=0.05)
LOOPBACK = "127.0.0.1"


def make_fact(version: int = 1, *, ref: LicenseRef = REF, kind: Kind = Kind.NODE_LOCKED) -> Fact:
    terms = floating() if kind is Kind.FLOATING else make_terms()
    license = make_license(account_id=ref[0], id=ref[1], version=version, terms=terms)
    device = make_device(account_id=ref[0], license_id=ref[1])
    event = Event(
        kind=EventKind.DEVICE_ACTIVATED, version=version, seats_limit=3, seats_used=1, seats_allowed=3, device=device
    )
    return fact_of(event, license, NOW)


def make_facts(versions: Iterable[int], **members: Any) -> list[str]:
    """Encoded facts of one license."""
    return [encode(make_fact(version, **members)) for version in versions]


def new_ref() -> LicenseRef:
    return uuid4(), uuid4()


LATER_SCHEMA = msgspec.json.encode(replace(make_fact(9), schema=SCHEMA + 1)).decode()
"""A fact that reads well, and says that this release cannot know what it means."""


async def publish(url: str, *batches: Sequence[str]) -> None:
    """Publish each batch in turn."""
    publisher = Publisher(url, name="tests")
    for facts in batches:
        await publisher.publish(facts)
    await publisher.close()


async def publish_mixed(url: str, facts: Sequence[str]) -> None:
    """One message of facts, as a later release packs them: it reads them all."""
    async with open_channel(url, name="tests") as channel:
        exchange = await channel.get_exchange(EXCHANGE)
        message = Message("\n".join(facts).encode(), message_id=uuid4().hex, timestamp=datetime.now(UTC))
        await exchange.publish(message, routing_key(facts[0]))


class Received:
    """A receiver that remembers. `fails` is asked before each fact whether it is to raise, and what."""

    def __init__(self, fails: Callable[[Fact], Exception | None] = lambda fact: None) -> None:
        self.fails = fails
        self.facts: list[Fact] = []
        self.calls: list[list[int]] = []

    async def __call__(self, facts: Sequence[Fact]) -> None:
        self.calls.append([fact.version for fact in facts])
        for fact in facts:
            if (error := self.fails(fact)) is not None:
                raise error
        self.facts.extend(facts)

    @property
    def versions(self) -> list[int]:
        return [fact.version for fact in self.facts]

    def by_license(self) -> dict[UUID, list[int]]:
        """The versions of each license in the order in which they were first received."""
        found: dict[UUID, list[int]] = {}
        for fact in self.facts:
            versions = found.setdefault(fact.license_id, [])
            if fact.version not in versions:
                versions.append(fact.version)
        return found


def poison(version: int, error: Exception | None = None) -> Received:
    """A receiver that cannot handle facts of this version."""
    return Received(fails=lambda fact: (error or ValueError("poison")) if fact.version == version else None)


@asynccontextmanager
async def consuming(
    url: str, handle: Receive, *, subscriber: Subscriber = PROJECTOR, pace: Pace = QUICK, **options: Any
) -> AsyncIterator[Consumer]:
    """A consumer at work, connected."""
    consumer = Consumer(url, subscriber, handle, pace=pace, **options)
    async with background(consumer.run):
        await until(lambda: consumer.tally.connections > 0)
        yield consumer


async def until(holds: Callable[[], object], *, within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def until_empty(url: str, queue: str, *, within_s: float = 10.0) -> None:
    """Wait until the queue holds no message that could be delivered."""
    await until_depth(url, queue, 0, within_s=within_s)


async def until_depth(url: str, queue: str, messages: int, *, within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while await depth(url, queue) != messages:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def depth(url: str, queue: str) -> int:
    """How many messages wait in the queue; those in a consumer's hands do not count."""
    async with open_channel(url, name="tests") as channel:
        return (await channel.get_queue(queue)).declaration_result.message_count or 0


class Way:
    """A way to the broker over TCP. It can be cut, or frozen: then it takes everything and passes nothing on."""

    def __init__(self, target_url: str) -> None:
        self._target = urlsplit(target_url)
        self._server: asyncio.Server | None = None
        self._ends: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0
        self._sending, self._answering = asyncio.Event(), asyncio.Event()
        self.thaw()

    @property
    def url(self) -> str:
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        return urlunsplit(self._target._replace(netloc=f"{self._target.netloc.rpartition('@')[0]}@{LOOPBACK}:{port}"))

    @property
    def open_connections(self) -> int:
        return len(self._tasks)

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, LOOPBACK, 0)

    def cut(self) -> None:
        """Break the connections that are open."""
        for end in list(self._ends):
            end.transport.abort()

    def freeze(self, *, answers_only: bool = False) -> None:
        """Half-open: what is sent goes nowhere, on the connections that are open and on new ones."""
        self._answering.clear()
        if not answers_only:
            self._sending.clear()

    def thaw(self) -> None:
        """New connections work again. What was sent on frozen ones stays lost."""
        self.cut()
        self._sending.set()
        self._answering.set()

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        self.thaw()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._ends.add(writer)
        self.connections += 1
        try:
            with contextlib.suppress(OSError):
                await self._connect(reader, writer)
        finally:
            writer.transport.abort()
            self._ends.discard(writer)
            self._tasks.discard(task)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, onward = await asyncio.open_connection(self._target.hostname, self._target.port)
        self._ends.add(onward)
        try:
            await asyncio.gather(self._pass(reader, onward, self._sending), self._pass(behind, writer, self._answering))
        finally:
            onward.transport.abort()
            self._ends.discard(onward)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, moving: asyncio.Event) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                await moving.wait()
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


@asynccontextmanager
async def open_way(target_url: str) -> AsyncIterator[Way]:
    way = Way(target_url)
    await way.open()
    try:
        yield way
    finally:
        await way.close()

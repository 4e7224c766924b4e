"""The ways break what passes them as they are told, and nothing else: over real connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import uvloop

from tests.faults.way import HOST, Kind, Manner, Way

SOON_S = 0.3
COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"
OBEYED = b"C\x00\x00\x00\x0bCOMMIT\x00"


class Echo:
    """A server that sends back what it gets, but for a COMMIT, which it obeys. `heard` is all it got."""

    def __init__(self) -> None:
        self.heard = b""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                self.heard += data
                writer.write(OBEYED if data == COMMIT else data)
                await writer.drain()
        writer.close()


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, data: bytes) -> bytes | None:
        """What comes back; None for silence. Raises `OSError` or `EOFError` on a broken connection."""
        self.writer.write(data)
        return await self.hear()

    async def hear(self) -> bytes | None:
        try:
            async with asyncio.timeout(SOON_S):
                heard = await self.reader.read(65_536)
        except TimeoutError:
            return None
        if not heard:
            raise EOFError
        return heard


@asynccontextmanager
async def opened() -> AsyncIterator[tuple[Way, Echo]]:
    echo = Echo()
    server = await asyncio.start_server(echo, HOST, 0)
    way = Way([(HOST, server.sockets[0].getsockname()[1])], seed=1)
    await way.open()
    try:
        yield way, echo
    finally:
        await way.behave(Manner(kind=Kind.REFUSE))
        server.close()


async def connected(way: Way) -> Client:
    return Client(*await asyncio.open_connection(HOST, way.port))


async def test_a_way_passes_everything_in_both_directions() -> None:
    async with opened() as (way, echo):
        client = await connected(way)
        sent = bytes(range(256)) * 4096
        client.writer.write(sent)
        assert await client.reader.readexactly(len(sent)) == sent
        assert echo.heard == sent


def test_what_is_sent_before_the_server_was_reached_is_not_lost() -> None:
    """On the loop that the ways run on, which reads at once."""

    async def many() -> None:
        async with opened() as (way, _):
            for number in range(50):
                client = await connected(way)
                assert await client.ask(b"%d" % number) == b"%d" % number
                client.writer.close()

    uvloop.run(many())


async def test_a_way_that_refuses_resets_what_is_open_and_lets_nobody_in_until_it_heals() -> None:
    async with opened() as (way, _):
        client = await connected(way)
        assert await client.ask(b"one") == b"one"
        await way.behave(Manner(kind=Kind.REFUSE))
        with pytest.raises((OSError, EOFError)):
            await client.ask(b"two")
        with pytest.raises(ConnectionRefusedError):
            await connected(way)
        await way.behave(Manner())
        assert await (await connected(way)).ask(b"three") == b"three"


async def test_a_parted_way_holds_everything_back_and_delivers_it_afterwards() -> None:
    async with opened() as (way, echo):
        client = await connected(way)
        assert await client.ask(b"one") == b"one"
        await way.behave(Manner(kind=Kind.STALL))
        late = await connected(way)
        assert await client.ask(b"two") is None
        assert await late.ask(b"three") is None
        assert echo.heard == b"one"
        await way.behave(Manner())
        assert await client.hear() == b"two"
        assert await late.hear() == b"three"


async def test_a_half_open_way_swallows_and_what_was_open_stays_dead() -> None:
    async with opened() as (way, echo):
        client = await connected(way)
        assert await client.ask(b"one") == b"one"
        await way.behave(Manner(kind=Kind.SWALLOW))
        late = await connected(way)
        assert await client.ask(b"two") is None
        assert await late.ask(b"three") is None
        await way.behave(Manner())
        assert await client.ask(b"four") is None
        assert await late.ask(b"five") is None
        assert await (await connected(way)).ask(b"six") == b"six"
        assert echo.heard == b"onesix"


async def test_a_slow_way_delays_both_directions_and_keeps_the_order() -> None:
    async with opened() as (way, _):
        client = await connected(way)
        await way.behave(Manner(delay_s=0.1))
        began = asyncio.get_running_loop().time()
        for letter in b"abc":
            client.writer.write(bytes([letter]))
            await asyncio.sleep(0.01)
        assert await client.reader.readexactly(3) == b"abc"
        assert asyncio.get_running_loop().time() - began >= 0.2


async def test_a_share_of_what_is_sent_resets_its_connection() -> None:
    async with opened() as (way, _):
        await way.behave(Manner(resets=0.3))
        reset = 0
        for _ in range(100):
            client = await connected(way)
            try:
                assert await client.ask(b"one") == b"one"
            except (OSError, EOFError):
                reset += 1
        assert 15 <= reset <= 45


@pytest.mark.parametrize("obeyed", [False, True])
async def test_a_cut_at_commit_breaks_one_connection_before_or_after_it_was_obeyed(obeyed: bool) -> None:
    async with opened() as (way, echo):
        first, second = await connected(way), await connected(way)
        way.cut(1, obeyed=obeyed)
        with pytest.raises((OSError, EOFError)):
            await first.ask(COMMIT)
        assert echo.heard == (COMMIT if obeyed else b"")
        assert await second.ask(COMMIT) == OBEYED


async def test_whoever_comes_while_the_first_target_is_away_is_let_to_the_next() -> None:
    async with opened() as (behind, echo):
        gone = await asyncio.start_server(Echo(), HOST, 0)
        away = gone.sockets[0].getsockname()[1]
        gone.close()
        await gone.wait_closed()
        way = Way([(HOST, away), (HOST, behind.port)], seed=1, in_order=True)
        await way.open()
        assert await (await connected(way)).ask(b"one") == b"one"
        assert echo.heard == b"one"
        await way.behave(Manner(kind=Kind.REFUSE))

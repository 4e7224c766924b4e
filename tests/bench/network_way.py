"""A network between clients and a server, played over TCP: round trips, lost segments, resets and silences.

- A connection opens after a round trip, as by TCP's handshake; each segment then takes half of one.
- A segment may be lost. It is sent again after a time that doubles with each loss (RFC 6298), and those behind it wait.
- What becomes of a connection is its fate: it serves, is reset, or falls silent for good, either before the request has
  reached the server, or with the answer on its way back. Fates come from a shuffled deck, so that their shares hold.
"""

import asyncio
import math
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from enum import Enum, auto

import msgspec

from tests.faults.way import HOST, Address, abort

SEGMENT = 1448
DECK = 1000
FIRST_RETRANSMISSION_S = 1.0
"""Of a segment of the handshake, before any round trip was measured."""

_LEAST_RETRANSMISSION_S = 0.2
_AFTERWARDS_S = 0.001


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """`loss` is the share of segments lost; of `DECK` connections so many are reset and so many fall silent."""

    name: str
    round_trip_s: float
    loss: float
    resets: int
    silences: int

    @property
    def title(self) -> str:
        return f"{self.name} {1000 * self.round_trip_s:.0f} ms"

    @property
    def good(self) -> float:
        """The share of connections that serve: how often one try succeeds."""
        return 1 - (self.resets + self.silences) / DECK


NETWORKS = (
    Network(name="Wi-Fi", round_trip_s=0.05, loss=0.002, resets=12, silences=8),
    Network(name="4G", round_trip_s=0.12, loss=0.01, resets=50, silences=30),
    Network(name="weak 3G", round_trip_s=0.6, loss=0.03, resets=150, silences=110),
)


class Fate(Enum):
    SERVES = auto()
    RESET_BEFORE = auto()
    RESET_AFTER = auto()
    SILENT_BEFORE = auto()
    SILENT_AFTER = auto()


def fates(network: Network, chance: random.Random) -> Iterator[Fate]:
    """Without end, deck by deck; half of the troubles strike before the request has arrived, half after."""
    deck = [Fate.RESET_BEFORE, Fate.RESET_AFTER] * (network.resets // 2)
    deck += [Fate.SILENT_BEFORE, Fate.SILENT_AFTER] * (network.silences // 2)
    deck += [Fate.SERVES] * (DECK - len(deck))
    while True:
        chance.shuffle(deck)
        yield from deck


class Line:
    """One direction of a connection: it keeps the order. Times are the loop's."""

    def __init__(self, network: Network, chance: random.Random) -> None:
        self._network = network
        self._chance = chance
        self._opened_at_s = 0.0
        self.clear_at_s = 0.0
        """When all that was sent so far has arrived."""

    def open(self, now_s: float) -> None:
        """The handshake: a segment each way."""
        late_s = sum(self._sent_again_s(FIRST_RETRANSMISSION_S) for _ in range(2))
        self._opened_at_s = now_s + self._network.round_trip_s + late_s

    def arrives_s(self, now_s: float, size: int) -> float:
        """When the last of so many bytes, sent now or once the line is open, has arrived."""
        round_trip_s = self._network.round_trip_s
        again_s = round_trip_s + max(_LEAST_RETRANSMISSION_S, 2 * round_trip_s)
        sent_s = max(now_s, self._opened_at_s)
        for _ in range(math.ceil(size / SEGMENT)):
            arrival_s = sent_s + round_trip_s / 2 + self._sent_again_s(again_s)
            self.clear_at_s = max(self.clear_at_s, arrival_s)
        return self.clear_at_s

    def _sent_again_s(self, after_s: float) -> float:
        waited_s = 0.0
        while self._chance.random() < self._network.loss:
            waited_s += after_s
            after_s *= 2
        return waited_s


class NetworkWay:
    """The way to a server through a network; `connections` counts those that clients opened."""

    def __init__(self, network: Network, target: Address, seed: int) -> None:
        self.network = network
        self.connections = 0
        self._target = target
        self._chance = random.Random(seed)
        self._open: set[asyncio.Task[None]] = set()
        self.fates = fates(network, self._chance)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[str]:
        """Gives the URL that leads through it."""
        server = await asyncio.start_server(self._serve, HOST, 0, backlog=512)
        try:
            yield f"http://{HOST}:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for task in self._open:
                task.cancel()
            await asyncio.gather(*self._open, return_exceptions=True)

    def _serve(self, client_in: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.ensure_future(self._lead(client_in, client))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _lead(self, client_in: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        fate, there, back = next(self.fates), Line(self.network, self._chance), Line(self.network, self._chance)
        there.open(asyncio.get_running_loop().time())
        server_in, server = await asyncio.open_connection(*self._target)

        def reach_server(data: bytes) -> None:
            if fate is Fate.RESET_BEFORE:
                abort(client.transport)
            elif fate is not Fate.SILENT_BEFORE and not server.is_closing():
                server.write(data)

        def reach_client(data: bytes) -> None:
            if fate is Fate.RESET_AFTER:
                abort(client.transport)
            elif fate is Fate.SERVES and not client.is_closing():
                client.write(data)

        answers = asyncio.ensure_future(_carry(server_in, reach_client, back))
        if fate is Fate.SERVES:
            answers.add_done_callback(lambda _: _close_after(back, client))
        try:
            await _carry(client_in, reach_server, there)
            _close_after(there, server)
            await answers
        finally:
            answers.cancel()
            client.close()
            server.close()


async def _carry(source: asyncio.StreamReader, arrive: Callable[[bytes], None], line: Line) -> None:
    """Until the sender has closed, or broken, its end."""
    loop = asyncio.get_running_loop()
    with suppress(OSError):
        while data := await source.read(65_536):
            loop.call_at(line.arrives_s(loop.time(), len(data)), arrive, data)


def _close_after(line: Line, end: asyncio.StreamWriter) -> None:
    """When all that is under way has arrived."""
    asyncio.get_running_loop().call_at(line.clear_at_s + _AFTERWARDS_S, end.close)

"""One way between two parts, over TCP, and the troubles it can make.

What a way does to what comes by is its `Manner`, which may change at any moment and holds for open connections too:

- PASS; `delay_s` and `resets` (the share of what clients send at which the connection is reset) go with it;
- REFUSE: open connections are reset, new ones refused;
- STALL: a partition. Nothing passes, nothing is answered; what was sent meanwhile passes afterwards;
- SWALLOW: half-open. What is sent is taken and lost, new connections too. They stay dead: only later ones pass.

`cut(n)` breaks the connections of the next n COMMITs, before Postgres hears of them or after it has obeyed.
A way with several targets takes the first that lets it in, beginning with any, or, `in_order`, with the first.
"""

import asyncio
import random
import socket
import struct
from collections.abc import Sequence
from enum import Enum
from functools import partial
from itertools import islice
from typing import cast

import msgspec

HOST = "127.0.0.1"
CONNECT_S = 1.0
_COMMIT = b"COMMIT\x00"
_OBEYED = b"COMMIT"
_RESET = struct.pack("ii", 1, 0)

Address = tuple[str, int]


class Kind(Enum):
    PASS = "pass"
    REFUSE = "refuse"
    STALL = "stall"
    SWALLOW = "swallow"


class Manner(msgspec.Struct, frozen=True, kw_only=True):
    kind: Kind = Kind.PASS
    delay_s: float = 0.0
    resets: float = 0.0


class Way:
    """`manner_of` lets a way treat connections apart, by what they sent first (see `distribution.py`)."""

    def __init__(self, targets: Sequence[Address], seed: int, *, in_order: bool = False) -> None:
        self._targets = list(targets)
        self._in_order = in_order
        self._random = random.Random(seed)
        self._server: asyncio.Server | None = None
        self.port = 0
        self.manner = Manner()
        self.commits_to_cut = 0
        self.cuts_when_obeyed = False
        self.links: set[Link] = set()
        self.flowing = asyncio.Event()
        self.flowing.set()

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Link(self), HOST, self.port, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]

    async def behave(self, manner: Manner) -> None:
        self.manner = manner
        self.flowing.clear() if manner.kind is Kind.STALL else self.flowing.set()
        if manner.kind is Kind.REFUSE:
            self._shut()
        elif self._server is None:
            await self.open()
        for link in list(self.links):
            link.heed()

    def cut(self, commits: int, *, obeyed: bool) -> None:
        self.commits_to_cut, self.cuts_when_obeyed = commits, obeyed

    def manner_of(self, link: "Link") -> Manner:
        return self.manner

    def resets_now(self, manner: Manner) -> bool:
        return manner.resets > 0 and self._random.random() < manner.resets

    def targets(self) -> Sequence[Address]:
        start = 0 if self._in_order else self._random.randrange(len(self._targets))
        return [*islice(self._targets, start, None), *islice(self._targets, start)]

    def _shut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for link in list(self.links):
            link.reset()


class Link(asyncio.Protocol):
    """One connection through a way: the client's half, which opens the server's."""

    def __init__(self, way: Way) -> None:
        self.way = way
        self.opening = b""
        self._client: asyncio.Transport | None = None
        self._server: asyncio.Transport | None = None
        self._early: list[bytes] = []
        self._dead = False
        self._awaits_obedience = False
        self._connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._client = cast(asyncio.Transport, transport)
        self.way.links.add(self)
        self.heed()
        if not self._dead:
            self._connecting = asyncio.ensure_future(self._connect())

    def data_received(self, data: bytes) -> None:
        if not self.opening:
            self.opening = data
            self.heed()
        manner = self.way.manner_of(self)
        if self._dead or manner.kind is Kind.SWALLOW:
            self._dead = True
        elif self.way.resets_now(manner):
            self.reset()
        elif manner.kind is not Kind.REFUSE:
            cuts = self.way.commits_to_cut > 0 and _COMMIT in data
            self.way.commits_to_cut -= cuts
            self._awaits_obedience |= cuts and self.way.cuts_when_obeyed
            if cuts and not self.way.cuts_when_obeyed:
                self.reset()
            else:
                self._pass_on(data, manner)

    def answer_received(self, data: bytes) -> None:
        manner = self.way.manner_of(self)
        if self._dead or manner.kind is Kind.SWALLOW:
            self._dead = True
        elif self._awaits_obedience and _OBEYED in data:
            self.reset()
        else:
            self._send(self._client, data, manner)

    def heed(self) -> None:
        """Behave as the way does now."""
        manner = self.way.manner_of(self)
        if manner.kind is Kind.REFUSE:
            self.reset()
        self._dead = self._dead or manner.kind is Kind.SWALLOW
        for transport in (self._client, self._server):
            if transport is not None and not transport.is_closing():
                waits = manner.kind is Kind.STALL or (transport is self._client and self._server is None)
                transport.pause_reading() if waits and not self._dead else transport.resume_reading()

    def reset(self) -> None:
        self._dead = True
        for transport in (self._client, self._server):
            if transport is not None:
                abort(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.way.links.discard(self)
        if self._connecting is not None and not self._connecting.done():
            self._connecting.cancel()
        self.end(self._server)

    def end(self, other: asyncio.Transport | None) -> None:
        """One half is gone: let the other have what is under way, then close it too."""
        if other is not None and not other.is_closing():
            asyncio.get_running_loop().call_later(self.way.manner_of(self).delay_s, other.close)

    def pause_writing(self) -> None:
        if self._server is not None:
            self._server.pause_reading()

    def resume_writing(self) -> None:
        self.heed()

    async def _connect(self) -> None:
        await self.way.flowing.wait()
        loop = asyncio.get_running_loop()
        for host, port in self.way.targets():
            try:
                async with asyncio.timeout(CONNECT_S):
                    await loop.create_connection(partial(_Behind, self), host, port)
            except (OSError, TimeoutError):
                continue
            self.heed()
            return
        self.reset()

    def connected(self, server: asyncio.Transport) -> None:
        self._server = server
        for data in self._early:
            self._send(server, data, self.way.manner_of(self))

    @property
    def client(self) -> asyncio.Transport | None:
        return self._client

    @property
    def server(self) -> asyncio.Transport | None:
        return self._server

    def _pass_on(self, data: bytes, manner: Manner) -> None:
        if self._server is None:
            self._early.append(data)
        else:
            self._send(self._server, data, manner)

    def _send(self, to: asyncio.Transport | None, data: bytes, manner: Manner) -> None:
        if to is None or to.is_closing():
            return
        if manner.delay_s:
            asyncio.get_running_loop().call_later(manner.delay_s, _write, to, data)
        else:
            to.write(data)


class _Behind(asyncio.Protocol):
    """The server's half of a link."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._link.connected(cast(asyncio.Transport, transport))

    def data_received(self, data: bytes) -> None:
        self._link.answer_received(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._link.end(self._link.client)

    def pause_writing(self) -> None:
        if self._link.client is not None:
            self._link.client.pause_reading()

    def resume_writing(self) -> None:
        self._link.heed()


def _write(transport: asyncio.Transport, data: bytes) -> None:
    if not transport.is_closing():
        transport.write(data)


def abort(transport: asyncio.WriteTransport) -> None:
    """With a reset, not with an orderly end."""
    peer: socket.socket | None = transport.get_extra_info("socket")
    if peer is not None and peer.fileno() >= 0:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()

"""How the nodes of an Erlang cluster find and reach each other here: a name server that tells them ways, not nodes.

It speaks the protocol of epmd (Erlang's own), so that a node of the cluster can be cut off from the others for
true, both ways, while clients still reach it. A connection between nodes begins with the name of the one that
asks, so a way knows both its ends.
"""

import asyncio
import struct

from tests.faults.way import HOST, Kind, Link, Manner, Way

_ALIVE, _WHERE, _NAMES = 120, 122, 110
_CREATION = 1


class Distribution:
    """Nodes are told apart by their names, without the host."""

    def __init__(self) -> None:
        self._ways: dict[str, _NodeWay] = {}
        self._creation = _CREATION
        self.parted: str | None = None
        self.port = 0

    async def open(self) -> int:
        server = await asyncio.start_server(self._serve, HOST, 0)
        self.port = int(server.sockets[0].getsockname()[1])
        return self.port

    def part(self, name: str | None) -> None:
        """Cut this node off from the others, or none."""
        self.parted = name
        for way in self._ways.values():
            for link in list(way.links):
                link.heed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            (length,) = struct.unpack(">H", await reader.readexactly(2))
            request = await reader.readexactly(length)
            verb, rest = request[0], request[1:]
            if verb == _ALIVE:
                writer.write(await self._register(rest))
                await reader.read()  # the node is registered for as long as this connection lives
            elif verb == _WHERE:
                writer.write(self._where(rest.decode()))
            elif verb == _NAMES:
                listed = "".join(f"name {name} at port {way.port}\n" for name, way in self._ways.items() if way.alive)
                writer.write(struct.pack(">I", self.port) + listed.encode())
            await writer.drain()
            if verb == _ALIVE:
                self._ways[_name_in(rest)].alive = False
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    async def _register(self, rest: bytes) -> bytes:
        name, (port,) = _name_in(rest), struct.unpack(">H", rest[:2])
        way = self._ways.get(name)
        if way is None:
            way = self._ways[name] = _NodeWay(self, name)
            await way.open()
        way.lead_to(port)
        way.alive = True
        self._creation += 1
        return struct.pack(">BBI", 118, 0, self._creation)

    def _where(self, name: str) -> bytes:
        way = self._ways.get(name)
        if way is None or not way.alive:
            return struct.pack(">BB", 119, 1)
        encoded = name.encode()
        return struct.pack(">BBHBBHHH", 119, 0, way.port, 77, 0, 6, 5, len(encoded)) + encoded + struct.pack(">H", 0)


class _NodeWay(Way):
    """The way to one node."""

    def __init__(self, distribution: Distribution, name: str) -> None:
        super().__init__([], seed=0)
        self._distribution = distribution
        self._name = name
        self.alive = False

    def lead_to(self, port: int) -> None:
        self._targets = [(HOST, port)]

    def manner_of(self, link: Link) -> Manner:
        parted = self._distribution.parted
        cut_off = parted is not None and (self._name == parted or f"{parted}@".encode() in link.opening)
        return Manner(kind=Kind.REFUSE if cut_off else Kind.PASS)


def _name_in(rest: bytes) -> str:
    (length,) = struct.unpack(">H", rest[8:10])
    return rest[10 : 10 + length].decode()

"""Ways to the server that go wrong as a test wants it: transports around the real one."""

from collections.abc import Callable
from typing import Any

import msgspec

from seatkeeper.errors import TransportError
from seatkeeper.http import HttpTransport
from seatkeeper.transport import Request, Response

LOST = TransportError("the answer was lost", kind="reset")


class Way:
    """Carries requests to the server. `lose` answers are lost after the server gave them; `cut` lets nothing through;
    `alter` changes answers. `sent` are the bodies that went out, of each try."""

    def __init__(self, url: str, *, lose: int = 0, cut: bool = False) -> None:
        self._real = HttpTransport(url)
        self.lose = lose
        self.cut = cut
        self.alter: Callable[[dict[str, Any]], object] | None = None
        self.sent: list[tuple[str, bytes]] = []

    async def send(self, request: Request) -> Response:
        if self.cut:
            raise TransportError("no way", kind="connect", sent=False)
        self.sent.append((request.path, request.body or b""))
        response = await self._real.send(request)
        if self.lose > 0:
            self.lose -= 1
            raise LOST
        return response if self.alter is None else _altered(response, self.alter)

    async def close(self) -> None:
        await self._real.close()

    def bodies(self, path: str) -> list[bytes]:
        return [body for to, body in self.sent if to == path]


def _altered(response: Response, alter: Callable[[dict[str, Any]], object]) -> Response:
    members = msgspec.json.decode(response.body)
    alter(members)
    return msgspec.structs.replace(response, body=msgspec.json.encode(members))

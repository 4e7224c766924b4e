"""Asking for a seat so that it is asked for once, however often it has to be said.

Rules:
- One nonce and one body per activation. They are kept before they are sent: whoever was stopped in between says the
  same at the next start, while the server still takes its timestamp.
- A timestamp that the server calls skewed is told anew, by the server's time and under a fresh nonce: a device that is
  active gets the seat that it has. A few times at most.
- A nonce from before, whose seat has ended meanwhile (REPLAYED), is resolved; what is asked for now is asked anew.
"""

import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from seatkeeper.api import Api
from seatkeeper.errors import Refused
from seatkeeper.messages import Activated, Waiting
from seatkeeper.seat import Seat

WINDOW_S = 240.0
ANEW = 3


class Activation:
    """`ask` are the members of the request that stay the same: key or token, fingerprint, name …"""

    def __init__(self, api: Api, seat: Seat, ask: Mapping[str, Any]) -> None:
        self._api = api
        self._seat = seat
        self._ask = {name: value for name, value in ask.items() if value is not None}

    async def __call__(self, *, deadline_s: float, attempts: int | None = None) -> Activated | Waiting:
        """Raises `Refused` and `Unreachable`."""
        resumed = self._resumed()
        body = resumed or self._body(self._seat.time.wall_s())
        for _ in range(ANEW):
            await self._seat.keep(intent=body)
            try:
                return await self._api.activate(body, deadline_s=deadline_s, attempts=attempts)
            except Refused as refused:
                now_s = _server_time_s(refused)
                if now_s is None and refused.code == "REPLAYED" and body == resumed:
                    now_s = self._seat.time.wall_s()
                if now_s is None:
                    await self._seat.keep(intent=None)
                    raise
                last = refused
                body = self._body(now_s)
        raise last

    def _body(self, now_s: float, nonce: str | None = None) -> bytes:
        fresh = {"timestamp": int(now_s), "nonce": nonce or secrets.token_urlsafe(16)}
        return msgspec.json.encode({**self._ask, **fresh})

    def _resumed(self) -> bytes | None:
        """What was sent before and not answered, if the same would be asked for now."""
        intent = self._seat.kept.intent
        if intent is None:
            return None
        said = msgspec.json.decode(intent, type=dict[str, Any])
        is_fresh = abs(self._seat.time.wall_s() - said["timestamp"]) < WINDOW_S
        return intent if is_fresh and self._body(said["timestamp"], said["nonce"]) == intent else None


def _server_time_s(refused: Refused) -> float | None:
    told = refused.members.get("serverTime")
    if refused.code != "TIMESTAMP_SKEWED" or not isinstance(told, str):
        return None
    try:
        return datetime.fromisoformat(told).timestamp()
    except ValueError:
        return None

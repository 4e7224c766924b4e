"""Telling the server that this device is there, and giving its seat back.

Rules: one at a time, each with a fresh nonce and the next count, which is kept before it is sent and stays the same
when the heartbeat is repeated. What is raised as `Refused` is genuine, but for TOKEN_INVALID.
"""

import contextlib
import secrets
from datetime import UTC, datetime

from seatkeeper.api import Api
from seatkeeper.errors import Refused, Unreachable
from seatkeeper.messages import Activated, Alive
from seatkeeper.seat import Seat

ATTEMPTS = 3
HIGHEST_COUNT = 4_294_967_295
_BEFORE_ALL = datetime.fromtimestamp(0, UTC)


class Heartbeat:
    """For a seat that has a device token."""

    def __init__(self, api: Api, seat: Seat, version: str | None) -> None:
        self._api = api
        self._seat = seat
        self._version = version

    async def __call__(self, *, attempts: int) -> Alive:
        """Raises `Refused`, `Unreachable`, and `NotGenuine` for a new lease that proves nothing."""
        kept = self._seat.kept
        await self._seat.keep(counter=kept.counter % HIGHEST_COUNT + 1)
        held_until = kept.valid_until if self._seat.lease is not None else None
        try:
            alive = await self._api.heartbeat(
                kept.device_token or "",
                device_id=kept.device_id or "",
                nonce=secrets.token_urlsafe(16),
                attempts=attempts,
                counter=self._seat.kept.counter,
                validUntil=f"{held_until or _BEFORE_ALL:%Y-%m-%dT%H:%M:%SZ}",
                version=self._version,
            )
        except Refused as refused:
            if refused.code != "TOKEN_INVALID":
                self._seat.told_time(refused.members["serverTime"])
            raise
        await self._seat.heard(alive)
        return alive

    async def hand_back(self, answer: Activated) -> None:
        """Give back a seat that was just taken, and proves nothing here. One that cannot be told of ends by itself."""
        with contextlib.suppress(Refused, Unreachable):
            await self._api.heartbeat(
                answer.device_token,
                device_id=answer.device_id,
                nonce=secrets.token_urlsafe(16),
                leave=True,
                attempts=ATTEMPTS,
            )

    async def leave(self, *, deadline_s: float, attempts: int | None = None) -> None:
        """Give the seat back; one that is gone already is given back too. Raises `Refused` and `Unreachable`;
        then the seat is as good as gone, unless it is certain that the server has not heard of it."""
        kept, heard_before = self._seat.kept, self._api.maybe_heard
        await self._seat.keep(leaving=True)
        try:
            await self._api.heartbeat(
                kept.device_token or "",
                device_id=kept.device_id or "",
                nonce=secrets.token_urlsafe(16),
                leave=True,
                deadline_s=deadline_s,
                attempts=attempts,
            )
        except Refused as refused:
            if refused.code not in ("LEASE_LOST", "TOKEN_INVALID"):
                await self._seat.keep(leaving=False)
                raise
        except Unreachable:
            if self._api.maybe_heard == heard_before:
                await self._seat.keep(leaving=False)
            raise
        await self._seat.given_back()

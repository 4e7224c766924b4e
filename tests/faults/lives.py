"""How devices live on given licenses: one worker plays one device's life after the other, by its own random numbers.

Several workers play the same devices, and more devices than there are seats, so that they contend. Now and then one
tries what it must not: another license's devices with its own key, and tokens that nobody was given.
"""

import asyncio
import json
import random
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from shared.signing import base64url
from shared.signing.device_token import PREFIX
from tests.faults.calls import Answer, Calls
from tests.faults.vendors import Grant

HOT_SHARE = 0.2
AROUND_THE_END_S = (-0.1, 0.1, 0.4, 0.8, 1.5, 2.5)
SUBSTITUTED = 8
"""Where in a token the account's id begins."""


class Seat(msgspec.Struct):
    """What a device holds after it was activated."""

    grant: Grant
    fingerprint: str
    device: str
    generation: int
    token: str
    until_s: float
    counter: int = 0


class Lives:
    """`brief` workers live on long leases, and their lives take no time; the others on short ones."""

    def __init__(self, calls: Calls, grants: Sequence[Grant], seed: int) -> None:
        self._calls = calls
        self._random = random.Random(seed)
        self._hot = [grant for grant in grants if grant.sort.hot]
        self._long = [grant for grant in grants if grant.sort.lease_s is None and not grant.sort.hot]
        self._short = [grant for grant in grants if grant.sort.lease_s is not None]
        self._all = list(grants)

    async def live(self, *, brief: bool) -> None:
        """One life, from activation to its end."""
        grant = self._choose(brief)
        if self._random.random() < 0.02:
            await self._trespass(grant)
        seat = await self._activate(grant, self._random.choice(grant.fingerprints))
        if seat is None:
            await asyncio.sleep(0.01)
        elif grant.sort.lease_s is None:
            await self._stay_briefly(seat)
            await self._end(seat)
        else:
            await self._stay(seat, grant.sort.lease_s)
            if not self._calls.stopping.is_set():
                await self._end(seat)

    def _choose(self, brief: bool) -> Grant:
        if not brief:
            return self._random.choice(self._short)
        return self._random.choice(self._hot if self._random.random() < HOT_SHARE else self._long)

    async def _activate(self, grant: Grant, fingerprint: str) -> Seat | None:
        body: dict[str, Any] = {"timestamp": int(time.time())}
        if self._random.random() < 0.85:
            body["nonce"] = f"{self._random.getrandbits(96):024x}"
        op = self._calls.new_operation()
        answer = await self._calls.activate(grant, fingerprint, body, op)
        if answer is not None and answer.ok and self._random.random() < 0.05:
            answer = await self._calls.activate(grant, fingerprint, body, op)
        return _seat(grant, fingerprint, answer)

    async def _stay_briefly(self, seat: Seat) -> None:
        for _ in range(self._random.choice((0, 0, 1, 2))):
            if not await self._contact(seat):
                return

    async def _stay(self, seat: Seat, lease_s: int) -> None:
        """Be heard well within the lease, or near its end, or when it is over; or no more."""
        for _ in range(self._random.randint(0, 6)):
            if self._random.random() < 0.6:
                pause_s = lease_s * self._random.uniform(0.1, 0.6)
            else:
                pause_s = max(0.0, seat.until_s - time.time() + self._random.choice(AROUND_THE_END_S))
            if not (await self._calls.rest(pause_s) and await self._contact(seat)):
                return

    async def _contact(self, seat: Seat) -> bool:
        """Whether the device still has its seat."""
        chance = self._random.random()
        if chance < 0.1:
            answer = await self._calls.validate(seat.grant, seat.fingerprint)
            return answer is not None and bool(answer.body.get("valid"))
        if chance < 0.4:
            return await self._activate(seat.grant, seat.fingerprint) is not None
        seat.counter += 1
        counted = seat.counter if seat.grant.sort.devices % 2 else None
        nonce = f"{self._random.getrandbits(32):08x}"
        answer = await self._calls.heartbeat(
            seat.grant, seat.device, seat.generation, seat.token, counter=counted, nonce=nonce
        )
        if answer is not None and answer.ok:
            seat.until_s = _end_of(answer.body) or seat.until_s
        return answer is None or answer.ok

    async def _end(self, seat: Seat) -> None:
        chance, generation = self._random.random(), seat.generation if self._random.random() < 0.7 else None
        if chance < 0.4:
            await self._calls.give_back("deactivate", seat.grant, seat.device, generation)
        elif chance < 0.52:
            await self._calls.give_back("reset", seat.grant, seat.device, generation)
        elif chance < 0.6:
            await self._calls.delete(seat.grant, seat.device)
        elif chance < 0.78:
            await self._calls.heartbeat(seat.grant, seat.device, seat.generation, seat.token, leave=True)

    async def _trespass(self, grant: Grant) -> None:
        """What has to be refused, whatever the state of the other license."""
        other = self._random.choice([one for one in self._all if one.account != grant.account])
        device = str(other.device(self._random.choice(other.fingerprints)))
        chance = self._random.random()
        if chance < 0.25:
            await self._calls.give_back("deactivate", grant, device, None, foreign=True)
        elif chance < 0.4:
            await self._calls.give_back("reset", grant, device, None, foreign=True)
        elif chance < 0.5:
            await self._calls.delete(grant, device, foreign=True)
        elif chance < 0.8:
            await self._calls.devices(grant)
        else:
            seat = await self._activate(grant, self._random.choice(grant.fingerprints))
            if seat is not None:
                await self._calls.forged_heartbeat(grant, seat.device, _moved(seat.token, other, device))


def _moved(token: str, other: Grant, device: str) -> str:
    """A token whose claims are another's, under the MAC that it had."""
    decoded = base64url.decode(token.removeprefix(PREFIX).encode())
    assert decoded is not None
    ids = other.account.bytes + other.id.bytes + UUID(device).bytes
    return PREFIX + base64url.encode(decoded[:SUBSTITUTED] + ids + decoded[SUBSTITUTED + 48 :]).decode()


def _seat(grant: Grant, fingerprint: str, answer: Answer | None) -> Seat | None:
    if answer is None or not answer.ok or answer.body["state"] != "active":
        return None
    body = answer.body
    return Seat(grant, fingerprint, body["deviceId"], body["generation"], body["deviceToken"], _end_of(body) or 0.0)


def _end_of(body: dict[str, Any]) -> float | None:
    until = body.get("leaseExpiresAt")
    return datetime.fromisoformat(until).timestamp() if until else None


def read_grants(text: str) -> list[Grant]:
    grants: list[Grant] = msgspec.convert(json.loads(text), list[Grant])
    return grants

"""A client's calls: each logged before it is sent and when its outcome is known, and tried again as a good client does.

A call that was lost, or answered with a 5xx or a 429, is tried again with the very same body at another address: at
once the first time, then ever more slowly.
"""

import asyncio
import contextlib
import itertools
import json
import random
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import aiohttp
import msgspec

from shared.licensing.model import device_id
from tests.faults.history import Writer
from tests.faults.vendors import Grant

ATTEMPTS = 6
TIMEOUT_S = 5.0
CROWD = 20
SLOWED_S = 1.0
"""After so many calls without an answer, one after the other, each waits so long at most before it is sent."""

CLIENT_ERRORS = (aiohttp.ClientError, OSError, TimeoutError)

_decode = msgspec.json.decode


class Answer(msgspec.Struct, frozen=True):
    status: int
    body: dict[str, Any]

    @property
    def ok(self) -> bool:
        return self.status < 300


class Calls:
    """`acknowledged` counts the activations that were answered yes, the last of them at `acknowledged_at` (ns).

    While `stopping` is set nothing is tried again.
    """

    def __init__(
        self, session: aiohttp.ClientSession, addresses: Mapping[str, list[str]], writer: Writer, seed: int
    ) -> None:
        self._session = session
        self._addresses = addresses
        self._writer = writer
        self._random = random.Random(seed)
        self._calls = itertools.count(1)
        self._turns = itertools.count(seed)
        self.stopping = asyncio.Event()
        self._unanswered = 0
        self.acknowledged = 0
        self.acknowledged_at = 0

    def new_operation(self) -> str:
        return f"{self._writer.name}-{next(self._calls)}"

    async def activate(self, grant: Grant, fingerprint: str, body: Mapping[str, Any], op: str) -> Answer | None:
        said = {"fingerprint": fingerprint, "licenseKey": grant.key, **body}
        return await self.ask("activate", "/v1/activate", said, grant, str(grant.device(fingerprint)), op=op)

    async def validate(self, grant: Grant, fingerprint: str) -> Answer | None:
        said = {"key": grant.key, "fingerprint": fingerprint}
        return await self.ask("validate", "/v1/validate", said, grant, str(grant.device(fingerprint)))

    async def heartbeat(
        self, grant: Grant, device: str, generation: int, token: str, *, leave: bool = False, **members: Any
    ) -> Answer | None:
        said = {"deviceToken": token, "leave": leave, **{name: value for name, value in members.items() if value}}
        verb = "leave" if leave else "heartbeat"
        return await self.ask(verb, "/v1/heartbeat", said, grant, device, generation=generation, service="heartbeat")

    async def give_back(
        self, verb: str, grant: Grant, device: str, generation: int | None, *, foreign: bool = False
    ) -> Answer | None:
        """`deactivate` or `reset`; without a generation it means whichever is current."""
        said: dict[str, Any] = {"deviceId": device, "licenseKey": grant.key}
        if generation is not None:
            said["generation"] = generation
        return await self.ask(verb, f"/v1/{verb}", said, grant, device, generation=generation, foreign=foreign)

    async def delete(self, grant: Grant, device: str, *, foreign: bool = False) -> Answer | None:
        return await self.ask("delete", f"/v1/devices/{device}", None, grant, device, method="DELETE", foreign=foreign)

    async def devices(self, grant: Grant) -> Answer | None:
        return await self.ask("devices", "/v1/devices?limit=500", None, grant, "", method="GET")

    async def forged_heartbeat(self, grant: Grant, device: str, token: str) -> Answer | None:
        """A heartbeat with a token that nobody was given."""
        return await self.ask(
            "heartbeat", "/v1/heartbeat", {"deviceToken": token}, grant, device, service="heartbeat", foreign=True
        )

    async def ask(
        self,
        verb: str,
        path: str,
        said: Mapping[str, Any] | None,
        grant: Grant,
        device: str,
        *,
        method: str = "POST",
        service: str = "activation",
        generation: int | None = None,
        foreign: bool = False,
        op: str = "",
    ) -> Answer | None:
        """The answer; None when none was to be had in so many attempts, each of another process in turn."""
        addresses, first = self._addresses[service], next(self._turns)
        op = op or self.new_operation()
        body = None if said is None else json.dumps(said).encode()
        headers = {"Content-Type": "application/json"}
        if body is None:
            headers = {"Authorization": f"License {grant.key}"}
        for attempt in range(ATTEMPTS):
            if attempt > 1:
                await self.rest(min(1.0, 0.1 * 2**attempt) * self._random.uniform(0.5, 1.0))
            if self._unanswered > CROWD:
                await self.rest(self._random.uniform(0, SLOWED_S))
            if attempt and self.stopping.is_set():
                return None
            call = self.new_operation()
            self._writer.write(
                "invoke",
                call=call,
                op=op,
                attempt=attempt,
                verb=verb,
                license=str(grant.id),
                device=device,
                generation=generation,
                foreign=foreign,
                nonce=verb == "activate" and said is not None and "nonce" in said,
            )
            url = addresses[(first + attempt) % len(addresses)] + path
            noted = {"call": call, "op": op, "verb": verb, "attempt": attempt}
            answer = await self._send(method, url, body, headers, grant, noted)
            if answer is not None:
                return answer
        return None

    async def rest(self, seconds: float) -> bool:
        """Sleep, or until told to stop; whether to go on."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), seconds)
        return not self.stopping.is_set()

    async def _send(
        self, method: str, url: str, body: bytes | None, headers: dict[str, str], grant: Grant, call: dict[str, Any]
    ) -> Answer | None:
        """The answer, unless it says to try again; noted either way."""
        try:
            async with self._session.request(method, url, data=body, headers=headers) as response:
                status, content = response.status, await response.read()
            answer = Answer(status, _decode(content))
        except (*CLIENT_ERRORS, msgspec.DecodeError) as error:
            self._writer.write("unknown", **call, code=type(error).__name__)
            self._unanswered += 1
            return None
        outcome = "ok" if answer.ok else "unknown" if status >= 500 else "refused"
        at = self._writer.write(outcome, **call, status=status, **_told(answer.body, grant))
        self._unanswered = self._unanswered + 1 if outcome == "unknown" else 0
        if call["verb"] == "activate" and status in (200, 201):
            self.acknowledged += 1
            self.acknowledged_at = at
        return None if status >= 500 or status == 429 else answer


def _told(body: Mapping[str, Any], grant: Grant) -> dict[str, Any]:
    """What the history keeps of an answer."""
    until = body.get("leaseExpiresAt")
    return {
        "told": body.get("deviceId", ""),
        "state": body.get("state") or ("" if body.get("valid") is None else "valid" if body["valid"] else "invalid"),
        "generation": body.get("generation"),
        "until": int(datetime.fromisoformat(until).timestamp()) if until else None,
        "used": body.get("used"),
        "limit": body.get("limit"),
        "code": body.get("code", ""),
        "strange": tuple(
            listed["deviceId"]
            for listed in body.get("devices", ())
            if str(device_id(grant.id, listed["fingerprint"])) != listed["deviceId"]
        ),
    }

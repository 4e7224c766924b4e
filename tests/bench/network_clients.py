"""Devices that activate: once without a second try, or by the SDK, over the same transport with the same patience."""

import asyncio
import secrets
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from seatkeeper import Client, Refused, Unreachable
from seatkeeper.errors import TransportError
from seatkeeper.http import HttpTransport
from seatkeeper.state import Name
from seatkeeper.transport import Request, Response

TRY_S = 10.0


class Seat(NamedTuple):
    """What a device needs, to take the seat that is meant for it. `root_key` is a JWK as JSON."""

    license: UUID
    license_key: str
    product: str
    root_key: str
    fingerprint: str
    directory: Path


class Outcome(NamedTuple):
    """`failure` tells why the device does not hold its seat, or does not know that it does."""

    license: UUID
    seconds: float
    attempts: int
    failure: str | None

    @property
    def succeeded(self) -> bool:
        return self.failure is None


Activation = Callable[[str, Seat], Coroutine[Any, Any, Outcome]]


async def without_retries(url: str, seat: Seat) -> Outcome:
    body = {"licenseKey": seat.license_key, "fingerprint": seat.fingerprint, "timestamp": int(time.time())}
    sent = msgspec.json.encode(body | {"nonce": secrets.token_urlsafe(16)})
    transport, began = HttpTransport(url, proxy="direct"), time.monotonic()
    try:
        answer = await transport.send(Request(method="POST", path="/v1/activate", body=sent, timeout_s=TRY_S))
        failure = None if answer.status in (200, 201) else f"status {answer.status}"
    except TransportError as error:
        failure = error.kind
    finally:
        await transport.close()
    return Outcome(seat.license, time.monotonic() - began, 1, failure)


async def by_sdk(url: str, seat: Seat) -> Outcome:
    transport, began = _Counting(HttpTransport(url, proxy="direct")), time.monotonic()
    client = Client(
        url,
        product=seat.product,
        root_key=seat.root_key,
        license_key=seat.license_key,
        fingerprint=seat.fingerprint,
        directory=seat.directory,
        timeout_s=TRY_S,
        transport=transport,
    )
    try:
        async with client:
            seconds = time.monotonic() - began
            failure = None if client.state.name is Name.ACTIVE else str(client.state)
    except (Refused, Unreachable) as error:
        seconds, failure = time.monotonic() - began, str(error)
    return Outcome(seat.license, seconds, transport.sent, failure)


async def activate_each(url: str, seats: Sequence[Seat], activate: Activation, *, per_s: float) -> list[Outcome]:
    """One device after the other begins, whatever became of those before; their outcomes in the same order."""
    began = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        running = []
        for number, seat in enumerate(seats):
            await asyncio.sleep(began + number / per_s - time.monotonic())
            running.append(tasks.create_task(activate(url, seat)))
    return [task.result() for task in running]


class _Counting:
    """A transport that counts the tries."""

    def __init__(self, transport: HttpTransport) -> None:
        self._transport = transport
        self.sent = 0

    async def send(self, request: Request) -> Response:
        self.sent += 1
        return await self._transport.send(request)

    async def close(self) -> None:
        await self._transport.close()

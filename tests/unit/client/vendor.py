"""A license server on the wire, for tests that play days: its answers are signed as the real one signs them."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from seatkeeper.errors import TransportError
from seatkeeper.transport import Request, Response
from tests.unit.client.played import PlayedClock
from tests.unit.client.signed import DEVICE, lease_text
from tests.unit.test_signing_answer_mac import by_the_book

LEASE_S = 12 * 3600.0
TOKEN = "skd1.token"


class Server:
    """Grants every activation. `away` answers nothing; `told` refuses the next heartbeats, each once, as these say, and
    `told_to_activations` the next activations; `gateway_says` is what something before it says instead of it;
    `leased_generation` is what its leases state instead of the true one."""

    def __init__(self, clock: PlayedClock, *, interval_s: float = 3600.0, lease_s: float = LEASE_S) -> None:
        self._clock = clock
        self._interval_s = interval_s
        self._lease_s = lease_s
        self.generation = 0
        self.leased_generation: int | None = None
        self.away = False
        self.told: list[dict[str, Any]] = []
        self.told_to_activations: list[dict[str, Any]] = []
        self.gateway_says: dict[str, Any] | None = None
        self.heard: list[tuple[float, str, dict[str, Any]]] = []

    async def send(self, request: Request) -> Response:
        body = json.loads(request.body or b"{}")
        self.heard.append((self._clock.monotonic_s(), request.path, body))
        if self.away:
            raise TransportError("away", kind="connect", sent=False)
        if self.gateway_says is not None:
            return _answer(**self.gateway_says)
        answer: Callable[[dict[str, Any]], Response] = {
            "/v1/activate": self._activate,
            "/v1/heartbeat": self._heartbeat,
        }[request.path]
        return answer(body)

    async def close(self) -> None:
        pass

    def _activate(self, _body: dict[str, Any]) -> Response:
        if self.told_to_activations:
            return _refusal(self.told_to_activations.pop(0))
        self.generation += 1
        return _answer(
            200,
            deviceId=str(DEVICE),
            state="active",
            generation=self.generation,
            lease=self._lease(),
            validUntil=_time(self._clock.wall_s() + self._lease_s),
            deviceToken=f"{TOKEN}-{self.generation}",
            nextHeartbeatIn=self._interval_s,
            limit=3,
            used=1,
        )

    def _heartbeat(self, body: dict[str, Any]) -> Response:
        refused = self.told.pop(0) if self.told else None
        answer = {
            "deviceId": str(DEVICE),
            "generation": self.generation,
            "serverTime": _time(self._clock.wall_s()),
            "nonce": body["nonce"],
        } | (refused or {"state": "active", "nextHeartbeatIn": self._interval_s})
        due = datetime.fromisoformat(body["validUntil"]).timestamp() < self._clock.wall_s() + self._lease_s / 2
        if refused is None and due:
            answer |= {"lease": self._lease(), "validUntil": _time(self._clock.wall_s() + self._lease_s)}
        answer["mac"] = by_the_book(body["deviceToken"], answer)
        return _answer(**answer) if refused is None else _refusal(answer)

    def _lease(self) -> str:
        now_s = int(self._clock.wall_s())
        return lease_text(
            gen=self.leased_generation or self.generation, iat=now_s, nbf=now_s, exp=int(now_s + self._lease_s)
        )


def _refusal(members: dict[str, Any]) -> Response:
    return _answer(**{"retryable": False} | members)


def _answer(status: int = 200, **members: Any) -> Response:
    return Response(status=status, headers={}, body=json.dumps(members).encode())


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"

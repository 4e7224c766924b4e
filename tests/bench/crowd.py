"""A crowd of clients that come when they come, whatever became of those before: an open loop, with every answer kept.

A client waits from the moment it was to come, so that nothing hides behind a slow answer. It takes a connection that is
idle, opens one, or, past `CONNECTIONS`, waits for one; after `PATIENCE_S` it hangs up and goes.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, cast
from urllib.parse import urlsplit
from uuid import uuid4

from tests.bench.open_loop import Answers, arrivals, percentile, requests

CONNECTIONS = 2048
PATIENCE_S = 5.0
LOOK_S = 0.1


class Phase(NamedTuple):
    """For so long so many clients a second."""

    rate: float
    seconds: float


class Answer(NamedTuple):
    """`due_s` is when the client was to come, from the beginning of its phase; status 0 is no answer."""

    due_s: float
    waited_s: float
    status: int

    @property
    def granted(self) -> bool:
        return 200 <= self.status < 300

    @property
    def at_s(self) -> float:
        return self.due_s + self.waited_s


async def crowd(
    url: str, bodies: Sequence[bytes], phases: Sequence[Phase], *, ended: asyncio.Event | None = None
) -> list[list[Answer]]:
    """Post bodies through one phase after another, or until it is `ended`; what became of each request.

    They are what `bodies.lua` takes.
    """
    answers: list[list[Answer]] = [[] for _ in phases]
    wanted, sent = requests(url, bodies, run=uuid4().hex), 0
    async with asyncio.TaskGroup() as tasks:
        connections = _Connections(url, tasks)
        impatience = tasks.create_task(connections.run_out_of_patience())
        began = time.monotonic()
        for seed, (phase, answered) in enumerate(zip(phases, answers, strict=True)):
            for moment in arrivals(phase.rate, phase.seconds, seed):
                if ended is not None and ended.is_set():
                    break
                await asyncio.sleep(max(began + moment - time.monotonic(), 0))
                connections.post(_Client(next(wanted), began, moment, answered))
                sent += 1
            began += phase.seconds
        while sum(map(len, answers)) < sent:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)
        impatience.cancel()
    return answers


def p99_s(answers: Sequence[Answer]) -> float:
    """How long all but one in a hundred waited at most; nobody waited 0 s."""
    return percentile(sorted(answer.waited_s for answer in answers), 0.99) if answers else 0.0


class _Client(NamedTuple):
    request: bytes
    began: float
    due_s: float
    answered: list[Answer]

    @property
    def waited_s(self) -> float:
        return time.monotonic() - self.began - self.due_s

    def answer(self, status: int) -> None:
        self.answered.append(Answer(self.due_s, self.waited_s, status))


class _Connections:
    def __init__(self, url: str, opening: asyncio.TaskGroup) -> None:
        parts = urlsplit(url)
        self._host, self._port = str(parts.hostname), parts.port or 80
        self._opening = opening
        self._opened = 0
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()
        self._waiting: deque[_Client] = deque()

    def post(self, client: _Client) -> None:
        if self._idle:
            self._send(self._idle.pop(), client)
            return
        self._waiting.append(client)
        if self._opened < CONNECTIONS:
            self._opened += 1
            self._opening.create_task(self._open())

    def free(self, connection: "_Connection") -> None:
        self._busy.discard(connection)
        if self._waiting:
            self._send(connection, self._waiting.popleft())
        else:
            self._idle.append(connection)

    def lost(self, connection: "_Connection") -> None:
        self._opened -= 1
        self._busy.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    async def run_out_of_patience(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            while self._waiting and self._waiting[0].waited_s > PATIENCE_S:
                self._waiting.popleft().answer(0)
            for connection in self._busy:
                connection.hang_up_after(PATIENCE_S)

    def _send(self, connection: "_Connection", client: _Client) -> None:
        self._busy.add(connection)
        connection.send(client)

    async def _open(self) -> None:
        await asyncio.get_running_loop().create_connection(partial(_Connection, self), self._host, self._port)


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, connections: _Connections) -> None:
        self._connections = connections
        self._answers = Answers()
        self._transport: asyncio.Transport | None = None
        self._client: _Client | None = None

    def send(self, client: _Client) -> None:
        assert self._transport is not None
        self._client = client
        self._transport.write(client.request)

    def hang_up_after(self, patience_s: float) -> None:
        if self._transport is not None and self._client is not None and self._client.waited_s > patience_s:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connections.free(self)

    def data_received(self, data: bytes) -> None:
        status = self._answers.feed(data)
        if status is not None and self._client is not None:
            self._client.answer(status)
            self._client = None
            self._connections.free(self)

    def connection_lost(self, error: Exception | None) -> None:
        if self._client is not None:
            self._client.answer(0)
        self._connections.lost(self)

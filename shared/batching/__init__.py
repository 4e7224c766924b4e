"""Serving together what arrives together: no timer, a bounded queue, a few batches in flight.

While a batch is served, what arrives waits and is taken together by the next; an idle loop serves at once.
So batches grow with the load and a lone caller never waits for company.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)
Answer = TypeVar("Answer")


class OverloadedError(Exception):
    """The queue is full: nothing was taken, and a later try may succeed."""


class GroupLoop(Generic[Item]):
    """Hands items to `serve` in batches of at most `limit`, with at most `in_flight` of them at a time.

    `serve` answers its items itself and lets no exception out. A caller that goes away cancels nothing.
    """

    def __init__(
        self, serve: Callable[[list[Item]], Awaitable[None]], *, limit: int, in_flight: int, capacity: int
    ) -> None:
        self._serve = serve
        self._limit = limit
        self._in_flight = in_flight
        self._capacity = capacity
        self._waiting: deque[Item] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._serving = 0
        self._woken = False

    def __len__(self) -> int:
        """How many are here, waiting or being served."""
        return len(self._waiting) + self._serving

    def put(self, item: Item) -> None:
        """Queue one item. Raises `OverloadedError` when the queue is full."""
        if len(self._waiting) >= self._capacity:
            raise OverloadedError
        self._waiting.append(item)
        if not self._woken and len(self._running) < self._in_flight:
            self._woken = True
            asyncio.get_running_loop().call_soon(self._start)

    def take_back(self, most: int) -> list[Item]:
        """Those who came last and still wait, so many at most: they are served no more."""
        return [self._waiting.pop() for _ in range(min(most, len(self._waiting)))]

    async def drain(self) -> None:
        """Wait until everything queued has been served."""
        while self._waiting or self._running:
            await asyncio.sleep(0)
            if self._running:
                await asyncio.wait(self._running)

    def _start(self) -> None:
        self._woken = False
        if self._waiting and len(self._running) < self._in_flight:
            self._running.add(asyncio.create_task(self._work()))

    async def _work(self) -> None:
        """Serve until nothing waits. It leaves its place in that very moment, or what comes next would wait forever."""
        task = asyncio.current_task()
        assert task is not None
        try:
            while self._waiting:
                count = min(self._limit, len(self._waiting))
                self._serving += count
                try:
                    await self._serve([self._waiting.popleft() for _ in range(count)])
                finally:
                    self._serving -= count
        finally:
            self._running.discard(task)


class Batcher(Generic[Key, Answer]):
    """Asks for many keys at once: `fetch(keys)` returns an answer for each, in their order.

    Single-flight: those who ask for a key that is waiting or being fetched share one answer.
    """

    def __init__(
        self,
        fetch: Callable[[Sequence[Key]], Awaitable[Sequence[Answer]]],
        *,
        limit: int = 256,
        in_flight: int = 2,
        capacity: int = 16_384,
    ) -> None:
        self._fetch = fetch
        self._asked: dict[Key, list[asyncio.Future[Answer]]] = {}
        self._loop: GroupLoop[Key] = GroupLoop(self._serve, limit=limit, in_flight=in_flight, capacity=capacity)

    def ask(self, key: Key) -> asyncio.Future[Answer]:
        """The answer for `key`, or what `fetch` raised. Raises `OverloadedError` at once."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        sharers = self._asked.get(key)
        if sharers is None:
            self._loop.put(key)
            self._asked[key] = [future]
        else:
            sharers.append(future)
        return future

    async def _serve(self, keys: list[Key]) -> None:
        try:
            answers = await self._fetch(keys)
        except Exception as error:
            for key in keys:
                for future in self._asked.pop(key):
                    if not future.done():
                        future.set_exception(error)
        else:
            for key, answer in zip(keys, answers, strict=True):
                for future in self._asked.pop(key):
                    if not future.done():
                        future.set_result(answer)

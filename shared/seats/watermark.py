"""The watermark: written every second, it tells an emptied, restarted or set-back Redis.

Each server that holds keys has one: in a Cluster each primary. Its history is unbroken while the same server run holds
a mark that is a few seconds old at most and no older than the one this process saw last. A broken history means that
pushes may be lost: the epoch is raised in Postgres, and all that was written under older ones counts as missing, on
every server.

A replica that was made a primary is another run, so what it may lack counts as lost. So does all that was written
before a standby of Postgres was made the primary, which may lack what Redis reflects. A server that refuses the mark,
because it is cut off from its replicas or is no primary any more, may be behind another without knowing: until it takes
a mark again, nothing is taken from it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import NamedTuple

import structlog

from shared.seats.connection import AWAY, RedisConnection
from shared.seats.node import Node
from shared.seats.scripts import DIGESTS

_log = structlog.get_logger()

Mark = tuple[Node, bytes]
"""A server and the key of its watermark."""

MAX_AGE_S = 5

LOST, MOVED = 0, 1


class _Pulse(NamedTuple):
    now_us: int
    timeline: str


class Watermark:
    """Keeps the mark of each server. `raise_epoch(seen)` raises the epoch in Postgres, once however many ask."""

    def __init__(self, connection: RedisConnection, raise_epoch: Callable[[int], Awaitable[None]]) -> None:
        self._connection = connection
        self._raise_epoch = raise_epoch
        self._last_us: dict[bytes, int] = {}

    async def keep(self, *, now: datetime, epoch: Callable[[], int], timeline: str = "") -> None:
        """Check the marks and move them to `now`; where the history of one is broken, begin a new one for all.

        `timeline` is that of Postgres: what Redis reflects of another one may be lost there.
        """
        await self._connection.learn()
        seen, pulse = epoch(), _Pulse(int(now.timestamp() * 1_000_000), timeline)
        found = await self._write_all(self._connection.marks, pulse, seen, begin=False)
        if lost := [mark for mark, answer in found if answer == LOST]:
            _log.info("projection.begins_anew", after_epoch=seen)
            await self._raise_epoch(seen)
            await self._write_all(lost, pulse, epoch(), begin=True)

    async def _write_all(
        self, marks: Sequence[Mark], pulse: _Pulse, epoch: int, *, begin: bool
    ) -> list[tuple[Mark, object]]:
        """What the script answered for each."""
        answers = await asyncio.gather(*(self._write(*mark, pulse, epoch, begin=begin) for mark in marks))
        return list(zip(marks, answers, strict=True))

    async def _write(self, node: Node, key: bytes, pulse: _Pulse, epoch: int, *, begin: bool) -> object:
        (info,) = await node.send([lambda way: way.info("server")], now=True)
        if info is AWAY:
            return AWAY
        history, last_us = f"{info['run_id']}t{pulse.timeline}", self._last_us.get(key, 0)
        arguments: list[str | int] = [epoch, history, pulse.now_us, MAX_AGE_S * 1_000_000, last_us, int(begin)]
        (answer,) = await node.send([lambda way: way.evalsha(DIGESTS["watermark"], 1, key, *arguments)], now=True)
        if answer is not AWAY:
            self._last_us[key] = pulse.now_us if answer == MOVED else 0
            node.shunned = False
        elif node.refusing:
            node.shunned = True
        return answer

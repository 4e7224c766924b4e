"""Errors that tell of a server in trouble are not taken for faults of what was asked."""

from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis

from shared.ledger.connections import LOST
from shared.seats.node import AWAY, Node


@pytest.mark.parametrize(
    "error", [asyncpg.DiskFullError, asyncpg.exceptions.OutOfMemoryError, asyncpg.TooManyConnectionsError]
)
def test_postgres_short_of_something_is_away(error: type[Exception]) -> None:
    assert issubclass(error, LOST)


async def test_a_redis_connection_that_was_reset_before_it_is_written_to_is_away() -> None:
    async def written_to_when_closed(way: Redis) -> Any:
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")

    node = Node(Redis(port=1))

    assert await node.send([written_to_when_closed]) == [AWAY]
    assert node.resting
    assert not node.reachable

"""A connection to RabbitMQ, and calls over it that always end.

- Connections are plain ones. The driver's self-mending kind leaves every channel failing while one queue cannot be
  restored, so whoever holds a connection here gives it up at the first trouble and makes another.
- Whatever the driver raises, and a cancellation that nobody asked for (it cancels those who wait on a lost
  connection), becomes a `BrokerError`.
- Publishing and consuming never share a connection: a broker short of memory stops reading from those that publish.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

HEARTBEAT_S = 10
CALL_S = 5.0
CLOSE_S = 1.0


class BrokerError(Exception):
    """RabbitMQ could not be asked, did not answer in time, or refused. What was asked for may have happened."""


@asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """Calls of the driver that have to end within so many seconds. Raises `BrokerError`."""
    task = asyncio.current_task()
    assert task is not None
    cancelled_before = task.cancelling()
    try:
        async with asyncio.timeout(seconds):
            yield
    except asyncio.CancelledError as error:
        if task.cancelling() > cancelled_before:
            raise
        raise BrokerError("the connection was lost") from error
    except TimeoutError as error:
        raise BrokerError(f"no answer within {seconds:g} s") from error
    except CONNECTION_EXCEPTIONS as error:
        raise BrokerError(f"{type(error).__name__}: {error}") from error


async def connect(url: str, *, name: str, timeout_s: float = CALL_S) -> AbstractConnection:
    """Connect; `name` is shown in the broker's own lists. Raises `BrokerError`."""
    async with within(timeout_s):
        return await aio_pika.connect(url, heartbeat=HEARTBEAT_S, client_properties={"connection_name": name})


async def close(connection: AbstractConnection) -> None:
    """Give a connection up, whatever state it is in."""
    with suppress(BrokerError):
        async with within(CLOSE_S):
            await connection.close()


@asynccontextmanager
async def open_channel(url: str, *, name: str) -> AsyncIterator[AbstractChannel]:
    """A connection for one errand and its channel, which confirms what it takes and raises what it returns."""
    connection = await connect(url, name=name)
    try:
        async with within(CALL_S):
            channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        yield channel
    finally:
        await close(connection)

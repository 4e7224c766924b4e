"""Calls over a connection: they always end, and tell a lost connection from being cancelled."""

import asyncio

import pytest
from aio_pika.exceptions import AMQPConnectionError

from shared.facts.connection import BrokerError, within


async def test_a_call_that_is_not_answered_ends() -> None:
    with pytest.raises(BrokerError, match=r"^no answer within 0\.01 s$"):
        async with within(0.01):
            await asyncio.Event().wait()


async def test_what_the_driver_raises_is_the_brokers_trouble() -> None:
    with pytest.raises(BrokerError, match=r"^AMQPConnectionError: gone$") as caught:
        async with within(1):
            raise AMQPConnectionError("gone")
    assert isinstance(caught.value.__cause__, AMQPConnectionError)


async def test_a_cancellation_that_nobody_asked_for_is_the_brokers_trouble() -> None:
    """The driver hands it to those who wait on a connection that it gives up."""
    waiting = asyncio.get_running_loop().create_future()
    waiting.set_exception(asyncio.CancelledError)
    with pytest.raises(BrokerError, match=r"^the connection was lost$"):
        async with within(1):
            await waiting


async def test_a_task_that_is_cancelled_is_cancelled() -> None:
    entered = asyncio.Event()

    async def call() -> None:
        async with within(10):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(call())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_outer_of_two_deadlines_ends_both() -> None:
    with pytest.raises(BrokerError, match=r"^no answer within 0\.01 s$"):
        async with within(0.01), within(10):
            await asyncio.Event().wait()


async def test_a_fault_in_the_code_is_not_blamed_on_the_broker() -> None:
    with pytest.raises(ZeroDivisionError):
        async with within(1):
            1 / 0  # noqa: B018

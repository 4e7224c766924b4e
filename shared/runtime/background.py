"""Work beside the requests: started with its surroundings, told to stop, and waited for.

It is never cancelled, so no transaction is cut off half-way and no cancellation can get lost in a driver.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

Work = Callable[[asyncio.Event], Awaitable[None]]
"""Runs until the event is set, and then returns soon."""


@asynccontextmanager
async def background(work: Work) -> AsyncIterator[None]:
    """Run `work(stop)` while the body runs."""
    stop = asyncio.Event()
    task = asyncio.ensure_future(work(stop))
    try:
        yield
    finally:
        stop.set()
        await task


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait so long, or until told to stop."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()

"""The same client for programs without an event loop: it has one of its own, in a thread of its own.

Rules: every member may be used from any thread; callbacks run in the client's thread. Closing it frees the threads that
wait for it. A program that ends without closing it is no matter: it is closed at exit, before the interpreter takes the
threads away. A fork does not take it along: it may read there what was known, and open one of its own.
"""

import asyncio
import atexit
import concurrent.futures.thread  # its own end has to be registered before ours, to come after it
import os
import threading
from collections.abc import Callable, Coroutine, Mapping
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from seatkeeper.callbacks import OnChange
from seatkeeper.client import Client
from seatkeeper.lease import Lease
from seatkeeper.offline import Offline
from seatkeeper.state import State

_P = ParamSpec("_P")
_T = TypeVar("_T")

_open: "set[SyncClient]" = set()


def _taking(_arguments: Callable[_P, Client]) -> Callable[[Callable[..., None]], Callable[Concatenate[Any, _P], None]]:
    """The arguments of another, for those who check types."""
    return lambda function: function


class SyncClient:
    """Takes what `seatkeeper.Client` takes, and blocks where that awaits: `with SyncClient(…) as license:`."""

    @_taking(Client)
    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._client = Client(*arguments, **options)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closing = threading.Lock()

    def open(self) -> Self:
        """Activate and keep the seat; raises as opening a `Client` does."""
        if self._loop is not None:
            raise RuntimeError("this client is open already")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=_serve, args=(self._loop,), name="seatkeeper", daemon=True)
        self._thread.start()
        try:
            self._run(self._client.__aenter__())
        except BaseException:
            self._stop()
            raise
        _open.add(self)
        return self

    def close(self) -> None:
        """Stop; gives the seat back if it is to be at exit. Repeating it does nothing."""
        with self._closing:
            if self._loop is None:
                return
            _open.discard(self)
            try:
                self._run(self._client.__aexit__(None, None, None))
            finally:
                self._stop()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def state(self) -> State:
        return self._client.state

    @property
    def lease(self) -> Lease | None:
        return self._client.lease

    @property
    def entitlements(self) -> Mapping[str, int | None]:
        return self._client.entitlements

    @property
    def device_id(self) -> str | None:
        return self._client.device_id

    @property
    def generation(self) -> int:
        return self._client.generation

    @property
    def offline(self) -> Offline:
        return self._client.offline

    def require(self, feature: str) -> int | None:
        """The feature's limit, or None where it has none. Raises `EntitlementMissing`."""
        return self._client.require(feature)

    def on_change(self, callback: OnChange) -> Callable[[], None]:
        """As `Client.on_change`; the callback runs in the client's thread."""
        return self._client.on_change(callback)

    def activate(self) -> State:
        return self._run(self._client.activate())

    def heartbeat(self) -> State:
        return self._run(self._client.heartbeat())

    def release(self) -> State:
        return self._run(self._client.release())

    def _run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        if self._loop is None:
            coroutine.close()
            raise RuntimeError("this client is not open")
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("a callback of on_change must not wait for the client: hand it to another thread")
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()
        except concurrent.futures.CancelledError:
            raise RuntimeError("this client was closed meanwhile") from None

    def _stop(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()

    def _forget(self) -> None:
        """In a fork: its thread is not there."""
        self._loop = None
        self._closing = threading.Lock()


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.run_until_complete(_end_all())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


async def _end_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _close_all() -> None:
    for client in list(_open):
        client.close()


def _forget_all() -> None:
    for client in _open:
        client._forget()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
# Name resolution needs a thread, and none starts any more when the functions of `atexit` run.
getattr(threading, "_register_atexit", atexit.register)(_close_all)

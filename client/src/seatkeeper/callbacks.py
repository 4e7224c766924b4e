"""Telling the application of changes. A callback that raises is logged, and stops nobody, nor does one that exits."""

import logging
from collections.abc import Callable

from seatkeeper.state import State

OnChange = Callable[[State, State], object]
"""Called with the old and the new state, where name or reason are others."""

_log = logging.getLogger("seatkeeper")


class Callbacks:
    def __init__(self, state: State) -> None:
        self._callbacks: dict[object, OnChange] = {}
        self.told = state

    def add(self, callback: OnChange) -> Callable[[], None]:
        """The answer unsubscribes it; repeating that does nothing."""
        subscription = object()
        self._callbacks[subscription] = callback

        def unsubscribe() -> None:
            self._callbacks.pop(subscription, None)

        return unsubscribe

    def tell(self, new: State) -> None:
        old, self.told = self.told, new
        if (old.name, old.reason) == (new.name, new.reason):
            return
        for callback in list(self._callbacks.values()):
            try:
                callback(old, new)
            except (Exception, SystemExit):
                _log.exception("a callback for changes of the license's state failed")

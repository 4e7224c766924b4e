"""How facts travel. Receivers get each at least once, in no promised order across licenses.

`InProcess` is the standalone's transport: the same outbox and relay, and the receivers called in this process.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from shared.licensing.facts import Fact, decode

Receive = Callable[[Sequence[Fact]], Awaitable[None]]


class Transport(Protocol):
    async def publish(self, facts: Sequence[str]) -> None:
        """Hand over encoded facts; returns once they are safe, and raises when they may not be."""


class InProcess:
    """Calls every receiver with every fact; one that fails makes the relay hand the facts over again."""

    def __init__(self, receivers: Sequence[Receive]) -> None:
        self._receivers = receivers

    async def publish(self, facts: Sequence[str]) -> None:
        decoded = [decode(fact) for fact in facts]
        for receive in self._receivers:
            await receive(decoded)

"""One message's way through a handler: what is done with it, and when it is tried again.

- The handler gets all readable facts of a message. If it fails and they are of several licenses, it gets those of
  each license alone: a fact that cannot be handled holds up its own license's alone. What was handled is not handed
  over again.
- What is left is tried again after a delay that grows from failure to failure, while other messages are handled.
  After the fifth try the message is dead. Deliveries that the broker counts as failed were tries.
- An error that says that something the handler needs is away is no try, for every message would fail now; but if
  others succeeded meanwhile, it was this message after all.
- A message with facts that cannot be read is dead when its others are done.
"""

import random
from collections.abc import Sequence
from enum import Enum, auto
from uuid import UUID

import msgspec
from aio_pika.abc import AbstractIncomingMessage

from shared.facts.codec import unpack
from shared.facts.transport import Receive
from shared.licensing.facts import Fact

AWAY: tuple[type[Exception], ...] = (OSError, TimeoutError)


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How often a message is tried, and how soon again after a failure."""

    tries: int = 5
    first_s: float = 0.2
    longest_s: float = 5.0
    longest_away_s: float = 1.0

    def delay_s(self, failures: int, *, away: bool) -> float:
        grown = self.first_s * 4.0 ** min(failures - 1, 20)
        longest_s = self.longest_away_s if away else self.longest_s
        return min(longest_s, grown) * random.uniform(0.8, 1.2)  # noqa: S311 - jitter


class Outcome(Enum):
    DONE = auto()
    LATER = auto()
    DEAD = auto()


class Held:
    """A message in hand: its facts that are still to be handled, and when to try them again."""

    def __init__(self, message: AbstractIncomingMessage) -> None:
        self.message = message
        self.left, self.unreadable = unpack(message.body)
        self.tries = int(str(message.headers.get("x-delivery-count") or 0))
        self.failures = 0
        self.error: Exception | None = None
        self.excused = False
        self.retry_in_s = 0.0
        self.due = 0.0
        self.successes: int | None = None
        """How often the handler had succeeded when this message failed."""


class Handling:
    """Applies the rules above to one handler; one message at a time."""

    def __init__(self, handle: Receive, *, away: tuple[type[Exception], ...], pace: Pace) -> None:
        self._handle = handle
        self._away = away
        self._pace = pace
        self._successes = 0

    async def attempt(self, held: Held) -> Outcome:
        """Handle what is left; after LATER, again `retry_in_s` from now."""
        held.error = await self._handle_left(held) if held.left else None
        if held.error is None:
            return Outcome.DEAD if held.unreadable else Outcome.DONE
        held.failures += 1
        held.excused = self._excused(held)
        held.tries += not held.excused
        held.successes = self._successes
        held.retry_in_s = self._pace.delay_s(held.failures, away=held.excused)
        return Outcome.LATER if held.excused or held.tries < self._pace.tries else Outcome.DEAD

    def _excused(self, held: Held) -> bool:
        others_succeeded = held.successes is not None and self._successes > held.successes
        return isinstance(held.error, self._away) and not others_succeeded

    async def _handle_left(self, held: Held) -> Exception | None:
        error = await self._call(held.left)
        licenses = _by_license(held.left)
        if error is None:
            held.left = []
        elif len(licenses) > 1 and not isinstance(error, self._away):
            return await self._handle_apart(held, licenses)
        return error

    async def _handle_apart(self, held: Held, licenses: Sequence[list[Fact]]) -> Exception | None:
        error, held.left = None, []
        for facts in licenses:
            if (failed := await self._call(facts)) is not None:
                error = failed
                held.left += facts
        return error

    async def _call(self, facts: Sequence[Fact]) -> Exception | None:
        try:
            await self._handle(facts)
        except Exception as error:
            return error
        self._successes += 1
        return None


def _by_license(facts: Sequence[Fact]) -> list[list[Fact]]:
    found: dict[tuple[UUID, UUID], list[Fact]] = {}
    for fact in facts:
        found.setdefault((fact.account_id, fact.license_id), []).append(fact)
    return list(found.values())

"""Named places in a service at which it dies when told to, and what may happen to facts on their way to it.

The product has no line for this: functions are wrapped by name, and a name that is gone ends the process at its
start. What is wanted stands in a file, looked at whenever a place is passed, so that it takes effect at the next one.
"""

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable
from functools import wraps
from pathlib import Path
from typing import Any

WANTED = "FAULTS_WANTED"
"""The variable that names the file."""

AFTER_LOCK = "after lock"
BEFORE_COMMIT = "before COMMIT"
AFTER_COMMIT = "after COMMIT before the answer"
AFTER_PUSH = "after push before the answer"
BEFORE_PUBLISH = "before publish"
AFTER_PUBLISH = "after publish before the mark"
BEFORE_ACK = "after the effect before the ack"
BEFORE_EXPIRE = "between hint and expire"
AFTER_EPOCH = "after the epoch was raised"

POINTS: dict[str, tuple[str, ...]] = {
    AFTER_LOCK: ("activation", "heartbeat"),
    BEFORE_COMMIT: ("activation", "heartbeat"),
    AFTER_COMMIT: ("activation", "heartbeat"),
    AFTER_PUSH: ("activation", "heartbeat"),
    BEFORE_PUBLISH: ("activation", "heartbeat", "reaper"),
    AFTER_PUBLISH: ("activation", "heartbeat", "reaper"),
    BEFORE_ACK: ("heartbeat",),
    BEFORE_EXPIRE: ("reaper",),
    AFTER_EPOCH: ("activation", "heartbeat", "reaper", "portal"),
}
"""Each place, and the services that pass it."""

PAUSE_BEFORE_EXPIRE = "paused between hint and expire"

DUPLICATED, SHUFFLED, DROPPED = "duplicated", "shuffled", "dropped"
SHARE = 0.3
LONGEST_BACK_S = 0.3


class Wanted:
    """The file. Nothing is wanted where it is not."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def want(self, what: str) -> None:
        fresh = self._path.with_suffix(".new")
        fresh.write_text(what)
        fresh.rename(self._path)

    def forget(self) -> None:
        self._path.unlink(missing_ok=True)

    def read(self) -> str | None:
        try:
            return self._path.read_text()
        except FileNotFoundError:
            return None

    def pass_(self, point: str, signum: int = signal.SIGKILL) -> None:
        """Die here, if that is what is wanted."""
        if self.read() == point:
            self.forget()
            os.kill(os.getpid(), signum)

    def between_hint_and_expire(self, found: object = True) -> None:
        if found:
            self.pass_(BEFORE_EXPIRE)
            self.pass_(PAUSE_BEFORE_EXPIRE, signal.SIGSTOP)


def wrap_all(wanted: Wanted) -> None:
    """Wrap what the service is made of. Raises `AttributeError` where something is gone."""
    from services.reaper import floating, sweep
    from shared.facts.amqp import Publisher
    from shared.facts.subscription import Subscription
    from shared.ledger import transaction
    from shared.ledger.clock import Clock
    from shared.seats.projection import Projection

    at = wanted.pass_
    _wrap(transaction, "_lock", after=lambda _: at(AFTER_LOCK))
    _wrap(transaction, "_end", before=lambda _, verb: verb == "COMMIT" and at(BEFORE_COMMIT))
    _wrap(transaction, "_end", after_call=lambda _, verb: verb == "COMMIT" and at(AFTER_COMMIT))
    _wrap(Projection, "push", after=lambda _: at(AFTER_PUSH))
    _wrap(Publisher, "publish", before=lambda *_: at(BEFORE_PUBLISH), after=lambda _: at(AFTER_PUBLISH))
    _wrap(sweep, "candidates", after=lambda page: wanted.between_hint_and_expire(page.found))
    _wrap(floating.FloatingLeases, "_free", before=lambda *_: wanted.between_hint_and_expire())
    _wrap(Clock, "raise_epoch", after=lambda _: at(AFTER_EPOCH))
    _wrap(Subscription, "ack", before=lambda *_: at(BEFORE_ACK))
    _disturb(Subscription, wanted, random.Random())


def _wrap(
    owner: Any,
    name: str,
    *,
    before: Callable[..., object] = lambda *_, **__: None,
    after: Callable[[Any], object] = lambda _: None,
    after_call: Callable[..., object] = lambda *_, **__: None,
) -> None:
    original: Callable[..., Awaitable[Any]] = getattr(owner, name)
    if not asyncio.iscoroutinefunction(original):
        raise AttributeError(f"{owner!r}.{name} is no coroutine function any more")

    @wraps(original)
    async def wrapped(*arguments: Any, **options: Any) -> Any:
        before(*arguments)
        result = await original(*arguments, **options)
        after(result)
        after_call(*arguments)
        return result

    setattr(owner, name, wrapped)


def _disturb(subscription: Any, wanted: Wanted, chance: random.Random) -> None:
    """Have messages come twice, out of order or not at all, for as long as that is wanted."""
    arrive, ack = subscription._arrive, subscription.ack

    async def disturbed_arrive(self: Any, message: Any) -> None:
        wish = wanted.read()
        if wish == DROPPED and chance.random() < SHARE:
            await message.ack()  # the broker believes that it was taken
        elif wish == SHUFFLED:
            await asyncio.sleep(chance.uniform(0, LONGEST_BACK_S))
            await arrive(self, message)
            arrived = self.arrived
            arrived.insert(chance.randrange(len(arrived) + 1), arrived.pop()) if arrived else None
        else:
            await arrive(self, message)

    async def disturbed_ack(self: Any, message: Any) -> None:
        again = wanted.read() == DUPLICATED and not message.redelivered and chance.random() < SHARE
        await (self.give_back(message) if again else ack(self, message))

    subscription._arrive, subscription.ack = disturbed_arrive, disturbed_ack

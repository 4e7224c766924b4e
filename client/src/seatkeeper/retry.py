"""When to try again, how soon, and when to give up.

Rules:
- Full jitter: the pause before try n is random between nothing and min(cap, base * 2^n) (M. Brooker, "Exponential
  Backoff And Jitter", AWS Architecture Blog, 2015). What `Retry-After` asks for comes on top: the jitter spreads those
  who were told the same. No pause takes more than half of the time that is left for the call.
- A budget, so that a fleet of clients never makes a storm of an outage: a retry costs one, a call earns a tenth, half a
  minute earns one, and ten are the reserve.
- A refusal is tried again only where the server calls it retryable. A certificate that does not hold is no bad luck.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from seatkeeper.clock import Clock
from seatkeeper.errors import Refused, TransportError, Unreachable
from seatkeeper.texts import Sentence

BASE_S = 0.5
CAP_S = 20.0
SHORTEST_S = 0.5

Failure = Refused | TransportError
_T = TypeVar("_T")


class Budget:
    """Retries that may be made. The clock is handed in, monotonic."""

    def __init__(self, *, reserve: float = 10.0, per_call: float = 0.1, every_s: float = 30.0) -> None:
        self._reserve = reserve
        self._per_call = per_call
        self._every_s = every_s
        self._left = reserve
        self._at_s: float | None = None

    def called(self, now_s: float) -> None:
        """A call begins: it earns its part."""
        self._earn(now_s, self._per_call)

    def take(self, now_s: float) -> bool:
        """Whether one more retry may be made; if so, it is paid."""
        self._earn(now_s, 0.0)
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def _earn(self, now_s: float, earned: float) -> None:
        if self._at_s is not None:
            earned += max(0.0, now_s - self._at_s) / self._every_s
        self._at_s = now_s
        self._left = min(self._reserve, self._left + earned)


def pause_s(failures: int, random: float, *, base_s: float = BASE_S, cap_s: float = CAP_S) -> float:
    """Seconds before the next try after so many failures; `random` lies in [0, 1)."""
    doublings = min(failures - 1, 30)
    return random * min(cap_s, base_s * 2.0**doublings)


def may_repeat(failure: Failure) -> bool:
    """Whether the same bytes may fare better later. A skewed timestamp needs other bytes."""
    if isinstance(failure, TransportError):
        return failure.kind != "tls"
    return failure.retryable and failure.code != "TIMESTAMP_SKEWED"


async def repeated(
    once: Callable[[float], Awaitable[_T]],
    *,
    clock: Clock,
    random: Callable[[], float],
    budget: Budget,
    deadline_s: float,
    attempts: int | None = None,
) -> _T:
    """Try until an answer comes. `once` is told how many seconds are left.

    Raises the `Refused` that is final, and `Unreachable` where tries, budget or time are used up.
    """
    end_s = clock.monotonic_s() + deadline_s
    budget.called(clock.monotonic_s())
    made = 0
    while True:
        made += 1
        try:
            return await once(end_s - clock.monotonic_s())
        except (Refused, TransportError) as error:
            if isinstance(error, Refused) and not may_repeat(error):
                raise
            now_s = clock.monotonic_s()
            asked_s = getattr(error, "retry_after_s", None) or 0.0
            left_s = end_s - now_s - asked_s
            wait_s = asked_s + min(pause_s(made, random()), left_s / 2)
            is_last = made == attempts or left_s < SHORTEST_S or not may_repeat(error)
            if is_last or not budget.take(now_s):
                raise Unreachable(_unreachable(error), attempts=made) from error
        await clock.sleep(wait_s)


def _unreachable(last: Failure) -> Sentence:
    key = "error.unreachable.busy" if isinstance(last, Refused) else "error.unreachable"
    return Sentence(key, why=last.args[0])

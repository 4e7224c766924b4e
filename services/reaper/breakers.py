"""When the reaper halts itself: judgements of figures that were gathered elsewhere.

All of them guard leases of a day or more; shorter ones are too short to wait for somebody to look. A breaker that an
operator has reset does not trip again for a day in the same scope.
"""

from datetime import datetime, timedelta

import msgspec

from shared.ledger.halts import Cause, Standing

STEP_S = 60
"""A clock that moved so much more or less than time passed was set."""

NORMAL_CONTACTS = 1000
"""An hour that had fewer contacts a week before says nothing."""

MANY_DEVICES = 100
MANY_SHARE = 0.2

QUIET = timedelta(hours=24)


class Trip(msgspec.Struct, frozen=True, kw_only=True):
    """Why to halt, and the figures in one line."""

    cause: Cause
    detail: str


def clock_stepped(*, moved_s: float, at_least_s: float, at_most_s: float) -> Trip | None:
    """The database's clock `moved_s` between two readings; meanwhile at least and at most so much time passed."""
    if moved_s > at_most_s + STEP_S:
        off_s, way = moved_s - at_most_s, "forward"
    elif moved_s < at_least_s - STEP_S:
        off_s, way = at_least_s - moved_s, "back"
    else:
        return None
    return Trip(cause=Cause.CLOCK_STEPPED, detail=f"the database's clock stepped {way} by {off_s:.0f} s")


def contacts_fell(*, contacts: int, week_before: int) -> Trip | None:
    """Contacts of the last full hour, and of the same hour a week before."""
    if week_before < NORMAL_CONTACTS or contacts * 2 >= week_before:
        return None
    return Trip(
        cause=Cause.CONTACTS_FELL,
        detail=f"{contacts} contacts in the last full hour, {week_before} in the same hour a week before",
    )


def too_many(*, due: int, active: int) -> Trip | None:
    """What one pass would free of an account's active devices."""
    if due <= MANY_DEVICES or due <= active * MANY_SHARE:
        return None
    share = f" ({due / active:.0%})" if active else ""
    return Trip(cause=Cause.TOO_MANY, detail=f"a pass would free {due} of {active} active devices{share}")


def is_quiet(cause: Cause, standing: Standing, now: datetime) -> bool:
    """Whether this breaker was reset within the last day; a clock that was set right since makes no difference."""
    return (
        standing.resumed_at is not None and standing.resumed_cause is cause and abs(now - standing.resumed_at) < QUIET
    )

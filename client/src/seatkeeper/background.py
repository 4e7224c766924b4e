"""What goes on while an application runs: time passes, heartbeats go out, files come and go.

Rules: it wakes at least each half minute, for a machine may have slept meanwhile. Nothing that goes wrong ends it: the
next pass comes.
"""

import logging

from seatkeeper.errors import NotGenuine, Refused, Unreachable
from seatkeeper.keeper import Keeper

TICK_S = 30.0
PERSIST_S = 600.0
JUST_AFTER_S = 0.1
_log = logging.getLogger("seatkeeper")


async def run(keeper: Keeper) -> None:
    """Until it is cancelled."""
    while True:
        await keeper.schedule.rest(min(TICK_S, keeper.next_end_in_s + JUST_AFTER_S))
        try:
            await _pass(keeper)
        except Exception:
            _log.exception("a pass of the license's background failed; the next one comes")
            keeper.schedule.answered()


async def _pass(keeper: Keeper) -> None:
    keeper.look_at_file()
    keeper.tell()
    if keeper.seat.time.monotonic_s() - keeper.seat.written_at_s >= PERSIST_S:
        await keeper.note_time()
    if keeper.schedule.take_due():
        await _contact(keeper)


async def _contact(keeper: Keeper) -> None:
    try:
        await keeper.contact()
    except Refused as refused:
        _log.warning("the license server refuses: %s (%s)", refused.code, refused)
    except (Unreachable, NotGenuine):
        pass  # it is noted already

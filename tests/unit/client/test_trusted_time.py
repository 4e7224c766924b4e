"""The time that leases are judged by: not to be set back, and not to be lost by a clock that is wrong."""

from seatkeeper.trusted_time import FROZEN_S, TOLERANCE_S, TrustedTime
from tests.unit.client.played import PlayedClock

DAY = 86_400.0
START_S = PlayedClock().wall_s()


async def test_setting_the_clock_back_sets_back_nothing_and_is_noticed() -> None:
    clock = PlayedClock()
    time = TrustedTime(clock)
    assert time.wall_s() == START_S
    clock.set_wall(START_S - TOLERANCE_S + 1)
    assert (time.wall_s(), time.fault()) == (START_S, None)
    clock.set_wall(START_S - 30 * DAY)
    await clock.sleep(DAY)
    assert (time.wall_s(), time.fault()) == (START_S + DAY, "CLOCK_SET_BACK")
    clock.set_wall(START_S + 2 * DAY)
    assert (time.wall_s(), time.fault()) == (START_S + 2 * DAY, None)


async def test_what_was_seen_in_an_earlier_run_is_the_least() -> None:
    clock = PlayedClock()
    time = TrustedTime(clock)
    time.resume(seen_s=START_S + DAY, ahead_s=0)
    await clock.sleep(10)
    assert (time.wall_s(), time.fault()) == (START_S + DAY + 10, "CLOCK_SET_BACK")


async def test_a_signed_time_raises_it_and_an_old_one_does_not_lower_it() -> None:
    time = TrustedTime(PlayedClock())
    time.saw(START_S + 100)
    time.saw(START_S - 100)
    assert time.wall_s() == START_S + 100


async def test_the_servers_word_rights_a_clock_that_is_ahead_here_and_after_a_restart() -> None:
    clock = PlayedClock(START_S + 365 * DAY)
    time = TrustedTime(clock)
    assert time.wall_s() == START_S + 365 * DAY
    time.anchor(START_S)
    await clock.sleep(DAY)
    assert (time.wall_s(), time.fault()) == (START_S + DAY, None)

    again = TrustedTime(clock)
    again.resume(seen_s=time.wall_s(), ahead_s=time.ahead_s)
    await clock.sleep(DAY)
    assert (again.wall_s(), again.fault()) == (START_S + 2 * DAY, None)

    clock.set_wall(START_S + 2 * DAY)  # somebody set it right
    assert again.wall_s() == START_S + 2 * DAY
    again.anchor(START_S + 2 * DAY)
    assert (again.ahead_s, again.fault()) == (0, None)


async def test_a_clock_that_stands_still_is_noticed_and_gains_nothing() -> None:
    clock = PlayedClock()
    time = TrustedTime(clock)
    clock.wall_rate = 0
    await clock.sleep(FROZEN_S - 1)
    assert time.fault() is None
    await clock.sleep(2)
    assert time.fault() == "CLOCK_FROZEN"
    await clock.sleep(DAY)
    assert time.wall_s() == START_S + DAY + FROZEN_S + 1
    clock.wall_rate = 1
    clock.set_wall(START_S + 2 * DAY)
    assert time.fault() is None

"""I1 from the history alone: seats that must have been held at one instant were never more than were allowed.

Nothing of the system's own is looked at. A seat was surely held from the moment that a yes was received until the end
that was quoted with it, or until somebody sent what might end it; where such a call was on its way already, for no
time at all. The allowance is the highest that anybody may have asked for by then.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import accumulate, islice

from tests.faults.answers import SECOND_NS
from tests.faults.calls_made import NEVER, Call, Clocks
from tests.faults.trail import Violation, shown


def oversold(license: str, seats: int, calls: Sequence[Call], clocks: Clocks) -> list[Violation]:
    """`seats` is the limit that the license was granted with; `calls` are in the order in which they began."""
    moments: list[tuple[int, int, Call]] = []
    for held_from, held_until, call in _held(calls, clocks):
        moments += [(held_from, 1, call), (held_until, -1, call)]
    limits = [(call.began, call.limit or 0) for call in calls if call.verb == "resize"]
    began = [at for at, _ in limits]
    highest = list(accumulate((limit for _, limit in limits), max, initial=seats))
    held: dict[str, Call] = {}
    for at, step, call in sorted(moments, key=lambda moment: moment[:2]):
        if step < 0:
            held.pop(call.device, None)
            continue
        held[call.device] = call
        allowed = highest[bisect_right(began, at)]
        if len(held) > allowed:
            what = f"{len(held)} devices held a seat at one instant, and {allowed} were allowed"
            return [Violation("I1", license, what, [shown(one) for one in held.values()], at)]
    return []


def _held(calls: Sequence[Call], clocks: Clocks) -> Iterator[tuple[int, int, Call]]:
    """Times for which a seat was surely held, those of one device apart from each other."""
    by_device: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        if not call.foreign:
            by_device[call.device].append(call)
    for own in by_device.values():
        enders = Enders([call for call in own if call.may_end_seat])
        last = 0
        for call in sorted((call for call in own if _tells(call)), key=lambda call: call.ended):
            begins = max(call.ended, last)
            until = clocks.of_wall((call.until or 0) * SECOND_NS) - clocks.slack_ns
            ends = min(until, enders.first_after(call))
            if ends > begins:
                yield begins, ends, call
                last = ends


def _tells(call: Call) -> bool:
    return call.seated and call.until is not None


class Enders:
    """Calls that may have ended one device's seat, in the order in which they began."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self._unknown = [call for call in calls if call.ended == NEVER]
        self._known = [call for call in calls if call.ended != NEVER]
        self._latest = list(accumulate((call.ended for call in self._known), max))

    def first_after(self, call: Call) -> int:
        """When the seat may have ended at the earliest, by a call that was sent later or was on its way."""
        return min(self._first(call, self._unknown, None), self._first(call, self._known, self._latest))

    def _first(self, call: Call, enders: Sequence[Call], latest: Sequence[int] | None) -> int:
        begin = bisect_left(enders, call.began, key=lambda one: one.began)
        for index in range(begin - 1, -1, -1):
            if latest is not None and latest[index] < call.began:
                break
            if enders[index].ended >= call.began and _means(enders[index], call):
                return call.began
        return next((one.began for one in islice(enders, begin, None) if _means(one, call)), NEVER)


def _means(ender: Call, call: Call) -> bool:
    """An ender of an earlier generation leaves this one alone."""
    return ender.generation is None or ender.generation == call.told_generation

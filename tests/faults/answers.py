"""What clients were answered, held against the trail of the license: I3, I4, I8 and I9.

A decision falls between a call's sending and its answer, so an answer is right if the trail has a moment in between at
which it was. Two answers may be older by design, and are judged accordingly: the yes to a contact under a lease that
Redis answers for (`FLOOR_MIN_LEASE_S` and more), and a no that is given again for a second (`refusals.LIFE_S`).
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from shared.licensing.leases import FLOOR_MIN_LEASE_S
from shared.licensing.model import Kind
from shared.seats.refusals import LIFE_S
from tests.faults.calls_made import NEVER, Call
from tests.faults.trail import SILENCE, Stay, Trail, Violation, shown

SECOND_NS = 1_000_000_000
STALE_NO_NS = int(LIFE_S * SECOND_NS)

NOT_ABOUT_SEATS = frozenset({"TOO_MANY_REQUESTS", "TIMESTAMP_SKEWED"})
KEPT_NOS = frozenset({"heartbeat", "validate"})
"""Calls that may be given a no again that somebody got a moment ago."""
ASKED_FOR = frozenset({"user", "reset", "forced", "admin", "blocked"})


class Answers:
    """One license's calls; `broken` is what they show. `calls` are in the order in which they began."""

    def __init__(self, trail: Trail, calls: Sequence[Call], seen_until: int) -> None:
        self._trail = trail
        self._license = trail.license
        self._slack = trail.clocks.slack_ns
        self._seen_until = seen_until
        self._calls = calls
        self._of_device: dict[str, list[Call]] = defaultdict(list)
        for call in calls:
            if not call.foreign:
                self._of_device[call.device].append(call)
        self.broken: list[Violation] = []
        self._judge()

    def _judge(self) -> None:
        for call in self._calls:
            if call.foreign:
                self._judge_foreign(call)
            elif call.seated:
                self._judge_yes(call)
            elif call.ok and call.may_end_seat:
                self._judge_release(call)
            elif call.outcome == "refused" or (call.verb == "validate" and call.ok):
                self._judge_no(call)
            if call.strange:
                self._break("I8", "a list of devices holds others than the license's own", [call])
        self._judge_operations()
        for device, stays in self._trail.stays.items():
            self._judge_silence(device, stays)
            self._judge_ends(device, stays)
            self._judge_beginnings(device, stays)

    # --- I8 -----------------------------------------------------------------------------------------------------

    def _judge_foreign(self, call: Call) -> None:
        if call.ok:
            self._break("I8", f"{call.verb} of another account's device was granted", [call])
        elif call.outcome == "refused" and (call.told or call.until or call.used is not None):
            self._break("I8", f"the refusal of a foreign {call.verb} tells of another account's device", [call])

    # --- Yes ----------------------------------------------------------------------------------------------------

    def _judge_yes(self, call: Call) -> None:
        if call.told and call.told != call.device:
            return self._break("I8", f"the answer names device {call.told}, which did not ask", [call])
        generation = call.told_generation
        first, last = call.began - self._slack, call.ended + self._slack
        stays = [
            stay
            for stay in self._trail.stays_within(call.device, first, last)
            if generation is None or stay.generation == generation
        ]
        if call.verb == "activate":
            return self._judge_activation(call, stays)
        if stays:
            return None
        if self._license.lease_s < FLOOR_MIN_LEASE_S:
            return self._break(
                "I1", f"{call.verb} was told yes without a seat", [call], self._trail.stays_of(call.device)
            )
        if not self._trail.stays_of(call.device, generation):
            return self._break("I3", f"{call.verb} was told yes for a seat that never was", [call])
        return None

    def _judge_activation(self, call: Call, stays: Sequence[Stay]) -> None:
        if not stays:
            known = self._trail.stays_of(call.device, call.told_generation)
            if call.status == 201 and known and not any(self._is_asked_for(stay) for stay in known):
                what = "the trail has the acknowledged activation at another time than that of the ledger's clock"
                return self._break("I9", what, [call], known)
            what = f"an acknowledged activation of generation {call.told_generation} is not in the trail"
            return self._break("I3", what, [call], self._trail.stays_of(call.device))
        if call.status != 201:
            return None
        taken = [stay for stay in stays if not stay.resumed and stay.began >= call.began - self._slack]
        if not taken:
            self._break("I4", "a seat that was held before was told to be new", [call], stays)
        if not self._license.overage and (call.used or 0) > (call.limit or 0):
            self._break("I1", f"an activation was told to be seat {call.used} of {call.limit}", [call], stays)
        return None

    def _is_asked_for(self, stay: Stay) -> bool:
        """Whether a request for it was under way when the trail has it beginning."""
        return any(
            call.verb == "activate" and call.began - self._slack <= stay.began <= call.ended + self._slack
            for call in self._of_device[stay.device]
        )

    # --- No -----------------------------------------------------------------------------------------------------

    def _judge_no(self, call: Call) -> None:
        if call.code in NOT_ABOUT_SEATS:
            return
        if call.verb in ("activate", *KEPT_NOS):
            self._judge_no_to_device(call)
        elif call.code == "DEVICE_NOT_FOUND" and any(s.began < call.began for s in self._trail.stays_of(call.device)):
            self._break("I3", f"{call.verb} was told that there is no such device", [call])

    def _judge_no_to_device(self, call: Call) -> None:
        stale = STALE_NO_NS if call.verb in KEPT_NOS else 0
        first, last = call.began - stale - self._slack, call.ended + self._slack
        states = self._trail.states_within(first, last)
        if call.code == "LICENSE_SUSPENDED":
            if not any(state.status == "suspended" for state in states):
                self._break("I3", f"{call.verb} was refused for a suspension that there was not", [call])
            return None
        if held := self._held(call, first, last):
            invariant = "I4" if call.code == "REPLAYED" else "I3"
            what = f"{call.verb} was told {call.code} while the device held its seat"
            return self._break(invariant, what, [call], [held])
        if call.code == "REPLAYED" and call.attempt == 0 and not self._repeats(call):
            return self._break("I4", "a request that was sent for the first time was called a repetition", [call])
        if call.code == "DEVICE_LIMIT_EXCEEDED" and not any(state.used >= state.limit for state in states):
            return self._break("I3", f"{call.verb} was refused a seat while one was free", [call])
        if call.code in ("LICENSE_KEY_INVALID", "TOKEN_INVALID", "LICENSE_REVOKED", "LICENSE_EXPIRED"):
            return self._break("I3", f"{call.verb} was told {call.code} with a good key or token", [call])
        return None

    def _held(self, call: Call, first: int, last: int) -> Stay | None:
        """The seat that the device held all the while.

        A no to a generation of its own was never given before that generation began.
        """
        for stay in self._trail.stays_within(call.device, call.began, call.ended):
            if call.generation is not None and stay.generation != call.generation:
                continue
            begins = call.began - self._slack if call.generation is not None and not stay.resumed else first
            if stay.covers(begins, last):
                return stay
        return None

    def _repeats(self, call: Call) -> bool:
        """Whether it is an operation that its client sent again after it was answered."""
        return any(one.op == call.op and one.began < call.began for one in self._of_device[call.device])

    # --- Ends ---------------------------------------------------------------------------------------------------

    def _judge_release(self, call: Call) -> None:
        for stay in self._trail.stays_within(call.device, call.began, call.ended):
            meant = call.generation is None or stay.generation == call.generation
            if meant and stay.covers(call.began - self._slack, call.ended + self._slack):
                self._break("I3", f"an acknowledged {call.verb} is not in the trail", [call], [stay])

    def _judge_ends(self, device: str, stays: Sequence[Stay]) -> None:
        """A seat that somebody gave back was given back by somebody."""
        enders = [call for call in self._of_device[device] if call.may_end_seat]
        for stay in stays:
            if stay.end is not None and stay.end.reason in ASKED_FOR and not self._is_caused(stay, enders):
                self._break(
                    "I3", f"a seat ended as '{stay.end.reason}', and nobody asked for that", [], [stay], stay.ended
                )

    def _is_caused(self, stay: Stay, enders: Sequence[Call]) -> bool:
        sent = bisect_right(enders, stay.ended + self._slack, key=lambda call: call.began)
        return any(
            call.ended + self._slack >= stay.ended
            for call in map(enders.__getitem__, range(sent - 1, -1, -1))
            if call.generation is None or call.generation == stay.generation
        )

    # --- I4 -----------------------------------------------------------------------------------------------------

    def _judge_operations(self) -> None:
        made: dict[tuple[str, int | None], Call] = {}
        by_operation: dict[str, Call] = {}
        for call in self._calls:
            if call.verb != "activate" or not call.seated or call.status != 201:
                continue
            earlier = made.setdefault((call.device, call.told_generation), call)
            if earlier is not call:
                self._break("I4", f"generation {call.told_generation} was told to be new twice", [earlier, call])
            earlier = by_operation.setdefault(call.op, call) if call.nonce else call
            if earlier is not call:
                self._break("I4", "one request was given two seats", [earlier, call])

    def _judge_beginnings(self, device: str, stays: Sequence[Stay]) -> None:
        """Each request took one seat at most: seats are given to those that could have taken them, which end first."""
        waiting = sorted(self._requests(device))
        for stay in stays:
            if stay.resumed:
                continue
            del waiting[: bisect_left(waiting, (stay.began - self._slack, 0))]
            able = next((number for number, one in enumerate(waiting) if one[1] <= stay.began + self._slack), None)
            if able is None:
                what = f"no request is left that could have taken generation {stay.generation}"
                self._break("I4", what, [], [stay], stay.began)
            else:
                del waiting[able]

    def _requests(self, device: str) -> Iterator[tuple[int, int]]:
        """(end, beginning) of each request for a seat: all attempts under one nonce are one."""
        spans: dict[str, tuple[int, int]] = {}
        for call in self._of_device[device]:
            if call.verb != "activate" or call.outcome == "refused":
                continue
            name = call.op if call.nonce else call.id
            ended, began = spans.get(name, (0, call.began))
            spans[name] = max(ended, call.ended), min(began, call.began)
        yield from spans.values()

    # --- I9 -----------------------------------------------------------------------------------------------------

    def _judge_silence(self, device: str, stays: Sequence[Stay]) -> None:
        """No seat ended for silence before the end that was quoted, nor within the lease of a contact."""
        ended = [stay for stay in stays if stay.end is not None and stay.end.reason in SILENCE]
        if not ended:
            return
        contacts = [call for call in self._of_device[device] if call.seated]
        for stay in ended:
            if stay.ended > self._seen_until + self._slack:
                self._break("I9", "a seat ended for silence by a clock that is ahead of the ledger's", [], [stay])
            for call in contacts:
                if self._belongs(call, stay, stays) and (early := self._early(call, stay)):
                    self._break("I9", early, [call], [stay], stay.ended)
                    break

    def _belongs(self, call: Call, stay: Stay, stays: Sequence[Stay]) -> bool:
        """Whether the contact was surely one of this stay's, and not of one before or after."""
        first, last = call.began - self._slack, call.ended + self._slack
        if not stay.overlaps(first, last) or (call.told_generation or stay.generation) != stay.generation:
            return False
        return not any(one is not stay and one.overlaps(first, last) for one in stays)

    def _early(self, call: Call, stay: Stay) -> str:
        if call.until is not None and stay.end is not None and stay.end.at_ns < call.until * SECOND_NS:
            early = call.until * SECOND_NS - stay.end.at_ns
            return f"a seat ended for silence {_seconds(early)} s before the end last quoted"
        lease_ns = self._license.lease_s * SECOND_NS
        committed = self._license.lease_s < FLOOR_MIN_LEASE_S or call.verb == "activate"
        if self._license.kind is Kind.NODE_LOCKED and committed and stay.ended < call.began + lease_ns - self._slack:
            return f"a seat ended for silence {_seconds(stay.ended - call.began)} s after an acknowledged contact"
        return ""

    def _break(self, invariant: str, what: str, calls: Sequence[Call], stays: Sequence[Stay] = (), at: int = 0) -> None:
        evidence: list[dict[str, Any]] = [shown(call) for call in calls]
        for stay in stays:
            evidence += [shown(event) for event in stay.events]
        moment = at or max((call.ended for call in calls if call.ended != NEVER), default=0)
        self.broken.append(Violation(invariant, self._license.id, what, evidence[:12], moment))


def _seconds(nanoseconds: int) -> str:
    return f"{nanoseconds / SECOND_NS:.3f}"

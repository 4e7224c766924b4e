"""What an application may do, by all that is known: pure."""

import msgspec

from seatkeeper.cache import Refusal
from seatkeeper.lease import Lease
from seatkeeper.license_file import LicenseFile
from seatkeeper.state import (
    LEASE_ENDED,
    OFFLINE_FILE,
    RELEASED,
    STARTING,
    UNREACHABLE,
    WAITING_FOR_APPROVAL,
    Name,
    State,
    own,
)

CLOCKS_AGREE_S = 60.0


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """`refusal` is the server's, genuine; `gone` tells that the seat was given back; `reached`, that the last question
    was answered; `clock_fault`, what is wrong with the machine's clock."""

    file: LicenseFile | None = None
    refusal: Refusal | None = None
    waiting: bool = False
    gone: bool = False
    lease: Lease | None = None
    reached: bool = False
    clock_fault: str | None = None


def judge(facts: Facts, now_s: float, language: str) -> State:
    """The state at this trusted time."""
    file, lease = facts.file, facts.lease
    if file is not None and now_s < file.expiry.timestamp():
        return own(Name.ACTIVE, OFFLINE_FILE, language, file.expiry)
    if facts.refusal is not None:
        return State(name=Name.PENDING, reason=facts.refusal.code, detail=facts.refusal.detail)
    if facts.waiting:
        return own(Name.PENDING, WAITING_FOR_APPROVAL, language)
    if facts.gone:
        return own(Name.PENDING, RELEASED, language)
    if lease is None:
        return own(Name.PENDING, STARTING, language)
    if not lease.valid_at(now_s):
        return own(Name.PENDING, LEASE_ENDED, language, lease.valid_until)
    if not facts.reached:
        return own(Name.LIMITED, facts.clock_fault or UNREACHABLE, language, lease.valid_until)
    if facts.clock_fault is not None:
        return own(Name.ACTIVE, facts.clock_fault, language, lease.valid_until)
    return State(name=Name.ACTIVE, until=lease.valid_until)

"""What an application sees: by the file, the server's word, the lease, and the trusted time."""

from datetime import UTC, datetime
from typing import Any

import pytest

from seatkeeper.cache import Refusal
from seatkeeper.lease import Lease
from seatkeeper.license_file import LicenseFile
from seatkeeper.standing import Facts, judge
from seatkeeper.state import Name, State, own

NOW_S = 1_800_000_000.0
BEFORE, AFTER = (datetime.fromtimestamp(NOW_S + shift, UTC) for shift in (-1, 1))
NO = Refusal(code="LICENSE_SUSPENDED", detail="Ask the vendor.")


def lease(until: datetime) -> Lease:
    return Lease(
        account="a", product="p", device_id="d", license_id="l", fingerprint="f", generation=1, issued_at=BEFORE,
        valid_until=until, lease_expires_at=until, trial=False, entitlements={},
    )  # fmt: skip


def file(expiry: datetime) -> LicenseFile:
    return LicenseFile(
        account="a", product="p", device_id="d", license_id="l", fingerprint="f", generation=1, issued=BEFORE,
        expiry=expiry, leaf="", trial=False, entitlements={},
    )  # fmt: skip


GOOD: dict[str, Any] = {"lease": lease(AFTER), "reached": True}


@pytest.mark.parametrize(
    ("facts", "name", "reason", "until"),
    [
        ({}, Name.PENDING, "STARTING", None),
        (GOOD, Name.ACTIVE, None, AFTER),
        (GOOD | {"clock_fault": "CLOCK_SET_BACK"}, Name.ACTIVE, "CLOCK_SET_BACK", AFTER),
        (GOOD | {"reached": False}, Name.LIMITED, "UNREACHABLE", AFTER),
        (GOOD | {"reached": False, "clock_fault": "CLOCK_FROZEN"}, Name.LIMITED, "CLOCK_FROZEN", AFTER),
        (GOOD | {"lease": lease(BEFORE)}, Name.PENDING, "LEASE_ENDED", BEFORE),
        (GOOD | {"refusal": NO}, Name.PENDING, "LICENSE_SUSPENDED", None),
        (GOOD | {"gone": True}, Name.PENDING, "RELEASED", None),
        (GOOD | {"waiting": True}, Name.PENDING, "WAITING_FOR_APPROVAL", None),
        ({"file": file(AFTER), "refusal": NO, "gone": True}, Name.ACTIVE, "OFFLINE_FILE", AFTER),
        ({"file": file(BEFORE), "refusal": NO}, Name.PENDING, "LICENSE_SUSPENDED", None),
        (GOOD | {"file": file(BEFORE)}, Name.ACTIVE, None, AFTER),
    ],
)
def test_the_state_follows_from_what_is_known(
    facts: dict[str, Any], name: Name, reason: str | None, until: datetime | None
) -> None:
    state = judge(Facts(**facts), NOW_S, "en")
    assert (state.name, state.reason, state.until) == (name, reason, until)
    assert state.usable is (name is not Name.PENDING)
    assert bool(state.detail) is (reason is not None)
    assert "{" not in state.detail


def test_a_state_reads_well_in_both_languages() -> None:
    limited = own(Name.LIMITED, "UNREACHABLE", "en", datetime(2026, 11, 29, 10, 6, tzinfo=UTC))
    assert str(limited) == "Limited (UNREACHABLE) until 2026-11-29 10:06 UTC"
    assert "2026-11-29 10:06" in limited.detail
    assert str(State(name=Name.ACTIVE)) == "Active"
    assert own(Name.PENDING, "STARTING", "zh").detail != own(Name.PENDING, "STARTING", "en").detail

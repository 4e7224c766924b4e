"""Facts: what is told of a committed change, on the wire and for the projection."""

import json
from typing import Any

import msgspec
import pytest

from shared.licensing import facts
from shared.licensing.model import Change, DeviceState, Event, EventKind, LicenseStatus, Reason
from tests.builders import NOW, make_device, make_license

DEVICE = make_device(state=DeviceState.RELEASED, nonces=(b"\x00\xff nonce",), name="Zoë’s laptop")
EVENT = Event(
    kind=EventKind.DEVICE_RELEASED,
    version=8,
    seats_limit=3,
    seats_used=1,
    seats_allowed=3,
    device=DEVICE,
    reason=Reason.IDLE,
)


def written(**changes: Any) -> dict[str, Any]:
    fact: dict[str, Any] = json.loads(facts.encode(facts.fact_of(EVENT, make_license(version=9), NOW)))
    return fact | changes


def test_a_fact_is_read_as_it_was_written() -> None:
    fact = facts.fact_of(EVENT, make_license(), NOW)
    assert facts.decode(facts.encode(fact)) == fact
    assert facts.decode(facts.encode(fact).encode()) == fact


def test_a_fact_bears_the_counts_and_version_of_its_event() -> None:
    fact = facts.fact_of(EVENT, make_license([make_device("other")] * 2, version=9, devices_pending=4), NOW)
    assert (fact.type, fact.version, fact.seats_used, fact.seats_allowed) == ("device.released", 8, 1, 3)
    assert (fact.reason, fact.device, fact.devices_pending, fact.at) == (Reason.IDLE, DEVICE, 4, NOW)


def test_a_fact_is_one_line_of_camel_case_json() -> None:
    text = facts.encode(facts.fact_of(EVENT, make_license(), NOW))
    assert "\n" not in text
    assert {"schema", "accountId", "licenseId", "seatsUsed", "seatsAllowed", "devicesPending"} <= set(json.loads(text))


def test_members_that_a_reader_does_not_know_are_passed_over() -> None:
    fact = facts.decode(json.dumps(written(somethingNew={"a": [1]})))
    assert fact.version == 8


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{}", '{"type": "x"}', json.dumps(written(version="8")), json.dumps(written(status="?"))]
)
def test_what_is_no_fact_is_refused(text: str) -> None:
    with pytest.raises(msgspec.DecodeError):
        facts.decode(text)


def test_a_fact_is_a_step_of_the_projection_from_the_version_before() -> None:
    license = make_license(version=8, seats_limit=3, seats_used=1, status=LicenseStatus.SUSPENDED, expires_at=NOW)
    change = facts.change_of(facts.fact_of(EVENT, license, NOW))
    assert change == Change(license=license, base_version=7, devices=(DEVICE,))


def test_a_fact_about_the_license_alone_names_no_device() -> None:
    event = Event(kind=EventKind.LICENSE_SUSPENDED, version=8, seats_limit=3, seats_used=0, seats_allowed=3)
    assert facts.change_of(facts.fact_of(event, make_license(version=8), NOW)).devices == ()


def test_rules_that_a_policy_leaves_as_they_are_take_no_room() -> None:
    told = written()["terms"]
    assert sorted(told) == sorted(["kind", "leaseS", "offlineGraceS", "heartbeatIntervalS", "approval", "productCode"])
    assert facts.decode(facts.encode(facts.fact_of(EVENT, make_license(), NOW))).terms == make_license().terms

"""Refusals that are given again for a moment, at the version at which they were decided."""

from types import SimpleNamespace
from uuid import UUID

import pytest

from shared.licensing.codes import Code
from shared.licensing.model import Approval, Reason, Refused
from shared.seats import refusals
from shared.seats.refusals import FULL_LIFE_S, LIFE_S, Asker, FullLicenses, Refusals, Wish
from tests.builders import make_license, make_terms

LOST = Refused(code=Code.LEASE_LOST, reason=Reason.IDLE)
LICENSE = make_license(version=7)
ASKER: Asker = (UUID(int=1), UUID(int=2), 3)


class Time:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1000.0
        monkeypatch.setattr(refusals, "time", SimpleNamespace(monotonic=lambda: self.now_s))


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


def kept() -> Refusals:
    refusals = Refusals()
    refusals.keep(ASKER, LICENSE, LOST)
    return refusals


def test_a_refusal_stands_at_its_version() -> None:
    assert kept().find(ASKER, 7) == (LICENSE, LOST)


@pytest.mark.parametrize("version", [6, 8])
def test_a_refusal_does_not_stand_at_another_version(version: int) -> None:
    refusals = kept()
    assert refusals.find(ASKER, version) is None
    assert refusals.find(ASKER, 7) is None


@pytest.mark.parametrize("asker", [(UUID(int=9), ASKER[1], 3), (ASKER[0], UUID(int=9), 3), (ASKER[0], ASKER[1], 4)])
def test_a_refusal_is_nobody_elses(asker: Asker) -> None:
    assert kept().find(asker, 7) is None


def test_a_refusal_lives_for_a_second(time: Time) -> None:
    refusals = kept()
    time.now_s += LIFE_S - 0.01
    assert refusals.find(ASKER, 7) == (LICENSE, LOST)
    time.now_s += 0.01
    assert refusals.find(ASKER, 7) is None


def test_the_later_refusal_stands(time: Time) -> None:
    refusals = kept()
    time.now_s += 0.9
    later, revoked = make_license(version=8), Refused(code=Code.LICENSE_REVOKED)
    refusals.keep(ASKER, later, revoked)
    time.now_s += 0.9
    assert refusals.find(ASKER, 8) == (later, revoked)


@pytest.mark.parametrize("code", [Code.VERSION_NOT_SUPPORTED, Code.ENTITLEMENT_MISSING, Code.CLONE_SUSPECTED])
def test_what_only_this_request_was_refused_for_is_not_kept(code: Code) -> None:
    refusals = Refusals()
    refusals.keep(ASKER, LICENSE, Refused(code=code))
    assert refusals.find(ASKER, 7) is None


def test_the_oldest_refusals_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "LIMIT", 2)
    kept = Refusals()
    askers = [(UUID(int=n), UUID(int=n), 1) for n in range(3)]
    for asker in askers:
        kept.keep(asker, LICENSE, LOST)
    assert [kept.find(asker, 7) for asker in askers] == [None, (LICENSE, LOST), (LICENSE, LOST)]


# --- Full licenses ----------------------------------------------------------------------------------------------

FULL = Refused(code=Code.DEVICE_LIMIT_EXCEEDED)


WISH: Wish = (bytes(32), "2", ("export",))


def found_full() -> FullLicenses:
    full = FullLicenses()
    full.keep(WISH, LICENSE, FULL)
    return full


def test_a_license_that_was_full_is_known_to_who_asks_the_same() -> None:
    assert found_full().find(WISH) == LICENSE


@pytest.mark.parametrize(
    "wish", [(bytes(31) + b"x", *WISH[1:]), (WISH[0], None, WISH[2]), (*WISH[:2], ()), (*WISH[:2], ("import",))]
)
def test_who_asks_otherwise_is_for_the_ledger(wish: Wish) -> None:
    assert found_full().find(wish) is None


def test_where_devices_are_allowed_one_by_one_nothing_is_kept() -> None:
    full = FullLicenses()
    full.keep(WISH, make_license(terms=make_terms(approval=Approval.ALLOW_LIST)), FULL)
    assert full.find(WISH) is None


def test_only_the_want_of_a_seat_is_kept() -> None:
    full = FullLicenses()
    full.keep(WISH, LICENSE, Refused(code=Code.DEVICE_BLOCKED))
    assert full.find(WISH) is None


def test_a_full_license_is_asked_of_the_ledger_again_before_long(time: Time) -> None:
    full = found_full()
    time.now_s += FULL_LIFE_S - 0.01
    assert full.find(WISH) == LICENSE
    time.now_s += 0.01
    assert full.find(WISH) is None


def test_the_oldest_full_licenses_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "FULL_LIMIT", 2)
    full = FullLicenses()
    wishes: list[Wish] = [(bytes(32), version, ()) for version in "123"]
    for wish in wishes:
        full.keep(wish, LICENSE, FULL)
    assert [full.find(wish) for wish in wishes] == [None, LICENSE, LICENSE]

"""The rules alone, through whole lives of licenses in memory, and what such lives have found."""

from collections import Counter
from datetime import timedelta

import pytest
from hypothesis.stateful import run_state_machine_as_test

from shared.licensing import seat_rules
from shared.licensing.codes import Code
from shared.licensing.decide import decide
from shared.licensing.model import Activate, Command, DeviceState, EventKind, Extend, OnClone, Reason, Release
from tests.builders import NOW, ask, code_of, device_of, floating, make_device, make_license, make_terms
from tests.histories.life import Life, play
from tests.histories.oracle import MOST_WAITING
from tests.histories.wishes import COMMANDS

HISTORIES = 100
SILENT = make_device(
    state=DeviceState.RELEASED, ended_reason=Reason.LEASE_EXPIRED, lease_expires_at=NOW, counter=5, generation=1
)


def test_the_rules_and_an_onlooker_agree_on_every_history(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seat_rules, "PENDING_LIMIT", MOST_WAITING)
    seen: Counter[tuple[type[Command], str]] = Counter()

    class LifeInMemory(Life):
        def teardown(self) -> None:
            super().teardown()
            seen.update(self.seen)

    run_state_machine_as_test(LifeInMemory, settings=play(HISTORIES))

    moving = {kind for kind, outcome in seen if outcome == "changed"}
    assert set(COMMANDS) - moving == set(), "these never changed anything"


def test_where_no_release_is_allowed_not_even_the_first_is() -> None:
    device = make_device()
    license = make_license([device], terms=make_terms(releases_per_year=0))
    decision = decide(license, {device.id: device}, None, ask(Release), NOW)
    assert code_of(decision) is Code.RELEASE_LIMIT_EXCEEDED


def test_a_full_license_frees_as_many_ended_leases_as_it_needs_and_the_oldest_first() -> None:
    ended = [make_device(name, lease_expires_at=NOW - timedelta(minutes=n)) for n, name in enumerate("abc", 1)]
    license = make_license(ended, seats=3, terms=floating())
    decision = decide(license, {device.id: device for device in ended}, None, ask(Activate, "new"), NOW)
    freed = [event.device.fingerprint for event in decision.events if event.device and event.reason]
    assert freed == ["c"]


def test_a_device_that_comes_back_with_its_count_begun_anew_may_count_on() -> None:
    license = make_license(terms=floating())
    back = decide(license, {SILENT.id: SILENT}, None, ask(Extend, generation=1, resumes=True, counter=1), NOW)
    device = device_of(back)
    assert device.counter == 1
    next_beat = decide(back.license, {device.id: device}, None, ask(Extend, generation=1, counter=2), NOW)
    assert next_beat.events == ()


@pytest.mark.parametrize("on_clone", OnClone)
def test_a_device_that_comes_back_counting_backwards_is_suspected(on_clone: OnClone) -> None:
    license = make_license(terms=make_terms(kind=floating().kind, lease_s=600, on_clone=on_clone))
    decision = decide(license, {SILENT.id: SILENT}, None, ask(Extend, generation=1, resumes=True, counter=3), NOW)
    assert decision.events[0].kind is EventKind.CLONE_SUSPECTED
    assert code_of(decision) is (Code.CLONE_SUSPECTED if on_clone is OnClone.REFUSE else None)

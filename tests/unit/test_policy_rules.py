"""What a policy may say: every fault, and what is none."""

from typing import Any

import pytest

from shared.licensing.leases import DAY_S
from shared.licensing.model import Kind, OnExpiry
from shared.licensing.policy_rules import faults
from shared.licensing.versions import is_supported, read_version
from tests.builders import NOW, floating, make_terms


@pytest.mark.parametrize("terms", [make_terms(), floating(), floating(60), floating(DAY_S)])
def test_the_usual_policies_have_no_fault(terms: Any) -> None:
    assert faults(terms) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lease_s": 0, "offline_grace_s": 0, "heartbeat_interval_s": 0}, "the lease must lie"),
        ({"lease_s": 315_360_001}, "the lease must lie"),
        ({"offline_grace_s": 91 * DAY_S}, "the offline grace"),
        ({"heartbeat_interval_s": 91 * DAY_S}, "the heartbeat interval"),
        ({"valid_s": 0}, "the time after the first activation"),
        ({"valid_s": 60, "expires_at": NOW}, "not both"),
        ({"trial": True}, "a trial has an end"),
        ({"trial": True, "valid_s": 60, "on_expiry": OnExpiry.WARN}, "a trial that is over"),
        ({"min_version": "newest"}, "a version begins"),
        ({"max_version": ""}, "a version begins"),
        ({"min_version": "3.1", "max_version": "3.0"}, "the first supported version"),
        ({"activations_per_hour": 0}, "activations per hour"),
        ({"releases_per_year": -1}, "releases per year"),
        ({"offline_max_days": -1}, "an offline file"),
        ({"offline_max_days": 3651}, "an offline file"),
        ({"entitlements": {"a b": None}}, "an entitlement's code"),
        ({"entitlements": {"export": -1}}, "an entitlement's limit"),
        ({"entitlements": {f"e{number}": None for number in range(101)}}, "at most 100"),
    ],
)
def test_each_fault_is_a_sentence(changes: dict[str, Any], said: str) -> None:
    found = faults(make_terms(**changes))
    assert any(said in sentence for sentence in found), found


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lease_s": 59}, "between 60 seconds and 24 hours"),
        ({"lease_s": DAY_S + 1}, "between 60 seconds and 24 hours"),
        ({"heartbeat_interval_s": 501}, "varies by a fifth"),
        ({"releases_per_year": 3}, "node-locked"),
    ],
)
def test_what_only_floating_policies_may_not_say(changes: dict[str, Any], said: str) -> None:
    terms = make_terms(**{"kind": Kind.FLOATING, "lease_s": 600, **changes})
    assert any(said in sentence for sentence in faults(terms)), faults(terms)


def test_tests_may_have_shorter_floating_leases() -> None:
    assert faults(floating(1), shortest_floating_lease_s=1) == []


def test_all_faults_are_told_at_once() -> None:
    assert len(faults(make_terms(trial=True, activations_per_hour=0, offline_max_days=-1))) == 3


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("2", (2,)),
        ("v2.10.3-beta+7", (2, 10, 3)),
        ("2024.1 SP2", (2024, 1)),
        (" 1.0", (1, 0)),
        ("1.", (1,)),
        ("x1", None),
        ("", None),
        ("1234567890", None),
    ],
)
def test_a_version_is_the_numbers_that_it_begins_with(text: str, numbers: tuple[int, ...] | None) -> None:
    assert read_version(text) == numbers


@pytest.mark.parametrize(
    ("version", "first", "last", "served"),
    [
        (None, None, None, True),
        ("1", None, "1.0.0", True),
        ("1.0.1", None, "1.0", True),
        ("1.1", None, "1.0", False),
        ("10", "9", None, True),
        ("2.3", "2.3.1", None, False),
        ("2.3.1", "2.3.1", "2.3.1", True),
        (None, "1", None, False),
    ],
)
def test_a_bound_means_as_many_numbers_as_it_names(
    version: str | None, first: str | None, last: str | None, served: bool
) -> None:
    assert is_supported(version, first, last) is served

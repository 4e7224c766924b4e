"""The signed lease: what it says, and when it proves nothing."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seatkeeper import base64url, signatures
from seatkeeper.errors import NotGenuine
from seatkeeper.lease import TYP, Lease, LeaseFault, verify_lease
from shared.signing import jws
from tests.unit.client.signed import (
    ACCOUNT,
    DEVICE,
    FINGERPRINT,
    LEAF,
    LICENSE,
    NOW,
    PRODUCT,
    ROOT,
    STRANGER,
    STRANGERS_CERTIFICATE,
    STRANGERS_LEAF,
    lease_text,
)

TEXT = lease_text()
NOW_S = NOW.timestamp()
DAY_S = 86_400


def verify(text: str, root_public: bytes = ROOT.public, **changes: Any) -> Lease:
    return verify_lease(
        text, root_public, **{"product": PRODUCT, "fingerprint": FINGERPRINT, "now_s": NOW_S, **changes}
    )


def fault(text: str, *arguments: Any, **changes: Any) -> object:
    with pytest.raises(NotGenuine) as raised:
        verify(text, *arguments, **changes)
    return raised.value.args[0]


def test_a_lease_says_what_the_server_wrote() -> None:
    assert verify(lease_text(trial=True, entitlements={"export": None, "projects": 25})) == Lease(
        account=str(ACCOUNT),
        product=PRODUCT,
        device_id=str(DEVICE),
        license_id=str(LICENSE),
        fingerprint=FINGERPRINT,
        generation=2,
        issued_at=NOW,
        valid_until=NOW + timedelta(days=7),
        lease_expires_at=NOW + timedelta(days=90),
        trial=True,
        entitlements={"export": None, "projects": 25},
    )
    plain = verify(TEXT)
    assert (plain.trial, plain.entitlements) == (False, {})


def test_a_lease_is_for_its_product_its_device_and_its_root() -> None:
    assert fault(TEXT, product="other") is LeaseFault.OTHER_PRODUCT
    assert fault(TEXT, fingerprint=FINGERPRINT[:-1] + "0") is LeaseFault.OTHER_DEVICE
    assert fault(TEXT, STRANGER.public) is LeaseFault.UNTRUSTED
    assert fault(TEXT, LEAF.public) is LeaseFault.UNTRUSTED


def test_a_leaf_signs_only_under_a_certificate_of_its_own_and_for_its_account() -> None:
    assert fault(lease_text(STRANGERS_LEAF)) is LeaseFault.UNTRUSTED
    assert fault(lease_text(STRANGERS_LEAF, leaf=STRANGERS_CERTIFICATE)) is LeaseFault.UNTRUSTED
    assert fault(lease_text(ROOT)) is LeaseFault.UNTRUSTED
    assert fault(lease_text(iss=LICENSE)) is LeaseFault.UNTRUSTED
    assert fault(lease_text(leaf="")) is LeaseFault.UNTRUSTED
    assert fault(lease_text(leaf=TEXT)) is LeaseFault.UNTRUSTED


def test_a_lease_that_has_ended_is_still_genuine_and_says_that_it_has() -> None:
    lease = verify(TEXT, now_s=NOW_S + 30 * DAY_S)
    assert lease.valid_at(NOW_S + 7 * DAY_S - 0.001)
    assert not lease.valid_at(NOW_S + 7 * DAY_S)


def test_a_clock_that_is_behind_does_not_make_a_lease_false() -> None:
    assert verify(TEXT, now_s=0.0) == verify(TEXT)


def test_nothing_holds_past_the_end_of_its_certificate() -> None:
    assert fault(TEXT, now_s=NOW_S + 3653 * DAY_S) is LeaseFault.UNTRUSTED
    assert fault(lease_text(iat=int(NOW_S) + 3653 * DAY_S)) is LeaseFault.UNTRUSTED


def claims() -> dict[str, Any]:
    found = signatures.decoded(signatures.verified(TEXT, LEAF.public, TYP), dict[str, Any])
    assert found is not None
    return found


@pytest.mark.parametrize(
    "change",
    [{"state": "released"}, {"exp": 2**60}, {"exp": "x"}, {"iat": -1}, {"gen": None}, {"entitlements": ["export"]}],
)
def test_claims_in_another_shape_prove_nothing(change: dict[str, Any]) -> None:
    assert verify(jws.sign(LEAF, TYP, claims() | {"more": 1})) == verify(TEXT)
    assert fault(jws.sign(LEAF, TYP, claims() | change)) is LeaseFault.UNTRUSTED


def test_another_kind_of_document_is_no_lease() -> None:
    assert fault(jws.sign(LEAF, "seatkeeper-leaf+jwt", claims())) is LeaseFault.UNTRUSTED


@given(at=st.integers(0, len(TEXT) - 1), put=st.sampled_from(["", "A", "w", "AA", ".", "=", "é", "\ud800"]))
def test_an_altered_lease_proves_nothing(at: int, put: str) -> None:
    text = TEXT[:at] + put + TEXT[at + 1 :]
    if text != TEXT:
        assert fault(text) is LeaseFault.UNTRUSTED


@given(st.text(max_size=40), st.binary(max_size=40))
def test_any_text_is_refused_and_no_more(text: str, payload: bytes) -> None:
    assert fault(text) is LeaseFault.UNTRUSTED
    assert fault(f"{text}.{base64url.encode(payload)}.{text}") is LeaseFault.UNTRUSTED

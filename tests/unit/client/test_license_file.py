"""License files: the server's vectors hold, what is altered does not, and client and server agree on all else."""

import json
import uuid
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from seatkeeper import license_file
from seatkeeper.errors import NotGenuine
from seatkeeper.license_file import FileFault, LicenseFile, verify_license_file
from seatkeeper.signatures import read_root_key
from shared.signing import jws
from shared.signing import license_file as server
from tests.unit.client.signed import (
    FINGERPRINT,
    LEAF,
    NOW,
    PRODUCT,
    ROOT,
    RSA,
    STRANGER,
    STRANGERS_CERTIFICATE,
    STRANGERS_LEAF,
    license_text,
)

VECTORS = Path(__file__).resolve().parents[2] / "vectors"
VECTORS_ROOT = read_root_key(str(VECTORS / "root.json"))
SIGNED = license_text()


def verify(file: bytes, root_public: bytes = ROOT.public, **changes: Any) -> LicenseFile:
    return verify_license_file(
        file, root_public, **{"product": PRODUCT, "fingerprint": FINGERPRINT, "now": NOW, **changes}
    )


def fault(file: bytes, *arguments: Any, **changes: Any) -> object:
    with pytest.raises(NotGenuine) as raised:
        verify(file, *arguments, **changes)
    return raised.value.args[0]


@pytest.mark.parametrize("name", ["ed25519", "rsa"])
def test_the_vectors_hold(name: str) -> None:
    file = (VECTORS / f"license_file_{name}.json").read_bytes()
    read = verify(file, VECTORS_ROOT)
    assert (read.account, read.product) == ("6f9619ff-8b86-4d01-b42d-00cf4fc964ff", PRODUCT)
    assert read.license_id == "c56a4180-65aa-42ec-a945-5fd21dec0538"
    assert read.device_id == "5c0a3e0e-7c1f-5b1a-9a5c-2d5a2f8f0b11"
    assert (read.generation, read.fingerprint) == (2, FINGERPRINT)
    assert (read.issued, read.expiry) == (NOW, NOW + timedelta(days=365))
    assert (read.trial, read.entitlements) == (False, {"export": None, "projects": 25})
    assert fault(file) is FileFault.UNTRUSTED


@pytest.mark.parametrize("name", ["ed25519", "rsa"])
def test_no_character_of_a_vector_can_be_changed(name: str) -> None:
    file = (VECTORS / f"license_file_{name}.json").read_bytes()
    for at in range(len(file)):
        if not file[at : at + 1].isspace():
            other = b"0" if file[at : at + 1] != b"0" else b"1"
            assert fault(file[:at] + other + file[at + 1 :], VECTORS_ROOT) in (
                FileFault.UNTRUSTED,
                FileFault.MALFORMED,
            )


@pytest.mark.parametrize("name", ["ed25519", "rsa"])
def test_no_member_can_be_changed_added_or_taken_away(name: str) -> None:
    members = json.loads((VECTORS / f"license_file_{name}.json").read_bytes())
    assert verify(json.dumps(members, sort_keys=True).encode(), VECTORS_ROOT)
    others: list[Any] = ["x", 3, None, True, {}]
    changes = [{member: value} for member in members for value in others]
    for change in [*changes, {"trial": True}, {"more": 1}]:
        assert fault(json.dumps(members | change).encode(), VECTORS_ROOT)
    for member in members:
        rest = {name: value for name, value in members.items() if name != member}
        assert fault(json.dumps(rest).encode(), VECTORS_ROOT)


def test_a_file_is_for_its_product_its_device_its_root_and_its_time() -> None:
    assert fault(SIGNED, product="other") is FileFault.OTHER_PRODUCT
    assert fault(SIGNED, fingerprint="f" * 64) is FileFault.OTHER_DEVICE
    assert fault(SIGNED, STRANGER.public) is FileFault.UNTRUSTED
    assert fault(SIGNED, now=NOW - timedelta(microseconds=1)) is FileFault.NOT_YET
    assert fault(SIGNED, now=NOW + timedelta(days=365)) is FileFault.EXPIRED
    assert verify(SIGNED, now=NOW + timedelta(days=365, microseconds=-1))


def test_a_leaf_signs_only_under_a_certificate_of_its_own_and_for_its_account() -> None:
    for file in (
        license_text(STRANGERS_LEAF),
        license_text(STRANGERS_LEAF, leaf=STRANGERS_CERTIFICATE),
        license_text(ROOT),
        license_text(iss=uuid.UUID(int=9)),
        license_text(leaf=""),
        license_text(RSA, leaf=json.loads(SIGNED)["leaf"]),
    ):
        assert fault(file) is FileFault.UNTRUSTED


def test_what_another_kind_of_document_was_signed_for_is_no_license_file() -> None:
    members = json.loads(SIGNED)
    del members["signature"]

    def signed_as(typ: str) -> bytes:
        signature = jws.sign_detached(LEAF, typ, rfc8785.dumps(members))
        return json.dumps(members | {"signature": signature}).encode()

    assert verify(signed_as(license_file.TYP)) == verify(SIGNED)
    assert fault(signed_as("seatkeeper-offline-receipt+jws")) is FileFault.UNTRUSTED


MALFORMED = [
    b"",
    b"null",
    b"[]",
    b"{}",
    SIGNED + b"x",
    b"\xef\xbb\xbf" + SIGNED,
    SIGNED.replace(b'"generation": 2', b'"generation": 2, "generation": 2'),
    SIGNED.replace(b'"export": null', b'"export": null, "export": null'),
    SIGNED.replace(b'"generation": 2', b'"generation": NaN'),
    SIGNED.replace(b'"generation": 2', b'"generation": 1e400'),
    SIGNED.replace(b'"generation": 2', b'"generation": 2, "more": 9007199254740993'),
    SIGNED.replace(b'"generation": 2', b'"generation": 2, "more": "\\ud800"'),
    SIGNED.replace(b'"generation": 2', b'"generation": 2, "more": ' + b"1" * 5000),
    SIGNED.replace(b'"generation": 2', b'"generation": 2, "more": ' + b"[" * 9000 + b"]" * 9000),
    SIGNED.replace(b'"signature": "', b'"signature": 1, "x": "'),
    SIGNED.decode().encode("utf-16"),
    SIGNED + b" " * license_file.LONGEST,
]


@pytest.mark.parametrize("file", MALFORMED)
def test_what_is_not_one_readable_object_is_malformed(file: bytes) -> None:
    assert fault(file) is FileFault.MALFORMED


def servers_word(file: bytes, now: datetime) -> object:
    found = server.verify(file, ROOT.public, PRODUCT, now)
    return word(found) if isinstance(found, server.FileFault) else str(found.device)


def clients_word(file: bytes, now: datetime) -> object:
    try:
        return verify(file, now=now).device_id
    except NotGenuine as error:
        found = error.args[0]
        assert isinstance(found, FileFault)
        return word(found)


def word(fault: FileFault | server.FileFault) -> str:
    """An id that was altered is no UUID any more to the server, and a text that nobody signed to the client."""
    return "MALFORMED" if fault.name == "UNTRUSTED" else fault.name


@given(
    generation=st.integers(0, 2**31),
    entitlements=st.dictionaries(st.text(max_size=5), st.none() | st.integers(0, 9), max_size=3),
    product=st.sampled_from([PRODUCT, "other"]),
    by_rsa=st.booleans(),
    days=st.sampled_from([-1.0, 0.0, 1.0, 364.99, 365.0, 366.0]),
    altered_at=st.none() | st.integers(0, 4000),
)
def test_client_and_server_agree(
    generation: int,
    entitlements: dict[str, int | None],
    product: str,
    by_rsa: bool,
    days: float,
    altered_at: int | None,
) -> None:
    file = license_text(RSA if by_rsa else LEAF, generation=generation, entitlements=entitlements, aud=product)
    if altered_at is not None:
        file = file[:altered_at] + b"7" + file[altered_at + 1 :]
    now = NOW + timedelta(days=days)
    # A clock that is behind a file's issue is named by the client before the certificate's age is.
    expected = servers_word(file, max(now, NOW))
    if expected == str(uuid.UUID(int=3)) and days < 0:
        expected = "NOT_YET"
    assert clients_word(file, now) == expected


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: json.dumps({"signature": text}).encode()))
def test_anything_at_all_is_no_more_than_refused(file: bytes) -> None:
    assert fault(file) is FileFault.MALFORMED

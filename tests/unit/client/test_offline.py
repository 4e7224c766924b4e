"""Going offline by a file, on the device's side: nothing comes back from a generation that was given back."""

import asyncio
import json
import os
import re
import stat
import uuid
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from seatkeeper import base64url, fault_texts, qr
from seatkeeper.errors import ConfigurationError, NotGenuine
from seatkeeper.lease import LeaseFault
from seatkeeper.license_file import FileFault
from seatkeeper.license_key import KeyFault
from seatkeeper.offline import Offline
from seatkeeper.offline_documents import RECEIPT_TYP, REQUEST_TYP
from seatkeeper.offline_faults import OfflineFault
from seatkeeper.public_keys import NO_ROOT_KEY
from shared.signing import jws
from shared.signing.keys import thumbprint
from tests.unit.client.played import PlayedClock
from tests.unit.client.signed import (
    ACCOUNT,
    DEVICE,
    FINGERPRINT,
    LEAF,
    LICENSE,
    NOW,
    PRODUCT,
    ROOT,
    RSA,
    STRANGER,
    license_text,
)

DAY = timedelta(days=1)


class Clock:
    def __init__(self) -> None:
        self.now = NOW + timedelta(hours=1)

    def wall_s(self) -> float:
        return self.now.timestamp()

    def monotonic_s(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def offline(tmp_path: Path, clock: Clock) -> Offline:
    return device(tmp_path / "state", clock)


def device(directory: Path, clock: Clock | PlayedClock, **changes: Any) -> Offline:
    options: dict[str, Any] = {"product": PRODUCT, "root_public": ROOT.public, "fingerprint": FINGERPRINT}
    return Offline(directory, clock=clock, **options | changes)


def verified(members: dict[str, Any], public: bytes, typ: str) -> bool:
    rest = dict(members)
    return jws.is_signed_detached(rest.pop("signature"), rfc8785.dumps(rest), public, typ)


def refused(offline: Offline, file: bytes) -> object:
    with pytest.raises(NotGenuine) as raised:
        offline.install(file)
    return raised.value.args[0]


def key_of(offline: Offline) -> bytes:
    public = base64url.decode(offline.request().members["deviceKey"]["x"])
    assert public is not None
    return public


def test_a_request_is_signed_by_a_key_that_stays(tmp_path: Path, clock: Clock) -> None:
    offline = device(tmp_path, clock, name="Adas Laptop ☂", version="2.3.1")
    request = json.loads(offline.request(days=30).data)
    public = base64url.decode(request["deviceKey"]["x"])
    assert public is not None
    assert Ed25519PublicKey.from_public_bytes(public)
    assert verified(request, public, REQUEST_TYP)
    assert json.loads(base64url.decode(request["signature"].split(".")[0]) or b"")["kid"] == thumbprint(public)
    assert len(base64url.decode(request.pop("id")) or b"") == 16
    del request["signature"]
    assert request == {
        "form": "seatkeeper-offline-request/1",
        "product": PRODUCT,
        "fingerprint": FINGERPRINT,
        "deviceKey": {"kty": "OKP", "crv": "Ed25519", "x": base64url.encode(public)},
        "created": "2026-11-03T13:00:00Z",
        "name": "Adas Laptop ☂",
        "version": "2.3.1",
        "days": 30,
    }
    again = device(tmp_path, clock).request()
    assert again.members["deviceKey"] == request["deviceKey"]
    assert again.members.keys() & {"name", "version", "days"} == set()
    assert again.members["id"] != device(tmp_path, clock).request().members["id"]


def test_less_than_a_day_cannot_be_asked_for(offline: Offline) -> None:
    with pytest.raises(ConfigurationError, match="one day at least"):
        offline.request(days=0)


@pytest.mark.parametrize("key", [LEAF, RSA], ids=["Ed25519", "RSA"])
def test_an_installed_file_is_in_force_until_it_ends(offline: Offline, clock: Clock, key: Any) -> None:
    assert offline.installed() is None
    read = offline.install(license_text(key))
    assert offline.installed() == read
    assert read.expiry == NOW + 365 * DAY
    assert offline.installed(read.expiry - timedelta(seconds=1)) == read
    assert offline.installed(read.expiry) is None
    clock.now = read.expiry
    assert offline.installed() is None
    assert refused(offline, license_text(key)) is FileFault.EXPIRED


def test_a_clock_that_is_behind_a_files_issue_costs_nothing(tmp_path: Path, clock: Clock) -> None:
    clock.now = NOW - 400 * DAY
    offline = device(tmp_path, clock)
    read = offline.install(license_text())
    assert offline.installed() == read


def test_a_clock_that_is_behind_a_files_issue_gains_nothing(tmp_path: Path) -> None:
    clock = PlayedClock(86_400.0)
    offline = device(tmp_path, clock)
    key_of(offline)
    offline.install(license_text())
    asyncio.run(clock.sleep(364 * DAY.total_seconds()))
    assert offline.installed() is not None
    assert offline.request().members["created"] == "2027-11-02T12:00:00Z"
    asyncio.run(clock.sleep(DAY.total_seconds()))
    assert offline.installed() is None
    assert device(tmp_path, PlayedClock(86_400.0)).request().members["created"] == "2026-11-03T12:00:00Z"


def test_a_file_that_is_refused_tells_no_time(tmp_path: Path, clock: Clock) -> None:
    clock.now = NOW - 400 * DAY
    offline = device(tmp_path, clock)
    assert refused(offline, license_text(fingerprint="f" * 64)) is FileFault.OTHER_DEVICE
    assert offline.request().members["created"] == "2025-09-29T12:00:00Z"


def test_a_file_that_seems_to_have_expired_tells_of_the_clock_too() -> None:
    assert "clock" in FileFault.EXPIRED
    assert "时钟" in fault_texts.CHINESE[FileFault.EXPIRED]


def test_a_file_is_for_this_device_this_product_and_this_root(tmp_path: Path, offline: Offline, clock: Clock) -> None:
    assert refused(offline, license_text(fingerprint="f" * 64)) is FileFault.OTHER_DEVICE
    assert refused(offline, license_text(aud="other")) is FileFault.OTHER_PRODUCT
    assert refused(offline, b"{}") is FileFault.MALFORMED
    assert refused(device(tmp_path, clock, root_public=STRANGER.public), license_text()) is FileFault.UNTRUSTED
    assert offline.installed() is None


def test_a_folder_that_was_copied_to_another_device_gives_it_nothing(tmp_path: Path, clock: Clock) -> None:
    device(tmp_path, clock).install(license_text())
    copied = device(tmp_path, clock, fingerprint="f" * 64)
    assert copied.installed() is None
    assert device(tmp_path, clock).installed() is not None


def test_a_newer_file_replaces_an_older_one_and_never_the_other_way(offline: Offline, clock: Clock) -> None:
    older, newer = license_text(), license_text(issued=NOW + DAY, expiry=NOW + 20 * DAY)
    clock.now = NOW + 2 * DAY
    offline.install(older)
    offline.install(newer)
    assert refused(offline, older) is OfflineFault.OLDER
    assert offline.install(newer) == offline.installed()
    later = offline.install(license_text(generation=3))
    assert refused(offline, newer) is OfflineFault.OLDER
    assert offline.installed() == later


def test_a_file_of_another_license_waits_until_this_one_is_given_back_or_ends(offline: Offline, clock: Clock) -> None:
    other = license_text(device=uuid.UUID(int=9), license=uuid.UUID(int=8), expiry=NOW + 900 * DAY)
    key_of(offline)
    offline.install(license_text())
    assert refused(offline, other) is OfflineFault.OTHER_LICENSE
    clock.now = NOW + 366 * DAY
    assert offline.install(other).license_id == str(uuid.UUID(int=8))


def test_what_one_license_gave_back_says_nothing_of_another(offline: Offline) -> None:
    other = license_text(device=uuid.UUID(int=9), license=uuid.UUID(int=8))
    key_of(offline)
    offline.install(license_text())
    offline.give_back()
    assert offline.install(other) == offline.installed()
    for _ in range(2):
        assert offline.give_back().members["license"] == str(uuid.UUID(int=8))
    assert refused(offline, license_text()) is refused(offline, other) is OfflineFault.GIVEN_BACK
    assert offline.has_given_back(str(DEVICE), 2)
    assert not offline.has_given_back(str(DEVICE), 3)


def test_giving_back_writes_a_receipt_and_ends_the_generation_here(offline: Offline, clock: Clock) -> None:
    public = key_of(offline)
    file, older = license_text(), license_text(generation=1)
    offline.install(file)
    receipt = json.loads(offline.give_back().data)
    assert verified(receipt, public, RECEIPT_TYP)
    del receipt["signature"]
    assert receipt == {
        "form": "seatkeeper-offline-receipt/1",
        "account": str(ACCOUNT),
        "license": str(LICENSE),
        "device": str(DEVICE),
        "generation": 2,
        "created": "2026-11-03T13:00:00Z",
    }
    assert offline.installed() is None
    assert refused(offline, file) is OfflineFault.GIVEN_BACK
    assert refused(offline, older) is OfflineFault.GIVEN_BACK
    assert offline.install(license_text(generation=3)) == offline.installed()


def test_a_request_brings_the_receipt_of_what_was_given_back_until_another_file_is_installed(offline: Offline) -> None:
    public = key_of(offline)
    offline.install(license_text())
    assert "receipt" not in offline.request().members
    receipt = offline.give_back()
    request = offline.request(days=3).members
    assert request["receipt"] == receipt.members
    assert verified(request, public, REQUEST_TYP)
    offline.install(license_text(generation=3))
    assert "receipt" not in offline.request().members


def test_asked_again_it_is_the_same_receipt_until_another_file_is_given_back(offline: Offline, clock: Clock) -> None:
    key_of(offline)
    offline.install(license_text())
    first = offline.give_back().data
    clock.now += DAY
    assert offline.give_back().data == first
    offline.install(license_text(generation=3))
    second = offline.give_back()
    assert second.members["generation"] == 3
    assert offline.give_back().data == second.data
    assert refused(offline, license_text()) is OfflineFault.GIVEN_BACK


def test_a_machine_that_stops_between_receipt_and_removal_runs_on_neither(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    offline = device(tmp_path, clock)
    key_of(offline)
    offline.install(license_text())

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", stop)
        with pytest.raises(KeyboardInterrupt):
            offline.give_back()
    assert (tmp_path / "license.json").exists()
    restarted = device(tmp_path, clock)
    assert restarted.installed() is None
    kept = json.loads((tmp_path / "receipts.json").read_bytes())
    assert restarted.give_back().members == kept[0]
    assert not (tmp_path / "license.json").exists()


def test_an_older_file_put_back_by_hand_is_not_run_on(tmp_path: Path, clock: Clock) -> None:
    offline = device(tmp_path, clock)
    key_of(offline)
    offline.install(license_text())
    offline.give_back()
    (tmp_path / "license.json").write_bytes(license_text())
    assert offline.installed() is None


def test_a_file_that_has_ended_can_still_be_given_back(offline: Offline, clock: Clock) -> None:
    key_of(offline)
    offline.install(license_text())
    clock.now = NOW + 400 * DAY
    assert offline.give_back().members["generation"] == 2


def test_with_nothing_installed_there_is_nothing_to_give_back(offline: Offline) -> None:
    with pytest.raises(ConfigurationError, match="nothing to give back"):
        offline.give_back()


def test_without_its_key_a_file_runs_on_and_is_not_given_back(tmp_path: Path, clock: Clock) -> None:
    offline = device(tmp_path, clock)
    key_of(offline)
    offline.install(license_text())
    (tmp_path / "offline-key.pem").write_bytes(b"damaged")
    with pytest.raises(ConfigurationError, match="set aside"):
        offline.give_back()
    for act in (offline.request, offline.give_back):
        with pytest.raises(ConfigurationError, match="is gone"):
            act()
    assert offline.installed() is not None
    clock.now = NOW + 366 * DAY
    assert offline.request().members["deviceKey"]


@pytest.mark.parametrize("contents", [b"", b"{", b"[1]", b'[{"device": 1}]', b"\xff"])
def test_receipts_that_cannot_be_read_are_set_aside(tmp_path: Path, clock: Clock, contents: bytes) -> None:
    offline = device(tmp_path, clock)
    (tmp_path / "receipts.json").write_bytes(contents)
    assert offline.install(license_text()) == offline.installed()
    (aside,) = tmp_path.glob("receipts.json.corrupt-*")
    assert aside.read_bytes() == contents


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_all_that_is_kept_is_for_its_owner_alone(tmp_path: Path, clock: Clock) -> None:
    offline = device(tmp_path / "state", clock)
    key_of(offline)
    offline.install(license_text())
    offline.give_back()
    offline.install(license_text(generation=3))
    modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in (tmp_path / "state").iterdir()}
    assert modes == {"offline-key.pem": 0o600, "license.json": 0o600, "receipts.json": 0o600}


def test_request_and_receipt_are_shown_as_qr_codes(offline: Offline) -> None:
    request = offline.request(days=3)
    offline.install(license_text())
    receipt = offline.give_back()
    for document in (request, receipt):
        codes = document.qr()
        assert json.loads(codes.text) == document.members
        assert codes.text == qr.encode(document.data).text
        assert len(codes.symbols) == 1


def test_the_documented_members_are_those_that_are_written(offline: Offline, tmp_path: Path, clock: Clock) -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / "offline.md").read_text()
    blocks = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL)]
    request = device(tmp_path / "state", clock, name="x", version="1").request(days=30)
    offline.install(license_text())
    assert [list(block) for block in blocks] == [list(request.members), list(offline.give_back().members)]


def test_every_fault_is_told_in_chinese_too() -> None:
    faults = {str(fault) for kind in (KeyFault, LeaseFault, FileFault, OfflineFault) for fault in kind}
    assert {str(text) for text in fault_texts.CHINESE} == faults | {NO_ROOT_KEY, qr.TOO_LONG}
    assert all(any("\u4e00" <= sign <= "\u9fff" for sign in text) for text in fault_texts.CHINESE.values())


def test_times_are_written_in_utc_to_the_second(tmp_path: Path, clock: Clock) -> None:
    clock.now = datetime.fromisoformat("2026-03-01T01:02:03.999999+02:00")
    assert device(tmp_path, clock).request().members["created"] == "2026-02-28T23:02:03Z"

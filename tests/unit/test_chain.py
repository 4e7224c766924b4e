"""The chain of seals, byte for byte: what was sealed once has to be computed the same by every later version."""

import hashlib
import hmac
import json
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from shared.ledger.chain import GENESIS, Kind, Seal, Tally, line, link, link_dropped, month_of, tallied
from shared.signing.seal import TrailStamp
from shared.signing.secrets import MasterSecrets, Purpose
from tests.builders import NOW, REF, STAMP

ROW: dict[str, Any] = {
    "id": 7,
    "account_id": REF[0],
    "license_id": REF[1],
    "version": 2,
    "at": datetime(2026, 3, 1, 12, 0, 0, 123_456, UTC),
    "actor": "dévice\n",
    "event": "device.activated",
    "device_id": UUID(int=9),
    "generation": 1,
    "reason": None,
    "seats_limit": 3,
    "seats_used": 1,
    "seats_allowed": 3,
}
LINE = (
    '["0190aaaa-0000-7000-8000-000000000001","0190bbbb-0000-7000-8000-000000000002",2,1772366400123456,"dévice\\n",'
    '"device.activated","00000000-0000-0000-0000-000000000009",1,null,3,1,3]'
)


def one_seal(**changes: Any) -> Seal:
    (seal,) = link(None, tallied([ROW]), last_id=9, now=NOW, stamp=STAMP)
    return replace(seal, **changes)


def test_a_row_is_this_text_and_no_other() -> None:
    assert line(ROW) == LINE.encode()
    assert line(ROW | {"at": ROW["at"].astimezone(timezone(timedelta(hours=9)))}) == LINE.encode()


@pytest.mark.parametrize("column", [name for name in ROW if name != "id"])
def test_every_column_is_in_the_text(column: str) -> None:
    value = ROW[column]
    other: object = value + 1 if isinstance(value, int) else UUID(int=1) if isinstance(value, UUID) else "x"
    if isinstance(value, datetime):
        other = value + timedelta(microseconds=1)
    assert line(ROW | {column: other}) != line(ROW)


def test_a_digest_is_over_ids_and_rows_in_their_order() -> None:
    second = ROW | {"id": 8, "version": 3}
    (body,) = tallied([ROW, second])
    hashes = [hashlib.sha256(line(row)).digest() for row in (ROW, second)]
    expected = hashlib.sha256((7).to_bytes(8, "big") + hashes[0] + (8).to_bytes(8, "big") + hashes[1]).digest()
    assert (body.count, body.digest, body.marks) == (2, expected, hashes[0][:8] + hashes[1][:8])
    assert tallied([ROW | {"id": 8}]) != tallied([ROW])


def test_a_seal_is_this_text_and_its_mac_needs_the_secret() -> None:
    seal = one_seal()
    assert json.loads(seal.text()) == [
        "seatkeeper-seal/1",
        1,
        "rows",
        "2026-03",
        1,
        9,
        1,
        seal.digest.hex(),
        hashlib.sha256(seal.marks).hexdigest(),
        1772366400000000,
        "k1",
        "00" * 32,
    ]
    key = MasterSecrets({"k1": bytes(range(32))}, "k1").derive("k1", Purpose.TRAIL_SEAL)
    assert seal.hash == hashlib.sha256(seal.text()).digest() == seal.computed_hash()
    assert seal.mac == hmac.digest(key, seal.hash, "sha256")
    assert seal.head == f"1:{seal.hash.hex()}"


def test_what_was_sealed_by_the_first_version_has_the_same_hash_for_ever() -> None:
    assert one_seal().hash.hex() == "fee842c36c595a8535174e1a07693e9451d32c9da65423ae3ff404973aef6f3e"
    assert one_seal().mac.hex() == "d7f99535e5956420760b60fb4345f89a811aaaa60c80a85ddf116baf72f6b00e"


def test_rows_of_two_months_have_a_seal_each_over_the_same_ids() -> None:
    april = ROW | {"id": 8, "at": datetime(2026, 4, 1, tzinfo=UTC)}
    march = ROW | {"id": 9, "at": april["at"] - timedelta(microseconds=1)}
    first, second = link(None, tallied([ROW, april, march]), last_id=9, now=NOW, stamp=STAMP)
    assert [(seal.number, seal.month, seal.first_id, seal.last_id, seal.count) for seal in (first, second)] == [
        (1, date(2026, 3, 1), 1, 9, 2),
        (2, date(2026, 4, 1), 1, 9, 1),
    ]
    assert (first.previous, second.previous) == (GENESIS, first.hash)


def test_months_are_those_of_utc() -> None:
    east = timezone(timedelta(hours=14))
    assert month_of({"at": datetime(2026, 4, 1, 13, 59, tzinfo=east)}) == date(2026, 3, 1)
    assert month_of({"at": datetime(2026, 4, 1, 14, tzinfo=east)}) == date(2026, 4, 1)


def test_a_dropped_month_takes_no_ids() -> None:
    head = one_seal()
    (dropped,) = link_dropped(head, [date(2025, 1, 1)], now=NOW, stamp=STAMP)
    (after,) = link(dropped, tallied([ROW | {"id": 10}]), last_id=12, now=NOW, stamp=STAMP)
    assert (dropped.kind, dropped.number, dropped.count, dropped.previous) == (Kind.DROPPED, 2, 0, head.hash)
    assert (dropped.first_id, dropped.last_id, after.first_id) == (10, 9, 10)


def test_an_empty_tally_has_the_digest_of_nothing() -> None:
    assert Tally().body(date(2026, 1, 1)).digest == hashlib.sha256().digest()


def test_a_stamp_fits_its_own_hash_under_its_own_secret_alone() -> None:
    ours = TrailStamp(MasterSecrets({"k1": b"1" * 32, "k2": b"2" * 32}, "k2"))
    theirs = TrailStamp(MasterSecrets({"k2": b"3" * 32}, "k2"))
    mac = ours.make(b"h" * 32)
    assert ours.key_id == "k2"
    assert ours.fits("k2", b"h" * 32, mac) is True
    assert ours.fits("k1", b"h" * 32, mac) is False
    assert ours.fits("k2", b"g" * 32, mac) is False
    assert theirs.fits("k2", b"h" * 32, mac) is False
    assert theirs.fits("k1", b"h" * 32, mac) is None

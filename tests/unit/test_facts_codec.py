"""Facts as messages: bounded, keyed by the kind of license, and never out of order within a license."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from shared.facts.codec import MESSAGE_BYTES, MESSAGE_FACTS, pack, routing_key, unpack
from shared.facts.topology import OTHER
from shared.ledger.reader import LicenseRef
from shared.licensing.facts import SCHEMA, decode, encode
from shared.licensing.model import Kind
from tests.facts import LATER_SCHEMA, make_fact, make_facts, new_ref

NODE_LOCKED, FLOATING = "fact.node_locked", "fact.floating"
LICENSES = [(new_ref(), kind) for kind in (Kind.NODE_LOCKED, Kind.FLOATING) for _ in range(2)]


def written(**changes: Any) -> bytes:
    fact: dict[str, Any] = json.loads(encode(make_fact(1)))
    return json.dumps(fact | changes).encode()


def test_the_key_tells_the_kind_of_license() -> None:
    assert routing_key(make_facts([1])[0]) == NODE_LOCKED
    assert routing_key(make_facts([1], kind=Kind.FLOATING)[0]) == FLOATING


@pytest.mark.parametrize(
    "fact", ["", "null", "{}", LATER_SCHEMA, written(terms={"kind": "metered"}).decode(), written(terms=[]).decode()]
)
def test_what_cannot_be_read_is_for_everyone(fact: str) -> None:
    assert routing_key(fact) == OTHER


def test_a_fact_nested_too_deep_is_unreadable_and_spoils_none_beside_it() -> None:
    deep = f'{{"later":{"[" * 9000}{"]" * 9000},{make_facts([1])[0][1:]}'
    (good,) = make_facts([2])
    facts, unreadable = unpack(f"{deep}\n{good}".encode())
    assert [fact.version for fact in facts] == [2]
    assert len(unreadable) == 1
    assert routing_key(deep) == OTHER


def test_facts_come_back_as_they_were_packed() -> None:
    facts = make_facts(range(1, 4))
    (parcel,) = pack(facts)
    assert (parcel.key, parcel.facts) == (NODE_LOCKED, 3)
    assert [encode(fact) for fact in unpack(parcel.body).facts] == facts
    assert pack([]) == []


def test_a_message_holds_so_many_facts_and_no_more() -> None:
    assert [parcel.facts for parcel in pack(make_facts(range(2 * MESSAGE_FACTS + 1)))] == [MESSAGE_FACTS] * 2 + [1]


def test_a_message_holds_so_many_bytes_unless_one_fact_alone_is_longer() -> None:
    def of_size(version: int, size: int) -> str:
        fact = make_fact(version)
        assert fact.device is not None
        return encode(replace(fact, device=replace(fact.device, name="x" * size)))

    facts = [of_size(1, 100), of_size(2, MESSAGE_BYTES), of_size(3, MESSAGE_BYTES // 2), of_size(4, MESSAGE_BYTES // 3)]
    parcels = pack(facts)
    assert [parcel.facts for parcel in parcels] == [1, 1, 2]
    assert [fact.version for parcel in parcels for fact in unpack(parcel.body).facts] == [1, 2, 3, 4]


@given(st.lists(st.one_of(st.sampled_from(range(len(LICENSES))), st.just(None)), max_size=60), st.integers(1, 5))
def test_packing_keeps_every_fact_and_the_order_of_each_license(events: list[int | None], limit: int) -> None:
    """None is a fact that cannot be read: it may be of any license."""
    facts = [
        LATER_SCHEMA if one is None else encode(make_fact(at, ref=LICENSES[one][0], kind=LICENSES[one][1]))
        for at, one in enumerate(events)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shared.facts.codec.MESSAGE_FACTS", limit)
        parcels = pack(facts)
    sent = [line.decode() for parcel in parcels for line in parcel.body.split(b"\n")]
    assert sorted(sent) == sorted(facts)
    assert all(parcel.facts <= limit for parcel in parcels)
    for ref, _ in LICENSES:
        assert of_license(sent, ref) == of_license(facts, ref)


def of_license(facts: list[str], ref: LicenseRef) -> list[str]:
    """The license's facts, and those that may be its."""
    return [fact for fact in facts if fact == LATER_SCHEMA or decode(fact).license_id == ref[1]]


def test_members_that_a_reader_does_not_know_are_passed_over() -> None:
    unpacked = unpack(written(somethingNew={"a": [1]}))
    assert ([fact.version for fact in unpacked.facts], unpacked.unreadable) == ([1], [])


def test_an_event_that_a_reader_does_not_know_is_a_fact_all_the_same() -> None:
    assert [fact.type for fact in unpack(written(type="device.cloned")).facts] == ["device.cloned"]


@pytest.mark.parametrize(
    "line",
    [b"", b"\xff", b"\x00", b"[]", b"{", written(schema=SCHEMA + 1), written(reason="bored"), written(version="1")],
)
def test_a_line_that_cannot_be_read_spoils_none_beside_it(line: bytes) -> None:
    one, two = (fact.encode() for fact in make_facts([1, 2]))
    unpacked = unpack(b"\n".join([one, line, two]))
    assert [fact.version for fact in unpacked.facts] == [1, 2]
    assert len(unpacked.unreadable) == 1


def test_an_older_schema_can_be_read() -> None:
    assert len(unpack(written(schema=0)).facts) == 1


def test_a_later_schema_is_named() -> None:
    assert unpack(LATER_SCHEMA.encode()).unreadable == [f"schema {SCHEMA + 1} is newer than this release's {SCHEMA}"]
    assert msgspec.json.decode(LATER_SCHEMA)["schema"] == SCHEMA + 1

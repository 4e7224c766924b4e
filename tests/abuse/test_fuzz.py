"""Parsers under input that nobody meant: the declared outcome and nothing else, soon, and what is read has one form.

Each is tried with valid inputs changed by chance, and with inputs that have the right structure and odd contents.
"""

import json
import re
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import rfc8785
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.activation.messages import ActivateBody, ReleaseBody, ValidateBody
from services.heartbeat.messages import FleetBody, FleetItem, HeartbeatBody
from shared.facts import codec
from shared.facts.topology import KEY_PREFIX, OTHER
from shared.licensing import facts
from shared.licensing.codes import Code
from shared.licensing.license_key import LONGEST, SHORTEST, KeyFault, LicenseKey, format_key, read_key
from shared.licensing.model import Kind
from shared.signing import activation_token, jws, license_file
from shared.signing.device_token import DeviceClaims
from shared.signing.license_file import FileFault, LicenseFile
from shared.web.bodies import decode_json
from shared.web.problems import ProblemError
from tests.abuse.conftest import WHOLE, Table
from tests.abuse.mutations import fuzz
from tests.abuse.papers import (
    ACTIVATION,
    CERTIFICATE,
    CLAIMS,
    DEVICE_TOKEN,
    FILE_ED25519,
    FILE_RSA,
    LEASE,
    NOW,
    OURS,
    PRODUCT,
    TOKENS,
    accepts_activation_token,
    accepts_certificate,
    accepts_device_token,
    accepts_lease,
    as_text,
)
from tests.facts import LATER_SCHEMA, make_fact, make_facts

TRIES = 200_000 if WHOLE else 4_000
EXAMPLES = 5_000 if WHOLE else 150

thoroughly = settings(
    max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=False
)

ODD_TEXT = st.text() | st.sampled_from(
    ["", "\0", "a\n", "\u2028", "é", "e\u0301", "💻", " x ", "x" * 5000, "2026-11-03"]
)
ODD_NUMBERS = st.integers() | st.floats() | st.sampled_from([0, -1, 2**31, 2**53, 2**63, 2**64, 10**40, -0.0, 1e300])
ODD: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | ODD_NUMBERS | ODD_TEXT | st.uuids().map(str),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ODD_TEXT, inner, max_size=4),
    max_leaves=8,
)


def changed(members: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The members with some left out, some odd, and some that nobody knows."""
    names = st.sampled_from(sorted(members))
    some = st.dictionaries(names, ODD, max_size=1) | st.dictionaries(names, ODD, max_size=3)
    unknown = st.dictionaries(ODD_TEXT, ODD, max_size=2)
    return st.tuples(unknown, some, st.just(set[str]()) | st.sets(names, max_size=1)).map(
        lambda chosen: {
            name: value for name, value in (chosen[0] | members | chosen[1]).items() if name not in chosen[2]
        }
    )


def structured(table: Table, name: str, inputs: st.SearchStrategy[bytes], check: Callable[[bytes], bool]) -> None:
    """A row: each input is checked as in `fuzz`; the first that fails is shrunk and told."""
    seen = [0, 0]

    @thoroughly
    @given(inputs)
    def try_all(data: bytes) -> None:
        seen[0] += 1
        seen[1] += check(data)

    try_all()
    table.row(f"fuzzing: {name}, odd contents", tried=seen[0], got_through=0, note=f"{seen[1]} were read")


def dumped(members: object) -> bytes:
    return json.dumps(members).encode()


# --- License keys -----------------------------------------------------------------------------------------------


def check_key(data: bytes) -> bool:
    text = data.decode("utf-8", "surrogateescape")
    key = read_key(text)
    if isinstance(key, KeyFault):
        return False
    assert isinstance(key, LicenseKey)
    assert read_key(key.canonical) == key
    assert key.canonical.startswith(key.prefix)
    assert key.canonical not in repr(key)
    if key.imported:
        assert key.canonical == text.strip()
        assert SHORTEST <= len(key.canonical) <= LONGEST
        assert key.canonical.isprintable()
    else:
        groups = [key.canonical[at : at + 4] for at in range(0, 28, 4)]
        assert all(read_key(join.join(groups).lower()) == key for join in ("-", " ", "\u2011"))
    return True


def test_license_keys(table: Table) -> None:
    ours = [format_key(bytes([one]) * 17).encode() for one in (0, 7, 255)]
    imported = [b"IMPORTED-key_of.another-shape", "schlüssel-mit-ümlaut".encode(), b"x" * LONGEST]
    fuzz(table, "license keys", ours + imported, check_key, tries=TRIES)
    alphabet = st.text("0123456789ABCDEFGHJKMNPQRSTVWXYZilo -\u2011\u00a0\u200b", min_size=20, max_size=45)
    texts = st.binary(min_size=17, max_size=17).map(format_key) | alphabet.map("1".__add__) | ODD_TEXT
    structured(table, "license keys", texts.map(lambda text: text.encode("utf-8", "surrogatepass")), check_key)


# --- License files ----------------------------------------------------------------------------------------------

FILES = [FILE_RSA.genuine, FILE_ED25519.genuine]
MEANINGS = {rfc8785.dumps(json.loads(file)) for file in FILES}


def check_file(data: bytes) -> bool:
    read = license_file.verify(data, OURS.root.public, PRODUCT, NOW)
    if isinstance(read, FileFault):
        return False
    assert isinstance(read, LicenseFile)
    assert rfc8785.dumps(json.loads(data)) in MEANINGS
    return True


def check_signed_file(data: bytes) -> bool:
    """Any members at all under a good signature: what is read of them is written and read again."""
    try:
        signed = rfc8785.dumps(json.loads(data))
    except ValueError:
        return False
    file = FILE_ED25519.with_signature(jws.sign_detached(OURS.leaf, license_file.TYP, signed), signed)
    read = license_file.verify(file, OURS.root.public, PRODUCT, NOW)
    if isinstance(read, FileFault):
        return False
    again = license_file.verify(license_file.sign(OURS.leaf, read), OURS.root.public, PRODUCT, NOW)
    whole = msgspec.structs.replace(
        read, issued=read.issued.replace(microsecond=0), expiry=read.expiry.replace(microsecond=0)
    )
    assert again == whole or (again is FileFault.EXPIRED and read.expiry - NOW < timedelta(seconds=1))
    return True


def test_license_files(table: Table) -> None:
    compact = [
        json.dumps(json.loads(file), separators=(",", ":"), ensure_ascii=ascii).encode()
        for file, ascii in zip(FILES, (True, False), strict=True)
    ]
    fuzz(table, "license files", FILES + compact, check_file, tries=TRIES)
    members = changed(json.loads(FILE_ED25519.payload)).filter(lambda one: "signature" not in one)
    structured(table, "license files, signed", members.map(dumped), check_signed_file)


# --- Tokens -----------------------------------------------------------------------------------------------------


def check_tokens(data: bytes) -> bool:
    """Every verifier of compact documents, with every document."""
    text = as_text(data)
    believed = [
        accepts_lease(data),
        accepts_certificate(data),
        accepts_activation_token(data),
        text is not None and jws.verify(text, OURS.public, LEASE.typ) is not None,
    ]
    account = None if text is None else activation_token.peek_account(text)
    assert account is None or isinstance(account, uuid.UUID)
    assert not any(believed) or data in JWS_TEXTS
    return any(believed)


JWS_TEXTS = [LEASE.genuine, ACTIVATION.genuine, CERTIFICATE.genuine]


def check_device_token(data: bytes) -> bool:
    text = data.decode("utf-8", "surrogateescape")
    claims = TOKENS.verify(text)
    assert claims is None or (TOKENS.issue(claims) == text and claims == CLAIMS)
    assert accepts_device_token(data) == (claims is not None)
    return claims is not None


def test_tokens(table: Table) -> None:
    fuzz(table, "signed tokens", JWS_TEXTS, check_tokens, tries=TRIES)
    fuzz(table, "device tokens", [DEVICE_TOKEN.encode()], check_device_token, tries=TRIES)
    assert isinstance(TOKENS.verify(DEVICE_TOKEN), DeviceClaims)


def test_claims_under_a_good_signature(table: Table) -> None:
    """What the account's own key signed may still have any shape."""

    def check(data: bytes) -> bool:
        lease = LEASE.built(LEASE.header, payload=data)
        token = ACTIVATION.built(ACTIVATION.header, payload=data).decode()
        accepts_certificate(CERTIFICATE.built(CERTIFICATE.header, payload=data))
        accepts_lease(lease)
        claims = activation_token.verify(token, OURS.public)
        if claims is None:
            return False
        assert activation_token.verify(activation_token.issue(OURS.leaf, claims), OURS.public) == claims
        assert activation_token.peek_account(token) == claims.iss
        return True

    payloads = [json.loads(paper.payload) for paper in (LEASE, ACTIVATION, CERTIFICATE)]
    inputs = st.one_of([changed(one).map(dumped) for one in payloads]) | ODD.map(dumped) | st.binary(max_size=64)
    structured(table, "claims, signed", inputs, check)
    fuzz(table, "claims, signed", [ACTIVATION.payload], check, tries=TRIES // 4)


# --- Bodies -----------------------------------------------------------------------------------------------------

BODIES: list[tuple[msgspec.json.Decoder[Any], dict[str, Any]]] = [
    (
        msgspec.json.Decoder(ActivateBody),
        {
            "licenseKey": "1000-0000-0000-0000-0000-0000-000B",
            "fingerprint": "0f" * 32,
            "timestamp": 1795341966,
            "nonce": "n",
            "name": "Ada’s laptop",
            "version": "2.3.1",
            "entitlements": ["export"],
        },
    ),
    (msgspec.json.Decoder(ValidateBody), {"key": "1000-0000", "fingerprint": "a", "entitlements": []}),
    (msgspec.json.Decoder(ReleaseBody), {"deviceId": "d", "licenseKey": "1000", "generation": 3}),
    (
        msgspec.json.Decoder(HeartbeatBody),
        {"deviceToken": DEVICE_TOKEN, "validUntil": "2026-11-29T10:06:06Z", "nonce": "n", "counter": 7, "leave": False},
    ),
    (msgspec.json.Decoder(FleetBody), {"heartbeats": [{"deviceToken": DEVICE_TOKEN, "counter": 1}] * 2}),
    (msgspec.json.Decoder(FleetItem), {"deviceToken": DEVICE_TOKEN, "nonce": "n"}),
]  # fmt: skip
NAMES = {
    field.encode_name
    for decoder, _ in BODIES
    if isinstance(decoder.type, type)
    for field in msgspec.structs.fields(decoder.type)
}


def check_body(data: bytes) -> bool:
    """With every decoder: a struct that is written and read again, or a refusal that repeats nothing of the input."""
    return sum(check_body_as(decoder, data) for decoder, _ in BODIES) > 0


def check_body_as(decoder: msgspec.json.Decoder[Any], data: bytes) -> bool:
    try:
        read = decode_json(data, decoder)
    except ProblemError as error:
        refusal = error
    else:
        return is_written_and_read_again(decoder, data, read)
    assert refusal.code is Code.REQUEST_INVALID
    named = re.sub(r"\[([0-9]+|\.\.\.)\]", "", str(refusal.members.get("field") or ""))
    assert not named or set(named.split(".")) <= NAMES, named
    return False


def is_written_and_read_again(decoder: msgspec.json.Decoder[Any], data: bytes, read: object) -> bool:
    assert type(read) is decoder.type
    data.decode()
    written = msgspec.json.encode(read)
    assert msgspec.json.encode(decode_json(written, decoder)) == written
    return True


def test_request_bodies(table: Table) -> None:
    corpus = [dumped(members) for _, members in BODIES]
    fuzz(table, "request bodies", corpus, check_body, tries=TRIES // 2)
    inputs = st.one_of([changed(members).map(dumped) for _, members in BODIES]) | ODD.map(dumped)
    structured(table, "request bodies", inputs, check_body)


# --- Facts ------------------------------------------------------------------------------------------------------

KEYS = {OTHER, *(KEY_PREFIX + kind for kind in Kind)}


def check_message(body: bytes) -> bool:
    """Every line is a fact or is told as unreadable; a fact is written and read again; packing loses nothing."""
    read, unreadable = codec.unpack(body)
    lines = body.split(b"\n")
    assert len(read) + len(unreadable) == len(lines)
    for fact in read:
        written = facts.encode(fact)
        assert facts.decode(written) == fact
        assert facts.encode(facts.decode(written)) == written
    texts = [line.decode() for line in lines if as_text(line) is not None]
    parcels = codec.pack(texts)
    assert {parcel.key for parcel in parcels} <= KEYS
    assert sorted(line for parcel in parcels for line in parcel.body.split(b"\n")) == sorted(map(str.encode, texts))
    return bool(read)


def test_messages_of_facts(table: Table) -> None:
    floating, locked = make_facts([1, 2], kind=Kind.FLOATING), make_facts([3])
    corpus = ["\n".join(floating), locked[0], "\n".join([*locked, LATER_SCHEMA]), "\n".join([*floating, *locked])]
    fuzz(table, "messages of facts", [one.encode() for one in corpus], check_message, tries=TRIES // 4)
    members = json.loads(facts.encode(make_fact(1)))
    inner = st.tuples(changed(members), changed(members["terms"]), changed(members["device"]), st.booleans())
    lines = inner.map(lambda one: dumped(one[0] | ({"terms": one[1], "device": one[2]} if one[3] else {})))
    structured(table, "messages of facts", st.lists(lines, max_size=3).map(b"\n".join), check_message)

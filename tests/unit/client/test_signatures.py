"""What the client takes for signed is what the server signs, and nothing else: both are asked about the same texts."""

import base64
import json
import re
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from seatkeeper import base64url, public_keys, signatures
from seatkeeper.errors import ConfigurationError
from shared.signing import base64url as server_base64url
from shared.signing import jws, keys
from shared.signing.answer_mac import answer_mac
from shared.signing.keyring import new_account_keys, new_rsa_leaf, verify_certificate

ROOT_OF_TREE = Path(__file__).resolve().parents[3]
NOW = datetime(2026, 11, 3, 12, tzinfo=UTC)
ACCOUNT = uuid.UUID(int=1)
ROOT, LEAF, CERTIFICATE = new_account_keys(ACCOUNT, NOW)
RSA, RSA_CERTIFICATE = new_rsa_leaf(ROOT, ACCOUNT, NOW)
TYP = "seatkeeper-test+jwt"
CLAIMS = {"iss": str(ACCOUNT), "n": 1}
TOKEN = jws.sign(LEAF, TYP, CLAIMS)

TEXTS = st.text(st.sampled_from("AQgwZz09-_+/=\n é"), max_size=12)
MEMBERS = st.dictionaries(st.text(max_size=8), st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=8), max_size=4)


@st.composite
def altered(draw: st.DrawFn, text: str) -> str:
    """The text with some of it replaced, put in or taken out."""
    at = draw(st.integers(0, len(text)))
    put = draw(st.text(st.sampled_from("AQgw09-_.=+/ é"), max_size=2))
    return text[:at] + put + text[at + draw(st.integers(0, 2)) :]


@given(st.binary(max_size=40))
def test_base64url_is_written_as_the_server_writes_it_and_read_back(data: bytes) -> None:
    assert base64url.encode(data) == server_base64url.encode(data).decode()
    assert base64url.decode(base64url.encode(data)) == data


@given(TEXTS)
def test_base64url_is_read_as_strictly_as_by_the_server(text: str) -> None:
    assert base64url.decode(text) == server_base64url.decode(text.encode())


@given(MEMBERS)
def test_a_document_that_the_server_signed_is_read_whatever_it_says(claims: dict[str, Any]) -> None:
    payload = signatures.verified(jws.sign(LEAF, TYP, claims), LEAF.public, TYP)
    assert payload is not None
    assert json.loads(payload) == claims


@given(altered(TOKEN))
def test_an_altered_document_is_refused(text: str) -> None:
    payload = signatures.verified(text, LEAF.public, TYP)
    assert (payload is not None) == (text == TOKEN)
    assert payload == jws.verified_payload(text, {LEAF.kid: LEAF.public}, TYP)


@given(st.text(max_size=60))
def test_any_text_at_all_is_no_more_than_refused(text: str) -> None:
    assert signatures.verified(text, LEAF.public, TYP) is None
    assert not signatures.is_signed_detached(text, b"", LEAF.public, TYP)
    assert signatures.certified_leaf(text, ROOT.public, account=str(ACCOUNT), now_s=NOW.timestamp()) is None


def test_another_key_and_another_kind_of_document_are_refused() -> None:
    assert signatures.verified(TOKEN, LEAF.public, TYP) is not None
    assert signatures.verified(TOKEN, ROOT.public, TYP) is None
    assert signatures.verified(TOKEN, RSA.public, TYP) is None
    assert signatures.verified(TOKEN, LEAF.public, "seatkeeper-lease+jwt") is None


def with_header(header: bytes) -> str:
    """A document that is truly signed by the leaf, under a header of any form."""
    signing_input = f"{base64url.encode(header)}.{base64url.encode(b'{}')}"
    return f"{signing_input}.{base64url.encode(LEAF.private.sign(signing_input.encode()))}"


@pytest.mark.parametrize(
    "change",
    [
        {"alg": "none"},
        {"alg": "PS256"},
        {"alg": "eddsa"},
        {"kid": ROOT.kid},
        {"kid": None},
        {"typ": "JWT"},
        {"crit": ["b64"], "b64": False},
        {"jwk": keys.public_jwk(LEAF.public)},
    ],
)
def test_a_header_has_exactly_its_three_members(change: dict[str, Any]) -> None:
    header = {"alg": "EdDSA", "kid": LEAF.kid, "typ": TYP}
    assert signatures.verified(with_header(json.dumps(header).encode()), LEAF.public, TYP) == b"{}"
    assert signatures.verified(with_header(json.dumps(header | change).encode()), LEAF.public, TYP) is None
    twice = json.dumps(header)[:-1] + f', "typ": "{TYP}"}}'
    assert signatures.verified(with_header(twice.encode()), LEAF.public, TYP) is None
    padded = json.dumps(header) + " " * 250
    assert signatures.verified(with_header(padded.encode()), LEAF.public, TYP) is None


@pytest.mark.parametrize("key", [LEAF, RSA], ids=["Ed25519", "RSA"])
def test_a_detached_signature_holds_for_its_bytes_its_key_and_its_kind(
    key: keys.SigningKey | keys.RsaSigningKey,
) -> None:
    text = jws.sign_detached(key, TYP, b"payload")
    assert signatures.is_signed_detached(text, b"payload", key.public, TYP)
    assert not signatures.is_signed_detached(text, b"payloae", key.public, TYP)
    assert not signatures.is_signed_detached(text, b"payload", ROOT.public, TYP)
    assert not signatures.is_signed_detached(text, b"payload", key.public, TYP + "x")
    middle = base64url.encode(b"payload")
    assert not signatures.is_signed_detached(text.replace("..", f".{middle}."), b"payload", key.public, TYP)


@pytest.mark.parametrize("key", [LEAF, RSA], ids=["Ed25519", "RSA"])
@given(data=st.data())
def test_an_altered_detached_signature_is_refused(
    key: keys.SigningKey | keys.RsaSigningKey, data: st.DataObject
) -> None:
    whole = jws.sign_detached(key, TYP, b"payload")
    text = data.draw(altered(whole))
    assert signatures.is_signed_detached(text, b"payload", key.public, TYP) == (text == whole)


@given(st.binary(min_size=32, max_size=32), MEMBERS)
def test_the_server_reads_what_a_device_signs(seed: bytes, members: dict[str, Any]) -> None:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    public, payload = private.public_key().public_bytes_raw(), rfc8785.dumps(members)
    text = signatures.sign_detached(private, TYP, payload)
    assert jws.is_signed_detached(text, payload, public, TYP)
    assert not jws.is_signed_detached(text, payload + b" ", public, TYP)
    assert text == jws.sign_detached(keys.load_signing_key(seed, "leaf"), TYP, payload)


@pytest.mark.parametrize("certificate", [CERTIFICATE, RSA_CERTIFICATE], ids=["Ed25519", "RSA"])
@pytest.mark.parametrize("account", [ACCOUNT, uuid.UUID(int=2)])
@pytest.mark.parametrize("root", [ROOT, LEAF])
@pytest.mark.parametrize("days", [-0.01, -0.003, 0, 3652, 3653, 4000])
def test_a_leaf_is_certified_for_an_account_and_a_time_as_the_server_has_it(
    certificate: str, account: uuid.UUID, root: keys.SigningKey, days: float
) -> None:
    now = NOW + timedelta(days=days)
    expected = verify_certificate(root.public, certificate, now, account=account)
    leaf = signatures.certified_leaf(certificate, root.public, account=str(account), now_s=now.timestamp())
    assert leaf == (None if expected is None else keys.public_of(expected))
    assert (leaf is not None) == ((account, root) == (ACCOUNT, ROOT) and -0.0035 < days < 3653)


@pytest.mark.parametrize(
    "change", [{"alg": "EdDSA"}, {"e": "Aw"}, {"kid": ROOT.kid}, {"use": "enc"}, {"more": "x"}, {"kty": "OKP"}]
)
def test_a_leaf_in_another_form_is_certified_for_nothing(change: dict[str, str]) -> None:
    jwk = keys.public_jwk(RSA.public)
    assert public_keys.public_of(jwk) == RSA.public
    assert public_keys.public_of(jwk | change) is None
    assert public_keys.public_of({name: value for name, value in jwk.items() if name != "use"}) is None


def test_keys_under_which_a_signature_says_nothing_are_those_of_the_server() -> None:
    prime = 2**255 - 19
    order_8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
    ys = [0, 1, 2, 3, prime - 2, prime - 1, *range(prime, 2**255), order_8, prime - order_8, order_8 + 1]
    points = [(y | sign).to_bytes(32, "little") for y in ys for sign in (0, 1 << 255)]
    even, short = RSA.public[:-1] + b"\0", bytes(1) + RSA.public[1:]
    others = [even, short, b"", bytes(31), RSA.public + b"\1", ROOT.public, RSA.public]
    assert [public_keys.is_sound(key) for key in points + others] == [keys.is_sound(key) for key in points + others]
    assert sum(not public_keys.is_sound(point) for point in points) == 2 * (3 + 19 + 2)


@pytest.mark.parametrize("point", [bytes([1]) + bytes(31), (2**255 - 18).to_bytes(32, "little")])
def test_a_signature_that_holds_for_any_document_is_refused(point: bytes) -> None:
    """Under a point of small order `R` the point itself and `S` zero are a signature of whatever is wanted."""
    header = json.dumps({"alg": "EdDSA", "kid": public_keys.thumbprint(point), "typ": TYP}).encode()
    signature = bytes([1]) + bytes(63)
    token = ".".join(map(base64url.encode, (header, b"{}", signature)))
    Ed25519PublicKey.from_public_bytes(bytes([1]) + bytes(31)).verify(signature, b"whatever is wanted")
    assert signatures.verified(token, point, TYP) is None


@given(st.binary(min_size=32, max_size=32))
def test_keys_have_the_names_that_the_server_gives_them(public: bytes) -> None:
    assert public_keys.thumbprint(public) == keys.thumbprint(public)
    assert public_keys.thumbprint(public * 12) == keys.thumbprint(public * 12)


def test_a_root_key_is_read_in_each_form_that_the_vendor_may_hold(tmp_path: Path) -> None:
    short, jwk = base64url.encode(ROOT.public), keys.public_jwk(ROOT.public)
    for text in (
        short,
        f"  {short}\n",
        json.dumps(jwk),
        json.dumps({"kty": "OKP", "crv": "Ed25519", "x": short}),
        json.dumps({"id": "x", "rootKey": jwk}, indent=2),
        json.dumps({"rootKey": short}),
    ):
        file = tmp_path / "root.json"
        file.write_text(text + "\n")
        assert signatures.read_root_key(text) == signatures.read_root_key(str(file)) == ROOT.public


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "no/such/file",
        "/",
        "\0",
        base64url.encode(bytes(32)),
        base64url.encode(ROOT.public[:31]),
        base64url.encode(ROOT.public) + "=",
        json.dumps(keys.public_jwk(RSA.public)),
        json.dumps(keys.public_jwk(ROOT.public) | {"crv": "X25519"}),
        json.dumps({"rootKey": 1}),
        "{",
        '{"kty": "OKP", "crv": "Ed25519", "x": 1}',
        "{" * 9000,
    ],
    ids=range(14),
)
def test_what_is_no_root_key_is_a_fault_of_the_configuration(text: str) -> None:
    with pytest.raises(ConfigurationError, match="43 characters"):
        signatures.read_root_key(text)


# --- Answers ----------------------------------------------------------------------------------------------------

DEVICE = "00000000-0000-0000-0000-000000000003"


def documented() -> tuple[str, list[dict[str, Any]]]:
    text = (ROOT_OF_TREE / "docs" / "api.md").read_text().partition("### Is the answer genuine?")[2]
    (token,) = set(re.findall(r"`(skd1\.[\w-]+)`", text))
    blocks = re.findall(r"```json\n(.*?)```", text.partition("\n### ")[0], re.DOTALL)
    return token, [json.loads(block) for block in blocks]


def test_the_documented_answers_are_genuine_and_no_member_can_be_changed() -> None:
    token, answers = documented()
    assert len(answers) == 2
    for answer in answers:
        nonce = answer.get("nonce")
        assert signatures.answer_is_genuine(token, answer, device_id=DEVICE, nonce=nonce)
        assert not signatures.answer_is_genuine(token[:-1] + "r", answer, device_id=DEVICE, nonce=nonce)
        assert not signatures.answer_is_genuine(token, answer, device_id=DEVICE[:-1] + "4", nonce=nonce)
        assert not signatures.answer_is_genuine(token, answer, device_id=DEVICE, nonce="n-2")
        for member in answer.keys() - {"status", "reason", "limit", "used"}:
            value: Any
            for value in ("x", 0, None, True, [], "\ud800"):
                changed = answer | {member: value}
                assert not signatures.answer_is_genuine(token, changed, device_id=DEVICE, nonce=nonce), changed


@given(
    state=st.sampled_from(["active", "released", "LICENSE_SUSPENDED"]),
    generation=st.integers(0, 2**31),
    valid_until=st.none() | st.just("2026-11-29T10:06:06Z"),
    next_heartbeat_in=st.none() | st.integers(1, 86_400),
    nonce=st.none() | st.text(st.characters(codec="utf-8"), min_size=1, max_size=64),
)
def test_what_the_server_answers_is_genuine(
    state: str, generation: int, valid_until: str | None, next_heartbeat_in: int | None, nonce: str | None
) -> None:
    token = "skd1." + base64.urlsafe_b64encode(bytes(range(60))).decode()
    mac = answer_mac(
        token,
        outcome=state,
        device_id=DEVICE,
        generation=generation,
        lease_expires_at="2027-02-20T10:06:06Z",
        valid_until=valid_until,
        next_heartbeat_in=next_heartbeat_in or "",
        server_time="2026-11-22T10:06:06Z",
        nonce=nonce,
    )
    answer = {
        "code" if state.isupper() else "state": state,
        "deviceId": DEVICE,
        "generation": generation,
        "leaseExpiresAt": "2027-02-20T10:06:06Z",
        "validUntil": valid_until,
        "nextHeartbeatIn": next_heartbeat_in,
        "serverTime": "2026-11-22T10:06:06Z",
        "nonce": nonce,
        "mac": mac,
    }
    given = {name: value for name, value in answer.items() if value is not None}
    assert signatures.answer_is_genuine(token, given, device_id=DEVICE, nonce=nonce)
    assert not signatures.answer_is_genuine(token, given | {"mac": mac[:-1]}, device_id=DEVICE, nonce=nonce)
    del given["mac"]
    assert not signatures.answer_is_genuine(token, given, device_id=DEVICE, nonce=nonce)

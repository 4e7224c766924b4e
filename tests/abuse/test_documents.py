"""Documents under attack: bent, cut, signed otherwise, under other names or for others. Nothing of it is believed.

Each attack first shows that what it starts from is believed. Of a license file, texts with one canonical form are one
file; which those are is decided here by another reader than the platform's.
"""

import json
import random
import struct
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import joserfc.jws
import jwt
import pytest
import rfc8785
from joserfc.jwk import OKPKey, RSAKey

from shared.signing import jws
from shared.signing.device_token import DeviceClaims, DeviceTokens
from shared.signing.keyring import CERTIFICATE_TYP
from shared.signing.keys import RsaSigningKey, SigningKey, public_jwk
from shared.signing.secrets import MasterSecrets
from tests.abuse import papers
from tests.abuse.conftest import WHOLE
from tests.abuse.papers import (
    ACTIVATION,
    ALL,
    CERTIFICATE,
    CLAIMS,
    DEVICE_TOKEN,
    FILE_RSA,
    FILES,
    LEASE,
    NOW,
    OURS,
    PAPERS,
    PRODUCT,
    STRANGER,
    THEIRS,
    TOKENS,
    Paper,
    activation_claims,
    b64,
    certificate_claims,
    file_claims,
    lease_claims,
    signer,
    unb64,
)
from tests.abuse.tally import Tally, tell

pytest_plugins = ["tests.abuse.tally"]

RANDOM = random.Random(20261103)
WHITESPACE = b" \t\n\r"

every_document = pytest.mark.parametrize("name", ALL)
every_paper = pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: paper.name)


# --- Bytes ------------------------------------------------------------------------------------------------------


def reading(data: bytes) -> bytes | None:
    """What a license file says, by a reader of its own: the canonical form; None where it is not one clear object."""

    def once(members: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(members)) == len(members)
        return dict(members)

    try:
        return rfc8785.dumps(json.loads(data.decode("utf-8"), object_pairs_hook=once))
    except (ValueError, AssertionError):
        return None


def compare(tally: Tally, attack: str, name: str, bent: Iterable[bytes]) -> None:
    """Changed texts of a document: only a file with the same canonical form may be believed, and it has to be."""
    genuine, accepts = ALL[name]
    meaning = reading(genuine)
    assert accepts(genuine)
    tried = same = got_through = 0
    for one in bent:
        is_same = one == genuine or (meaning is not None and reading(one) == meaning)
        believed = accepts(one)
        assert believed or not is_same, one
        tried, same, got_through = tried + 1, same + is_same, got_through + (believed and not is_same)
    tally.add(attack, name, tried=tried - same, got_through=got_through, same=same)


def flipped(data: bytes) -> Iterator[bytes]:
    for at in range(len(data)):
        for bit in range(8) if WHOLE else [RANDOM.randrange(8)]:
            yield data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def replaced(data: bytes) -> Iterator[bytes]:
    """Other bytes in every place: some of them, or all 255."""
    for at in range(len(data)):
        for other in range(256) if WHOLE else RANDOM.sample(range(256), 2):
            if other != data[at]:
                yield data[:at] + bytes([other]) + data[at + 1 :]


def cut(data: bytes) -> Iterator[bytes]:
    """Every length from the front and from the back."""
    for length in range(len(data)):
        yield data[:length]
        yield data[-length:] if length else b""


def added(data: bytes) -> Iterator[bytes]:
    for at in range(0, len(data) + 1, 1 if WHOLE else 4):
        for more in (b" ", b"\n", b"\0", b"=", b".", b"A", data[at : at + 1], data[at : at + 4]):
            yield data[:at] + more + data[at:]


@every_document
def test_every_flipped_byte_is_noticed(tally: Tally, name: str) -> None:
    compare(tally, "each byte flipped", name, flipped(ALL[name][0]))
    compare(tally, "each byte replaced", name, replaced(ALL[name][0]))


@every_document
def test_every_truncation_is_noticed(tally: Tally, name: str) -> None:
    compare(tally, "truncated at each length", name, cut(ALL[name][0]))


@every_document
def test_every_insertion_is_noticed(tally: Tally, name: str) -> None:
    compare(tally, "something put in at each place", name, added(ALL[name][0]))


@pytest.mark.parametrize("paper", FILES, ids=lambda paper: paper.name)
def test_whitespace_of_a_file_is_told_from_its_words(tally: Tally, paper: Paper) -> None:
    data = paper.genuine
    spaces = [at for at, byte in enumerate(data) if byte in WHITESPACE]
    others = [data[:at] + bytes([one]) + data[at + 1 :] for at in spaces for one in WHITESPACE + b"\x0b\x0c\x00\xa0"]
    without = [data[:at] + data[at + 1 :] for at in spaces]
    everywhere = [data[:at] + b" " + data[at:] for at in range(len(data) + 1)]
    compare(tally, "whitespace changed, left out, put in", paper.name, [*others, *without, *everywhere])


@pytest.mark.parametrize("paper", FILES, ids=lambda paper: paper.name)
def test_a_file_that_is_not_one_clear_text_is_refused(tally: Tally, paper: Paper) -> None:
    data = paper.genuine
    members = json.loads(data)
    twice = [data.replace(b"{\n", b"{" + pair(name, value) + b",", 1) for name, value in members.items()]
    twice += [data.replace(b"\n}", b"," + pair(name, value) + b"\n}", 1) for name, value in members.items()]
    twice += [data.replace(b'"gr\xc3\xb6\xc3\x9fe"', b'"gr\\u00f6\\u00dfe": 4, "gr\xc3\xb6\xc3\x9fe"')]
    odd = [b"\xef\xbb\xbf" + data, data + b"\0", b"\0" + data, data + data, b"[" + data + b"]", data[:-1] + b",\n"]
    odd += [data.decode().encode(name) for name in ("utf-16", "utf-16-le", "utf-32", "latin-1")]
    odd += [data.replace(b'"iss"', b'"iss\\u0000"'), data.replace(b'"iss"', b"iss"), data.replace(b'"', b"'")]
    odd += [data.replace(b"{\n", b"{\n// signed\n", 1), data.replace(b"\n}", b",\n}", 1), data.replace(b": 3", b": 03")]
    odd += [data.replace(b": 3", b": " + number) for number in (b"+3", b"0x3", b"3.", b".3e1", b"3_", b'"3"', b"true")]
    tell(tally, "members twice", paper, twice)
    tell(tally, "BOM, NUL, other encodings, almost JSON", paper, odd)


def pair(name: str, value: object) -> bytes:
    return f"{json.dumps(name)}: {json.dumps(value)}".encode()


# --- Claims and trust -------------------------------------------------------------------------------------------


@every_paper
def test_another_account_s_keys_sign_nothing_of_ours(tally: Tally, paper: Paper) -> None:
    foreign: list[papers.Key] = [THEIRS.leaf, THEIRS.rsa, THEIRS.root, STRANGER]
    forged = [
        paper.built(paper.header | {"alg": alg, "kid": kid}, signer(key))
        for key in foreign
        for alg in ("EdDSA", "PS256")
        for kid in (key.kid, paper.key.kid)
    ]
    forged += [
        paper.built(paper.header | {"kid": key.kid}, signer(key))
        for key in (OURS.root, OURS.leaf)
        if key is not paper.key
    ]
    tell(tally, "signed by others", paper, forged)


def test_wrong_aud_iss_and_times_are_refused(tally: Tally) -> None:
    year = timedelta(days=365)
    claims: dict[Paper, list[bytes]] = {
        paper: [
            file_claims(paper.key, **changes)
            for changes in (
                {"aud": "other"},
                {"aud": PRODUCT.upper()},
                {"aud": ""},
                {"iss": THEIRS.account},
                {"iss": uuid.UUID(int=0)},
                {"expiry": NOW},
                {"expiry": NOW - year},
                {"issued": NOW + timedelta(seconds=1)},
                {"issued": NOW + year, "expiry": NOW - year},
            )
        ]
        for paper in FILES
    }
    s = papers.NOW_S
    claims[LEASE] = [
        lease_claims(**changes)
        for changes in (
            {"aud": "other"},
            {"aud": ""},
            {"iss": THEIRS.account},
            {"exp": s},
            {"exp": s - 9},
            {"nbf": s + 1},
        )
    ]
    claims[ACTIVATION] = [activation_claims(iss=THEIRS.account), activation_claims(iss=uuid.UUID(int=0))]
    leaf = public_jwk(OURS.leaf.public)
    end = s + 9
    claims[CERTIFICATE] = [
        json.dumps(one).encode()
        for one in (
            {"iss": str(THEIRS.account), "leaf": leaf, "nbf": 0, "exp": end},
            {"iss": str(OURS.account), "leaf": leaf, "nbf": s + 1, "exp": end},
            {"iss": str(OURS.account), "leaf": leaf, "nbf": 0, "exp": s},
            {"iss": str(OURS.account), "leaf": leaf | {"alg": "PS256"}, "nbf": 0, "exp": end},
            {"iss": str(OURS.account), "leaf": leaf | {"d": "AAAA"}, "nbf": 0, "exp": end},
            {"iss": str(OURS.account), "leaf": leaf | {"kid": OURS.rsa.kid}, "nbf": 0, "exp": end},
            {"iss": str(OURS.account), "leaf": public_jwk(OURS.rsa.public) | {"e": "Aw"}, "nbf": 0, "exp": end},
        )
    ]
    for paper, payloads in claims.items():
        tell(tally, "wrong aud, iss, times", paper, [paper.built(paper.header, payload=one) for one in payloads])


def test_only_a_leaf_that_the_pinned_root_certified_for_now_is_trusted(tally: Tally) -> None:
    decade = timedelta(days=3653)
    by_leaf = jws.sign(OURS.leaf, CERTIFICATE_TYP, certificate_claims(STRANGER.public))
    wrong: list[tuple[papers.Key, str]] = [
        (THEIRS.leaf, THEIRS.certificate),
        (THEIRS.rsa, THEIRS.rsa_certificate),
        (THEIRS.leaf, OURS.certificate),
        (OURS.leaf, THEIRS.certificate),
        (OURS.leaf, OURS.rsa_certificate),
        (OURS.rsa, OURS.certificate),
        (OURS.leaf, OURS.certified(OURS.leaf.public, NOW - decade)),
        (OURS.leaf, OURS.certified(OURS.leaf.public, NOW + timedelta(minutes=6))),
        (OURS.rsa, OURS.certified(OURS.rsa.public, NOW - decade)),
        (STRANGER, by_leaf),
        (STRANGER, jws.sign(STRANGER, CERTIFICATE_TYP, certificate_claims(STRANGER.public))),
        (STRANGER, jws.sign(OURS.root, LEASE.typ, certificate_claims(STRANGER.public))),
        (OURS.root, OURS.certificate),
        (OURS.leaf, ""),
        (OURS.leaf, LEASE.genuine.decode()),
        (OURS.leaf, OURS.certificate + OURS.certificate),
    ]  # fmt: skip
    forged = {LEASE: list[bytes](), FILE_RSA: list[bytes]()}
    for key, certificate in wrong:
        alg = "EdDSA" if isinstance(key, SigningKey) else "PS256"
        name = {"alg": alg, "kid": key.kid}
        forged[LEASE].append(LEASE.built(LEASE.header | name, signer(key), lease_claims(leaf=certificate)))
        forged[FILE_RSA].append(
            FILE_RSA.built(FILE_RSA.header | name, signer(key), file_claims(OURS.rsa, leaf=certificate))
        )
    for paper, found in forged.items():
        tell(tally, "other roots, leaf as root, old certificate", paper, found)


def test_a_lease_is_signed_by_ed25519_only(tally: Tally) -> None:
    """Also where the account has a leaf of RSA, and the lease holds its certificate."""
    payload = lease_claims(leaf=OURS.rsa_certificate)
    rsa = [
        LEASE.built({"alg": alg, "kid": kid, "typ": LEASE.typ}, signer(OURS.rsa), payload)
        for alg in ("PS256", "EdDSA", "RS256")
        for kid in (OURS.rsa.kid, OURS.leaf.kid)
    ]
    tell(tally, "signed by the leaf of RSA", LEASE, rsa)
    tokens = [
        ACTIVATION.built(ACTIVATION.header | {"alg": alg, "kid": OURS.rsa.kid}, signer(OURS.rsa))
        for alg in ("PS256", "EdDSA")
    ]
    tell(tally, "signed by the leaf of RSA", ACTIVATION, tokens)


def test_a_device_token_speaks_for_nobody_else(tally: Tally) -> None:
    """The MAC of a token with any one of its fields changed to what another token has."""
    raw = unb64(DEVICE_TOKEN.removeprefix("skd1."))
    other = TOKENS.issue(
        DeviceClaims(account=THEIRS.account, license=papers.OTHER_LICENSE, device=papers.OTHER_DEVICE, generation=4)
    )
    foreign = unb64(other.removeprefix("skd1."))
    fields = {
        "key id": (0, 8),
        "account": (8, 24),
        "license": (24, 40),
        "device": (40, 56),
        "generation": (56, 60),
        "MAC": (60, 78),
    }
    swapped = {
        name: raw[:start] + foreign[start:end] + raw[end:] for name, (start, end) in fields.items() if name != "key id"
    }
    swapped |= {f"generation {at}": raw[:56] + struct.pack(">I", at) + raw[60:] for at in (0, 1, 2, 4, 2**32 - 1)}
    swapped |= {
        f"key {name!r}": name.ljust(8, b"\0") + raw[8:] for name in (b"", b"k2", b"k3", b"K1", b"k1\0\0\0\0\0k")
    }
    strangers = DeviceTokens(MasterSecrets({"k1": bytes(32)}, "k1"))
    texts = ["skd1." + b64(one) for one in swapped.values()] + [strangers.issue(CLAIMS)]
    texts += [
        f"skd2.{DEVICE_TOKEN[5:]}",
        DEVICE_TOKEN.upper(),
        DEVICE_TOKEN + "\n",
        f"Bearer {DEVICE_TOKEN}",
        DEVICE_TOKEN * 2,
    ]
    texts += [paper.genuine.decode() for paper in PAPERS]
    assert TOKENS.verify(DEVICE_TOKEN) == CLAIMS
    believed = [TOKENS.verify(text) is not None for text in texts]
    tally.add("fields of another token", "device token", tried=len(believed), got_through=sum(believed))


# --- The genuine, by others -------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
@pytest.mark.parametrize("paper", [LEASE, CERTIFICATE, *FILES], ids=lambda paper: paper.name)
def test_other_libraries_believe_the_genuine_document(paper: Paper) -> None:
    """What a client reads, by two libraries that know only the public key."""
    whole = paper.genuine.decode()
    if paper.in_file:
        whole = json.loads(whole)["signature"].replace("..", f".{b64(paper.payload)}.")
    jwk, alg = public_jwk(paper.key.public), paper.header["alg"]
    options: Any = {
        "verify_exp": False,
        "verify_nbf": False,
        "verify_iat": False,
        "verify_aud": paper is not CERTIFICATE,
    }
    read = jwt.decode(
        whole, jwt.PyJWK(jwk), algorithms=[alg], audience=PRODUCT, issuer=str(OURS.account), options=options
    )
    assert read == json.loads(paper.payload)
    key = (RSAKey if isinstance(paper.key, RsaSigningKey) else OKPKey).import_key(dict[str, Any](jwk))
    registry = joserfc.jws.JWSRegistry(algorithms=[alg])
    assert joserfc.jws.deserialize_compact(whole, key, registry=registry).payload == paper.payload


def test_the_genuine_documents_are_believed_as_they_stand() -> None:
    assert {name: accepts(genuine) for name, (genuine, accepts) in ALL.items()} == dict.fromkeys(ALL, True)
    assert datetime.fromtimestamp(papers.NOW_S, UTC) == NOW

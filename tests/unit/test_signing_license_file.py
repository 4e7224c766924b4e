"""License files: what is signed is read again by us and by others, however it is spelled; nothing else is."""

import base64
import json
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import joserfc.jws
import jwt
import msgspec
import pytest
import rfc8785
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc.jwk import RSAKey

from shared.signing import jws, license_file
from shared.signing.jwks import key_set
from shared.signing.keyring import certify, new_account_keys, new_rsa_leaf, seal, unseal, verify_certificate
from shared.signing.keys import (
    RsaSigningKey,
    SigningKey,
    is_sound,
    load_rsa_signing_key,
    load_signing_key,
    private_bytes,
    public_jwk,
    public_of,
    thumbprint,
)
from shared.signing.license_file import FileFault, LicenseFile, sign, verify
from shared.signing.secrets import MasterSecrets

NOW = datetime(2026, 11, 3, 12, tzinfo=UTC)
ACCOUNT, STRANGER = uuid.UUID(int=1), uuid.UUID(int=2)
PRODUCT = "photo-editor"
ROOT, LEAF, CERTIFICATE = new_account_keys(ACCOUNT, NOW)
RSA, RSA_CERTIFICATE = new_rsa_leaf(ROOT, ACCOUNT, NOW)
SIGNERS: list[tuple[SigningKey | RsaSigningKey, str]] = [(RSA, RSA_CERTIFICATE), (LEAF, CERTIFICATE)]
FILE = LicenseFile(
    iss=ACCOUNT,
    aud=PRODUCT,
    license=uuid.UUID(int=3),
    device=uuid.UUID(int=4),
    generation=2,
    fingerprint="0f" * 32,
    issued=NOW,
    expiry=NOW + timedelta(days=365),
    leaf=RSA_CERTIFICATE,
    entitlements={"export": None, "projects": 25, "größe": 1},
)
SIGNED = sign(RSA, FILE)
VECTORS = Path(__file__).parents[1] / "vectors"

by_both = pytest.mark.parametrize(("key", "certificate"), SIGNERS, ids=["PS256", "EdDSA"])


def check(file: bytes, now: datetime = NOW) -> LicenseFile | FileFault:
    return verify(file, ROOT.public, PRODUCT, now)


def signed_members(members: dict[str, Any], key: SigningKey | RsaSigningKey = RSA) -> bytes:
    """A file of any members at all, under a good signature."""
    signature = jws.sign_detached(key, license_file.TYP, rfc8785.dumps(members))
    return json.dumps(members | {"signature": signature}).encode()


@by_both
def test_a_signed_file_is_verified(key: SigningKey | RsaSigningKey, certificate: str) -> None:
    file = msgspec.structs.replace(FILE, leaf=certificate)
    assert check(sign(key, file)) == file


def test_a_file_says_on_disk_what_people_and_clients_read() -> None:
    members = json.loads(SIGNED)
    header, payload, _ = members.pop("signature").split(".")
    assert members == {
        "iss": str(ACCOUNT),
        "aud": "photo-editor",
        "license": "00000000-0000-0000-0000-000000000003",
        "device": "00000000-0000-0000-0000-000000000004",
        "generation": 2,
        "fingerprint": "0f" * 32,
        "issued": "2026-11-03T12:00:00Z",
        "expiry": "2027-11-03T12:00:00Z",
        "leaf": RSA_CERTIFICATE,
        "entitlements": {"export": None, "projects": 25, "größe": 1},
    }
    shown = json.loads(base64.urlsafe_b64decode(header + "=="))
    assert shown == {"alg": "PS256", "kid": RSA.kid, "typ": "seatkeeper-license+jws"}
    assert payload == ""
    assert SIGNED.decode().startswith('{\n  "iss": "00000000-0000-0000-0000-000000000001",\n')
    assert SIGNED.endswith(b'"\n}\n')


@by_both
def test_other_libraries_verify_a_file_with_the_jwks(key: SigningKey | RsaSigningKey, certificate: str) -> None:
    members = json.loads(sign(key, msgspec.structs.replace(FILE, leaf=certificate)))
    header, _, signature = members.pop("signature").split(".")
    canonical = rfc8785.dumps(members)
    jwk = key_set([key.public])["keys"][0]
    whole = f"{header}.{base64.urlsafe_b64encode(canonical).decode().rstrip('=')}.{signature}"
    options: Any = {"verify_exp": False}
    read = jwt.decode(
        whole, jwt.PyJWK(jwk), algorithms=[jwk["alg"]], audience=PRODUCT, issuer=str(ACCOUNT), options=options
    )
    assert read == members
    if isinstance(key, RsaSigningKey):
        detached = joserfc.jws.detach_content(whole)
        assert detached == f"{header}..{signature}"
        assert (
            joserfc.jws.deserialize_compact(whole, RSAKey.import_key(dict[str, Any](jwk)), algorithms=["PS256"]).payload
            == canonical
        )


@pytest.mark.parametrize("name", ["rsa", "ed25519"])
def test_a_file_that_devices_hold_stays_good(name: str) -> None:
    root = public_of(json.loads((VECTORS / "root.json").read_bytes()))
    file = (VECTORS / f"license_file_{name}.json").read_bytes()
    assert root is not None
    read = verify(file, root, PRODUCT, NOW)
    assert isinstance(read, LicenseFile)
    assert (read.fingerprint, read.entitlements) == ("0f" * 32, {"export": None, "projects": 25})
    assert read.expiry == NOW + timedelta(days=365)


@pytest.mark.parametrize(
    "respelled",
    [
        json.dumps(json.loads(SIGNED), separators=(",", ":")).encode(),
        json.dumps(json.loads(SIGNED), sort_keys=True, ensure_ascii=True).encode(),
        rfc8785.dumps(json.loads(SIGNED)),
        b"\r\n\t " + SIGNED.replace(b"\n", b"\r\n") + b"\n \t",
        SIGNED.replace(b'"generation": 2', b'"generation": 2.0'),
        SIGNED.replace(b'"generation": 2', b'"generation": 20e-1'),
        SIGNED.replace(b'"aud": "photo-editor"', b'"a\\u0075d": "photo\\u002deditor"'),
    ],
)
def test_a_file_may_be_spelled_otherwise(respelled: bytes) -> None:
    assert respelled != SIGNED
    assert check(respelled) == FILE


def test_times_are_rounded_down_to_the_second() -> None:
    later = msgspec.structs.replace(FILE, issued=NOW + timedelta(microseconds=1), expiry=NOW + timedelta(seconds=1.9))
    assert check(sign(RSA, later)) == msgspec.structs.replace(FILE, expiry=NOW + timedelta(seconds=1))


@pytest.mark.parametrize(
    ("after", "fault"),
    [
        (timedelta(seconds=-1), FileFault.NOT_YET),
        (timedelta(0), None),
        (timedelta(days=365, microseconds=-1), None),
        (timedelta(days=365), FileFault.EXPIRED),
    ],
)
def test_a_file_holds_from_its_issue_until_before_its_expiry(after: timedelta, fault: FileFault | None) -> None:
    assert check(SIGNED, NOW + after) == (fault or FILE)


def test_a_file_holds_no_longer_than_the_certificate_in_it() -> None:
    file = sign(RSA, msgspec.structs.replace(FILE, expiry=NOW + timedelta(days=4000)))
    assert isinstance(check(file, NOW + timedelta(days=3652)), LicenseFile)
    assert check(file, NOW + timedelta(days=3653)) is FileFault.UNTRUSTED


def test_a_file_of_another_product_or_another_vendor_is_refused() -> None:
    root, leaf, certificate = new_account_keys(ACCOUNT, NOW)
    assert verify(SIGNED, ROOT.public, "other", NOW) is FileFault.OTHER_PRODUCT
    assert verify(SIGNED, root.public, PRODUCT, NOW) is FileFault.UNTRUSTED
    assert check(sign(leaf, msgspec.structs.replace(FILE, leaf=certificate))) is FileFault.UNTRUSTED
    assert check(sign(RSA, msgspec.structs.replace(FILE, iss=STRANGER))) is FileFault.UNTRUSTED


def test_a_signed_member_that_is_not_ours_is_ignored_and_an_unsigned_one_is_not() -> None:
    members = msgspec.to_builtins(FILE)
    assert check(signed_members(members | {"later": [1.5e300, {"a": None}]})) == FILE
    assert check(json.dumps(json.loads(SIGNED) | {"later": 1}).encode()) is FileFault.UNTRUSTED


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "vendor"},
        {"aud": None},
        {"aud": [PRODUCT]},
        {"generation": 2.5},
        {"expiry": "2027-11-03T12:00:00"},
        {"expiry": 1_793_707_200},
        {"fingerprint": 7},
        {"leaf": None},
        {"entitlements": {"export": True}},
    ],
)
def test_a_signed_file_of_another_shape_is_refused(changes: dict[str, Any]) -> None:
    members: dict[str, Any] = msgspec.to_builtins(FILE)
    assert check(signed_members(members)) == FILE
    assert check(signed_members(members | changes)) is FileFault.MALFORMED


@pytest.mark.parametrize("missing", [name for name in json.loads(SIGNED) if name != "entitlements"])
def test_a_file_without_one_of_its_members_is_refused(missing: str) -> None:
    members = {name: value for name, value in json.loads(SIGNED).items() if name != missing}
    assert check(json.dumps(members).encode()) is FileFault.MALFORMED


@pytest.mark.parametrize(
    "file",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'"file"',
        b"\xef\xbb\xbf" + SIGNED,
        b"\x00" + SIGNED,
        SIGNED + b"\x00",
        SIGNED + b"x",
        SIGNED + SIGNED,
        SIGNED.replace(b'"generation": 2', b'"generation": 2, "generation": 2'),
        SIGNED.replace(b'"projects": 25', b'"projects": 25, "projects": 25'),
        SIGNED.replace(b'"signature"', b'"signature": "", "signature"'),
        SIGNED.replace(b'"generation": 2', b'"generation": NaN'),
        SIGNED.replace(b'"generation": 2', b'"generation": 2, "more": Infinity'),
        SIGNED.replace(b'"generation": 2', b'"generation": 2, "more": 1e400'),
        SIGNED.replace(b'"generation": 2', b'"generation": 2, "more": 9007199254740993'),
        SIGNED.replace(b'"generation": 2', b'"generation": 2, "more": "\\ud800"'),
        SIGNED.replace(b'"generation": 2', b'"generation": 2, "\\ud800": 1'),
        SIGNED.replace(b'"generation": 2', b'"generation": 2, "more": ' + b"1" * 5000),
        SIGNED.replace(b'"generation": 2', b'"generation": 2, "more": ' + b"[" * 9000 + b"]" * 9000),
        SIGNED.replace(b'"generation": 2', b'"generation": 2,'),
        SIGNED.replace("größe".encode(), "größe".encode("latin-1")),
        SIGNED.decode().encode("utf-16"),
        SIGNED + b" " * license_file.LONGEST_FILE,
    ],
)
def test_what_is_not_one_readable_object_is_refused(file: bytes) -> None:
    assert check(SIGNED) == FILE
    assert check(file) is FileFault.MALFORMED


def test_rsa_keys_rest_sealed_like_others_and_sign_as_before_when_opened() -> None:
    master = MasterSecrets({"k1": bytes(range(32))}, "k1")
    sealed = seal(master, ACCOUNT, RSA.kid, private_bytes(RSA))
    opened = load_rsa_signing_key(unseal(master, ACCOUNT, RSA.kid, sealed))
    assert (opened.kid, opened.public) == (RSA.kid, RSA.public)
    assert check(sign(opened, FILE)) == FILE
    assert load_signing_key(private_bytes(LEAF), "leaf").public == LEAF.public
    assert repr(opened) == str(opened) == f"RsaSigningKey(kid='{RSA.kid}')"


def test_private_bytes_of_another_kind_or_size_are_refused() -> None:
    def pkcs8(private: Any) -> bytes:
        form = serialization.PrivateFormat.PKCS8
        written = private.private_bytes(serialization.Encoding.DER, form, serialization.NoEncryption())
        assert isinstance(written, bytes)
        return written

    for private in (pkcs8(rsa.generate_private_key(65_537, 2048)), pkcs8(LEAF.private), private_bytes(LEAF), b""):
        with pytest.raises(ValueError):  # noqa: PT011 - the words may be the library's
            load_rsa_signing_key(private)


def test_the_root_certifies_a_leaf_of_rsa_under_its_rfc_7638_name() -> None:
    leaf = verify_certificate(ROOT.public, RSA_CERTIFICATE, NOW, account=ACCOUNT)
    assert leaf is not None
    assert leaf == public_jwk(RSA.public)
    assert public_of(leaf) == RSA.public
    assert leaf["kid"] == RSA.kid == thumbprint(RSA.public) == RSAKey.import_key(dict[str, Any](leaf)).thumbprint()
    assert (leaf["kty"], leaf["alg"], leaf["e"]) == ("RSA", "PS256", "AQAB")


def test_keys_under_which_a_signature_says_nothing_are_not_sound() -> None:
    assert [is_sound(key.public) for key in (ROOT, LEAF, RSA)] == [True] * 3
    of_small_order = [point for point in encodings() if multiplied_by_8(point) == (0, 1)]
    assert len(of_small_order) == 14
    not_reduced = [(y + (2**255 - 19) + (sign << 255)).to_bytes(32, "little") for y in range(19) for sign in (0, 1)]
    even, short = RSA.public[:-1] + b"\0", bytes(1) + RSA.public[1:]
    for public in (*of_small_order, *not_reduced, even, short, b"", ROOT.public[:31], RSA.public + b"\0"):
        assert not is_sound(public)
        assert public_of(public_jwk(public)) is None
        with pytest.raises(ValueError, match="sound"):
            certify(ROOT, public, ACCOUNT, NOW)


PRIME = 2**255 - 19
D = -121665 * pow(121666, -1, PRIME) % PRIME


def encodings() -> list[bytes]:
    """All texts of 32 bytes whose y is one of the small numbers, or of those found as points of order 8."""
    found = [0, 1, 2, 3, 4, PRIME - 1, PRIME, PRIME + 1, *ys_of_order_8()]
    return [(y | sign << 255).to_bytes(32, "little") for y in found for sign in (0, 1)]


def ys_of_order_8() -> list[int]:
    """The y of a point whose double has y = 0: there x² = -y², so on the curve d·y⁴ + 2·y² - 1 = 0."""
    roots = [(-1 + sign * root(1 + D)) * pow(D, -1, PRIME) % PRIME for sign in (1, -1)]
    return [
        y for square in roots if pow(square, (PRIME - 1) // 2, PRIME) == 1 for y in (root(square), PRIME - root(square))
    ]


def root(square: int) -> int:
    found = pow(square, (PRIME + 3) // 8, PRIME)
    found = found if found * found % PRIME == square % PRIME else found * pow(2, (PRIME - 1) // 4, PRIME) % PRIME
    assert found * found % PRIME == square % PRIME
    return found


def multiplied_by_8(encoded: bytes) -> tuple[int, int] | None:
    """Eight times the point, as any implementation decodes it; None for what is no point."""
    y = (int.from_bytes(encoded, "little") & (1 << 255) - 1) % PRIME
    square = (y * y - 1) * pow(D * y * y + 1, -1, PRIME) % PRIME
    if square and pow(square, (PRIME - 1) // 2, PRIME) != 1:
        return None
    x = root(square)
    for _ in range(3):
        k = D * x * x * y * y
        x, y = 2 * x * y * pow(1 + k, -1, PRIME) % PRIME, (y * y + x * x) * pow(1 - k, -1, PRIME) % PRIME
    return x, y

"""Headers and signatures under attack: other algorithms, names, keys and spellings. None of it is believed.

Each attack first shows that what it starts from is believed; the headers are bent under good signatures.
"""

import hashlib
import hmac
import json
from functools import partial
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from shared.signing import jws
from shared.signing.jwks import key_set
from shared.signing.keyring import CERTIFICATE_TYP, verify_certificate
from shared.signing.keys import RsaSigningKey, SigningKey, public_jwk, thumbprint
from tests.abuse import papers
from tests.abuse.papers import (
    ACTIVATION,
    ALL,
    CERTIFICATE,
    DEVICE_TOKEN,
    FILE_ED25519,
    FILE_RSA,
    FILES,
    LEASE,
    NOW,
    OURS,
    PAPERS,
    STRANGER,
    THEIRS,
    Paper,
    Sign,
    b64,
    file_claims,
    lease_claims,
    signer,
)
from tests.abuse.tally import Tally, tell

pytest_plugins = ["tests.abuse.tally"]

PRIME = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493

every_paper = pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: paper.name)


# --- Headers ----------------------------------------------------------------------------------------------------


@every_paper
def test_no_algorithm_but_the_key_s_own_is_taken(tally: Tally, paper: Paper) -> None:
    header = paper.header
    unsigned = [
        paper.built(header | {"alg": alg}, sign)
        for alg in ("none", "None", "NONE", "nOnE", "", None)
        for sign in (lambda data: b"", signer(paper.key))
    ]
    tell(tally, "alg none", paper, [*unsigned, paper.built(header, lambda data: b"")])
    others = ["Ed25519", "eddsa", "EdDSA ", "ES256", "RS256", "PS384", "PS512", "RSA-OAEP", "EdDSA,PS256", ["EdDSA"], 7]
    swapped = "EdDSA" if header["alg"] == "PS256" else "PS256"
    tell(tally, "another alg", paper, [paper.built(header | {"alg": alg}) for alg in [*others, swapped, "HS256"]])


@every_paper
def test_a_public_key_is_no_secret_of_an_hmac(tally: Tally, paper: Paper) -> None:
    algorithms = [("HS256", "sha256"), ("HS384", "sha384"), ("HS512", "sha512"), (paper.header["alg"], "sha256")]
    forged = [
        paper.built(paper.header | {"alg": alg}, partial(hmac.digest, secret, digest=name))
        for alg, name in algorithms
        for secret in renderings(paper.key)
    ]
    tell(tally, "HMAC with the public key", paper, forged)


def renderings(key: papers.Key) -> list[bytes]:
    """The public key in every form that someone may take for the bytes of a secret."""
    public = key.private.public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    pem, der = (
        public.public_bytes(encoding, form) for encoding in (serialization.Encoding.PEM, serialization.Encoding.DER)
    )
    jwk = public_jwk(key.public)
    shown = [
        json.dumps(jwk),
        json.dumps(jwk, separators=(",", ":")),
        json.dumps(key_set([key.public])),
        b64(key.public),
    ]
    return [
        key.public,
        pem,
        pem.strip(),
        der,
        b64(der).encode(),
        key.kid.encode(),
        *(one.encode() for one in shown),
        b"\0",
    ]


@every_paper
def test_a_wrong_or_second_kid_is_refused(tally: Tally, paper: Paper) -> None:
    header = paper.header
    kids = [
        OURS.root.kid,
        OURS.leaf.kid,
        OURS.rsa.kid,
        THEIRS.leaf.kid,
        THEIRS.root.kid,
        STRANGER.kid,
        "",
        "..",
        None,
        0,
    ]
    wrong = [
        kid for kid in [*kids, [header["kid"]], {"kid": header["kid"]}, header["kid"] + "\0"] if kid != header["kid"]
    ]
    tell(tally, "wrong kid", paper, [paper.built(header | {"kid": kid}) for kid in wrong])
    tell(tally, "no kid", paper, [paper.built({name: header[name] for name in ("alg", "typ")})])
    doubled = [
        json.dumps(header)[:-1].encode() + f', "{name}": {json.dumps(value)}}}'.encode()
        for name in ("kid", "alg", "typ", "\\u006bid")
        for value in (header["kid"], STRANGER.kid, header["alg"], header["typ"], "none")
    ]
    doubled += [b'{"kid": "' + STRANGER.kid.encode() + b'", ' + json.dumps(header)[1:].encode()]
    tell(tally, "kid, alg or typ twice", paper, [paper.built(one) for one in doubled])


@every_paper
def test_a_key_that_a_document_brings_is_not_trusted(tally: Tally, paper: Paper) -> None:
    place = "https://example.com/keys"
    brought: list[dict[str, Any]] = [
        {"jwk": public_jwk(STRANGER.public)},
        {"jku": place},
        {"x5u": place},
        {"x5c": [b64(STRANGER.public)]},
        {"x5t": "AAAA"},
        {"x5t#S256": "AAAA"},
        {"jwk": public_jwk(paper.key.public)},
        {"jwks": key_set([STRANGER.public])},
        {},
    ]
    names = [{"alg": "EdDSA", "kid": kid, "typ": paper.typ} for kid in (STRANGER.kid, paper.key.kid)]
    forged = [paper.built(name | more, STRANGER.private.sign) for name in names for more in brought]
    forged += [paper.built(paper.header | more) for more in brought if more]
    tell(tally, "jwk, jku, x5u, x5c", paper, forged)


@every_paper
def test_what_a_header_asks_for_is_not_done(tally: Tally, paper: Paper) -> None:
    header = paper.header
    asked: list[dict[str, Any]] = [
        {"crit": ["exp"], "exp": 1},
        {"crit": []},
        {"crit": ["b64"], "b64": False},
        {"crit": ["b64"], "b64": True},
        {"b64": False},
        {"b64": True},
        {"zip": "DEF"},
        {"enc": "A128GCM"},
        {"cty": "JWT"},
        {"crit": ["alg"]},
        {"": ""},
    ]
    forged = [paper.built(header | more) for more in asked]
    head = b64(json.dumps(header | {"b64": False, "crit": ["b64"]}).encode())
    unencoded = b64(signer(paper.key)(head.encode() + b"." + paper.payload))
    whole = f"{head}..{unencoded}"
    forged.append(paper.with_signature(whole) if paper.in_file else whole.encode())
    tell(tally, "crit, b64, zip", paper, forged)


@every_paper
def test_no_document_passes_for_one_of_another_kind(tally: Tally, paper: Paper) -> None:
    typs: list[object] = [one.typ for one in PAPERS if one.typ != paper.typ]
    typs += ["JWT", "jwt", paper.typ.upper(), "application/" + paper.typ, paper.typ + " ", "", None, [paper.typ]]
    tell(tally, "wrong typ", paper, [paper.built(paper.header | {"typ": typ}) for typ in typs])
    tell(tally, "no typ", paper, [paper.built({name: paper.header[name] for name in ("alg", "kid")})])
    whole = [genuine for name, (genuine, _) in ALL.items() if name != paper.name and genuine[:1] != paper.genuine[:1]]
    signatures = [one.genuine.decode() for one in PAPERS if not one.in_file] + [DEVICE_TOKEN]
    if paper.in_file:
        whole += [paper.with_signature(text) for text in signatures]
        whole += [
            json.dumps(json.loads(one.payload) | {"signature": text}).encode()
            for one in (LEASE, ACTIVATION, CERTIFICATE)
            for text in signatures
        ]
    else:
        whole += [one for one in map(str.encode, signatures) if one != paper.genuine]
        whole += [json.loads(one.genuine)["signature"].encode() for one in FILES]
        whole += [json.loads(one.genuine)["signature"].replace("..", f".{b64(one.payload)}.").encode() for one in FILES]
    whole += [
        one.built(one.header, payload=paper.payload) for one in (LEASE, ACTIVATION, CERTIFICATE) if one is not paper
    ]
    tell(tally, "another kind of document", paper, whole)


# --- Signatures -------------------------------------------------------------------------------------------------


@every_paper
def test_a_signature_has_one_text(tally: Tally, paper: Paper) -> None:
    sign = signer(paper.key)
    head = b64(json.dumps(paper.header).encode())
    payload, raw = b64(paper.payload), sign(f"{head}.{b64(paper.payload)}".encode())
    signature = b64(raw)
    standard = signature.replace("-", "+").replace("_", "/")
    bits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    texts = [signature + more for more in ("=", "==", "===", "A", "AA", "AAAA", " ", "\n", "\0", ".", ".A")]
    texts += [signature[:-1] + other for other in bits if other != signature[-1]]
    texts += [
        b64(raw + raw),
        b64(raw[:-1]),
        b64(b"\0" + raw),
        b64(raw + b"\0"),
        b64(raw[::-1]),
        b64(bytes(len(raw))),
        "",
    ]
    texts += [standard] if standard != signature else []
    heads = [(f"{head}=", signature), (f" {head}", signature), (f"{head}\n", signature), (f"{head}.", signature)]
    pairs = [*heads, *((head, text) for text in texts)]
    if paper.in_file:
        forged = [paper.with_signature(f"{first}..{last}") for first, last in pairs]
        forged += [
            paper.with_signature(text)
            for text in (f"{head}.{payload}.{signature}", f"{head}.{signature}", f"{head}...{signature}")
        ]
        forged += [
            paper.with_signature(f"{head}..{signature}")
            .replace(b'"signature": "', b'"signature": ["')
            .replace(b'"\n}', b'"]\n}')
        ]
    else:
        forged = [f"{first}.{payload}.{last}".encode() for first, last in pairs]
        forged += [f"{head}.{payload}={'.'}{signature}".encode(), f"{head}..{signature}".encode()]
    tell(tally, "another text of the signature", paper, forged)


@pytest.mark.parametrize("paper", [LEASE, ACTIVATION, CERTIFICATE, FILE_ED25519], ids=lambda paper: paper.name)
def test_an_ed25519_signature_has_one_value(tally: Tally, paper: Paper) -> None:
    assert isinstance(paper.key, SigningKey)
    neutral = [y.to_bytes(32, "little") for y in (1 + PRIME, 1 | 1 << 255, 1 + PRIME | 1 << 255)]
    signs: list[Sign] = [partial(shifted, paper.key, times) for times in range(1, 15)]
    signs += [partial(by_nonce_zero, paper.key, point) for point in neutral]
    signs += [partial(negated, paper.key), partial(mirrored, paper.key), partial(exchanged, paper.key)]
    tell(tally, "s + L, other spellings of R", paper, [paper.built(paper.header, sign) for sign in signs])


def shifted(key: SigningKey, times: int, data: bytes) -> bytes:
    r, s = halves(key, data)
    return r + (s + times * ORDER).to_bytes(32, "little")


def negated(key: SigningKey, data: bytes) -> bytes:
    r, s = halves(key, data)
    return r + (ORDER - s).to_bytes(32, "little")


def mirrored(key: SigningKey, data: bytes) -> bytes:
    r, s = halves(key, data)
    return bytes([*r[:31], r[31] ^ 0x80]) + s.to_bytes(32, "little")


def exchanged(key: SigningKey, data: bytes) -> bytes:
    r, s = halves(key, data)
    return s.to_bytes(32, "little") + r


def halves(key: SigningKey, data: bytes) -> tuple[bytes, int]:
    signature = key.private.sign(data)
    return signature[:32], int.from_bytes(signature[32:], "little")


def by_nonce_zero(key: SigningKey, point: bytes, data: bytes) -> bytes:
    """A signature whose R is the neutral point, spelled as `point`: the equation holds, the spelling decides."""
    seed = hashlib.sha512(key.private.private_bytes_raw()).digest()[:32]
    scalar = int.from_bytes(seed, "little") & ((1 << 254) - 8) | 1 << 254
    challenge = int.from_bytes(hashlib.sha512(point + key.public + data).digest(), "little")
    return point + (challenge * scalar % ORDER).to_bytes(32, "little")


def test_the_neutral_point_in_its_own_spelling_satisfies_the_equation() -> None:
    """So what the attack above shows is the spelling refused, and not a sum done wrong."""
    Ed25519PublicKey.from_public_bytes(OURS.leaf.public).verify(
        by_nonce_zero(OURS.leaf, (1).to_bytes(32, "little"), b"data"), b"data"
    )


def test_a_key_of_small_order_proves_nothing_though_the_root_certified_it(tally: Tally) -> None:
    """Some such keys verify a signature that nobody made, in the library too: they have to be refused as keys."""
    points = unsound_points()
    in_library = 0
    tried: dict[str, list[bool]] = {"lease": [], "license file": [], "certificate": [], "trusted by kid": []}
    for public in points:
        jwk = public_jwk(public)
        certificate = jws.sign(
            OURS.root, CERTIFICATE_TYP, {"iss": str(OURS.account), "leaf": jwk, "nbf": 0, "exp": 2**40}
        )
        tried["certificate"].append(
            verify_certificate(OURS.root.public, certificate, NOW, account=OURS.account) is not None
        )
        for signature in [point + bytes(32) for point in points]:
            header = {"alg": "EdDSA", "kid": thumbprint(public), "typ": LEASE.typ}
            forged = LEASE.built(header, always(signature), lease_claims(leaf=certificate))
            tried["lease"].append(LEASE.accepts(forged))
            tried["trusted by kid"].append(
                jws.verify(forged.decode(), {thumbprint(public): public}, LEASE.typ) is not None
            )
            in_library += verifies(public, signature, forged.rpartition(b".")[0])
            file = FILE_ED25519.built(
                header | {"typ": FILE_ED25519.typ},
                always(signature),
                file_claims(OURS.leaf, leaf=certificate),
            )
            tried["license file"].append(FILE_ED25519.accepts(file))
    assert in_library > 0
    note = f"{in_library} of the signatures satisfy the equation"
    for name, believed in tried.items():
        tally.add("keys of small order", name, tried=len(believed), got_through=sum(believed), note=note)


def always(signature: bytes) -> Sign:
    return lambda data: signature


def unsound_points() -> list[bytes]:
    """Points of small order in every spelling (those of order 8 as the literature lists them)."""
    of_order_8 = [
        bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
        bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    ]
    others = [y.to_bytes(32, "little") for y in (0, 1, PRIME - 1, PRIME, PRIME + 1)]
    return [bytes([*one[:31], one[31] | sign]) for one in of_order_8 + others for sign in (0, 0x80)]


def verifies(public: bytes, signature: bytes, data: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def test_an_rsa_signature_is_of_one_scheme_and_one_length(tally: Tally) -> None:
    key = OURS.rsa
    modulus = int.from_bytes(key.public, "big")
    sha256 = hashes.SHA256()
    schemes: list[tuple[Any, Any]] = [
        *((padding.PSS(padding.MGF1(sha256), salt), sha256) for salt in (0, 1, 20, 31, 33, 48, 64, 350)),
        *(
            (padding.PSS(padding.MGF1(one), one.digest_size), one)
            for one in (hashes.SHA384(), hashes.SHA512(), hashes.SHA3_256())
        ),
        *((padding.PSS(padding.MGF1(one), 32), sha256) for one in (hashes.SHA1(), hashes.SHA384(), hashes.SHA512())),
        *(
            (padding.PSS(padding.MGF1(sha256), 32), one)
            for one in (hashes.SHA512_256(), hashes.SHA3_256(), hashes.SHA384())
        ),
        (padding.PKCS1v15(), sha256),
        (padding.PKCS1v15(), hashes.SHA512()),
    ]
    good = signer(key)
    values = [value.to_bytes(384, "big") for value in (0, 1, modulus - 1, modulus, modulus + 1)]
    signs: list[Sign] = [
        *(by_scheme(key, *scheme) for scheme in schemes),
        *map(always, values),
        partial(lifted, good, modulus),
    ]
    signs += [lambda data: b"\0" + good(data), lambda data: bytes(128) + good(data), lambda data: good(data) + b"\0"]
    signs += [lambda data: good(data)[1:], lambda data: good(data)[:-1], lambda data: good(data)[::-1]]
    signs += [lambda data: (modulus - int.from_bytes(good(data), "big")).to_bytes(384, "big")]
    tell(
        tally,
        "other salts, hashes, schemes, lengths",
        FILE_RSA,
        [FILE_RSA.built(FILE_RSA.header, sign) for sign in signs],
    )


def by_scheme(key: RsaSigningKey, scheme: Any, digest: Any) -> Sign:
    return lambda data: key.private.sign(data, scheme, digest)


def lifted(good: Sign, modulus: int, data: bytes) -> bytes:
    """The same signature plus the modulus, of 384 bytes: signed anew until it fits."""
    while (value := int.from_bytes(good(data), "big") + modulus) >= 1 << 3072:
        pass
    return value.to_bytes(384, "big")

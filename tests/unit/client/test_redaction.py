"""Nothing that is secret survives, wherever it stands; what is not is left alone, and what is equal looks equal."""

import base64
import ipaddress
import json
import re
import time
from urllib.parse import quote

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from seatkeeper.redaction import Known, Redactor
from shared.licensing.license_key import format_key

KEY = "17HW-W0M7-ZBKY-HNBD-1D8H-GXW9-5HJ3"
IMPORTED = "Ünlike any=key/of+ours#1"
PEM = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ\nabcd\n-----END PRIVATE KEY-----"
KNOWN = Known(
    keys=(IMPORTED,),
    tokens=("an-opaque-token",),
    passwords=("open sesame",),
    homes=("/srv/people/ada",),
    hosts=("adas-laptop", "license.corp.example"),
    users=("ada",),
    names=("Zoe Planted",),
)


def redacted(text: str) -> str:
    return Redactor(KNOWN).text(text)


PLANTED = {
    "a key": (KEY, KEY),
    "a key in lower case": (KEY.lower(), KEY.lower()),
    "a key with spaces": (KEY.replace("-", " "), "W0M7"),
    "a key with underscores": (KEY.replace("-", "_"), "W0M7"),
    "a key without separators": (KEY.replace("-", ""), "17HWW0M7"),
    "a key within a word": (f"x{KEY}y", "W0M7"),
    "a key with no-break hyphens": (KEY.replace("-", "\u2011"), "W0M7"),
    "a key whose digits look alike": (KEY.replace("1", "l").replace("0", "o"), "ZBKY"),
    "a mistyped key": (f"{KEY[:-1]}4", "W0M7"),
    "a mistyped key without separators": (f"{KEY[:-1]}4".replace("-", ""), "W0M7"),
    "an imported key": (f"got {IMPORTED}.", "Ünlike"),
    "an imported key in a URL": (f"/v1?x={quote(IMPORTED)}", "any%3Dkey"),
    "an imported key half in a URL": (f"/v1?x={IMPORTED.replace(' ', '+')}", "any=key"),
    "an imported key in JSON": (json.dumps({"x": IMPORTED}), "nlike any"),
    "an imported key in capitals": (IMPORTED.upper(), "ANY=KEY"),
    "an imported key under its name": ('license_key = "wholly unknown"', "wholly"),
    "a device token": ("skd1.azEAAAAA-_x", "azEAAAAA"),
    "a management token": ("skm_0123abc", "0123abc"),
    "a known token": ("t=an-opaque-token;", "an-opaque-token"),
    "a signed document": ("lease eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ4In0.c2ln", "eyJ"),
    "a detached signature": ("eyJhbGciOiJQUzI1NiJ9..K1dUM9UD", "K1dUM9UD"),
    "a password in a URL": ("https://bob:pass/w@rd@proxy:3128", "w@rd"),
    "a password of few letters": ("http://bob:(a)b@proxy/", "(a)"),
    "a known password": ("said open sesame twice", "sesame"),
    "a header": ("Authorization: License whatever it is", "whatever"),
    "a header in JSON": (r"""{"headers": "{\"Authorization\": \"Bearer abc\"}"}""", "abc"),
    "a header of a proxy": ("proxy-authorization: Basic YWRhOm9wZW4=", "YWRh"),
    "a cookie": ("Set-Cookie: session=abc; Path=/", "abc"),
    "a scheme alone": ("with Bearer abcdefgh12", "abcdefgh12"),
    "an assignment": ("SEATKEEPER_TOKEN=abc def", "abc"),
    "a member of JSON": ('{"licenseKey": "some thing", "n": 1}', "some"),
    "a quoted assignment": ("password = 'some thing'", "some thing"),
    "a quoted member in JSON": (r"""{"log": "{\"deviceToken\": \"some\"}"}""", "some"),
    "a private key": (f"x {PEM} y", "MC4CAQ"),
    "a private key on one line": (PEM.replace("\n", "\\n"), "MC4CAQ"),
    "a private key that is cut off": (PEM[:60], "MC4CAQ"),
    "the rest of a private key": (PEM[28:], "MC4CAQ"),
    "an IPv4 address": ("from 192.0.2.17:443", "192.0.2.17"),
    "an IPv6 address": ("from [2001:db8::17]:443", "2001:db8"),
    "a full IPv6 address": ("2001:db8:0:0:1:2:3:4", "2001:db8"),
    "a link's address": ("fe80::1ff:fe23:4567:890a%eth0", "fe23"),
    "a mapped address": ("::ffff:192.0.2.17", "192.0.2"),
    "a card": ("MAC=52:54:00:AB:cd:ef", "AB:cd"),
    "a card of Windows": ("52-54-00-AB-CD-EF", "AB-CD"),
    "a card of switches": ("5254.00ab.cdef", "00ab"),
    "mail": ("to ada.lovelace+x@mail.example.com,", "lovelace"),
    "a known host": ("ADAS-LAPTOP kernel:", "LAPTOP"),
    "a host of a URL": ("GET https://intern:8443/x", "intern"),
    "a host by its name": ("db7.eu.customer.internal refused", "customer"),
    "a host behind a name": ('hostname: "box17"', "box17"),
    "a user": ("for ada from", "ada"),
    "a user behind a name": ("acct=grace", "grace"),
    "a secret behind a space": ("SECRET hunter", "hunter"),
    "a variable of a shell behind a space": ("setenv DB_PASSWORD opensesame", "opensesame"),
    "a key behind a space": ("export API_KEY abcdef", "abcdef"),
    "a token behind a space": ("sent token 9f8a7b6c5d and", "9f8a7b6c5d"),
    "a key of a cloud": ("id AKIAIOSFODNN7EXAMPLE.", "AKIAIOSFODNN7EXAMPLE"),
    "a nonce": ("nonce=Zm9vYmFyYmF6", "Zm9vYmFyYmF6"),
    "a nonce behind a space": ("with nonce 5f2c9a71", "5f2c9a71"),
    "a name": ("of zoe planted, at", "planted"),
    "a home": ('"/home/grace/.config/x"', "grace"),
    "a home of macOS": ("/Users/Grace/Library", "Grace"),
    "a home of Windows": (r'"C:\\Users\\Grace\\x"', "Grace"),
    "a home elsewhere": ("/srv/people/ada/x", "people"),
}


@pytest.mark.parametrize(("text", "secret"), PLANTED.values(), ids=PLANTED)
def test_what_is_planted_is_taken_out(text: str, secret: str) -> None:
    assert secret in text

    told = redacted(text)

    assert secret.lower() not in told.lower()
    assert re.search(r"<[a-z]+-1>", told)


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22T12:34:56.789Z seatkeeper.client: heartbeat 17 failed after 3 attempts (HTTP 503)",
        "std::string in seatkeeper/client.py, line 28, version 3.11.7",
        "I live in a small house with one door and two windows, all the year round and longer",
        "LICENSE_KEY_INVALID: the license expired; the key is unknown",
        "5c0a3e0e-7c1f-5b1a-9a5c-2d5a2f8f0b11 and " + "0f" * 32,
        "usr/lib/python3.11/site-packages: import seatkeeper.command.doctor",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text


def test_the_same_value_has_the_same_placeholder_however_it_is_written() -> None:
    redactor = Redactor(KNOWN)

    told = redactor.text(f"192.0.2.1 192.0.2.2 192.0.2.1 {KEY} {KEY.lower().replace('-', ' ')}")

    assert told == "<address-1> <address-2> <address-1> <key-1> <key-1>"
    assert redactor.text("again 192.0.2.2") == "again <address-2>"
    assert redactor.taken == {"address": 4, "key": 2}


@pytest.mark.parametrize("known", [KEY, KEY.lower(), KEY.replace("-", "")])
def test_a_key_of_ours_that_is_known_is_found_in_any_spelling(known: str) -> None:
    redactor = Redactor(Known(keys=(known,)))

    for between in ("", "-", " - ", "\u2011"):
        assert redactor.text(f"x{between.join(KEY.replace('-', ''))}x") == "x<key-1>x"


@pytest.mark.parametrize("before", ["", "u", "ab", "abc:"])
@pytest.mark.parametrize("known", [KEY, IMPORTED])
def test_what_is_known_is_found_in_base64_whole(known: str, before: str) -> None:
    redactor = Redactor(Known(keys=(known,)))
    written = f"{before}{known}".encode()

    for encoded in (base64.b64encode(written).decode(), base64.urlsafe_b64encode(written).decode().rstrip("=")):
        assert re.fullmatch(r'"<key-\d>" and', redactor.text(f'"{encoded}" and'))


def test_documents_stay_documents() -> None:
    document = {
        "deviceToken": "opaque",
        "license_key": ["unknown kind"],
        "n": 17,
        "on": True,
        "none": None,
        "list": ["ada", {KEY: "x"}],
    }

    told = Redactor(KNOWN).data(document)

    assert told == {
        "deviceToken": "<secret-1>",
        "license_key": ["<secret-2>"],
        "n": 17,
        "on": True,
        "none": None,
        "list": ["<user-1>", {"<key-1>": "x"}],
    }


# --- Wherever it stands -----------------------------------------------------------------------------------------

FEW = settings(max_examples=40, deadline=None)
ANYTHING = st.text(max_size=20)
APART = st.text(alphabet=" \n\t\"',;()[]{}<>=", max_size=3).map(lambda text: text or " ")
OWN = st.binary(min_size=17, max_size=17).map(format_key)
NAME = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
RANDOM = st.text(alphabet=f"{NAME}-_", min_size=16, max_size=60).filter(lambda text: text.strip("-_ ") != "")


@FEW
@given(ANYTHING, OWN, st.sampled_from(["-", "_", " "]), st.booleans(), ANYTHING)
def test_no_key_of_ours_survives(before: str, key: str, between: str, lower: bool, after: str) -> None:
    written = key.replace("-", between)
    written = written.lower() if lower else written

    assert written not in redacted(before + written + after)


@FEW
@given(ANYTHING, st.text(min_size=16, max_size=60).filter(lambda t: len(t.strip()) > 15), ANYTHING)
def test_no_known_key_survives(before: str, key: str, after: str) -> None:
    assume(key.strip() not in (before, after))
    redactor = Redactor(Known(keys=(key,)))

    for written in (key.strip(), json.dumps(key.strip())[1:-1], quote(key.strip(), safe="")):
        assert written not in redactor.text(before + written + after)


@FEW
@given(ANYTHING, st.text(alphabet=f"{NAME}-._~", min_size=2, max_size=30), ANYTHING)
def test_no_known_password_survives(before: str, password: str, after: str) -> None:
    left = Redactor(Known(passwords=(password,))).text(before + password + after)

    assert password not in re.sub(r"<password-\d+>", "", left)


@FEW
@given(ANYTHING, st.sampled_from(["skd1.", "skm_"]), RANDOM, APART)
def test_no_token_survives(before: str, prefix: str, token: str, after: str) -> None:
    assume(token not in before)
    assert token not in redacted(before + prefix + token + after)


@FEW
@given(ANYTHING, st.binary(min_size=8, max_size=60), st.binary(max_size=40), APART)
def test_no_signed_document_survives(before: str, payload: bytes, signature: bytes, after: str) -> None:
    parts = [b'{"alg":"EdDSA"}', payload, signature]
    document = ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)

    assert document.split(".")[1] not in redacted(before + document + after)


@FEW
@given(ANYTHING, st.binary(min_size=48, max_size=120), ANYTHING)
def test_no_private_key_survives(before: str, secret: bytes, after: str) -> None:
    body = base64.encodebytes(secret).decode()

    told = redacted(f"{before}-----BEGIN PRIVATE KEY-----\n{body}-----END PRIVATE KEY-----\n{after}")

    assert not any(line in told for line in body.splitlines() if len(line) > 8)


@FEW
@given(ANYTHING, RANDOM, st.text(alphabet=NAME, min_size=4, max_size=20), APART)
def test_no_password_of_a_url_survives(before: str, password: str, user: str, after: str) -> None:
    assume(password not in before)
    left = redacted(f"{before} https://{user}:{password}@host.example/{after}")

    assert password not in left


@FEW
@given(
    st.text(max_size=20).map(lambda text: text.replace("\r", "").replace("\n", "")),
    st.sampled_from(["Authorization: License ", "authorization: Bearer ", 'Proxy-Authorization": "Basic ']),
    RANDOM,
    APART,
)
def test_no_header_survives(before: str, header: str, secret: str, after: str) -> None:
    assume(secret not in before)
    assert secret not in redacted(f"{before}\n{header}{secret}{after}")


@FEW
@given(ANYTHING, st.ip_addresses(v=4), ANYTHING)
def test_no_ipv4_address_survives(before: str, address: ipaddress.IPv4Address, after: str) -> None:
    assert str(address) not in redacted(before + str(address) + after)


@FEW
@given(
    ANYTHING,
    APART,
    st.ip_addresses(v=6).filter(lambda address: not address.is_unspecified),
    st.booleans(),
    APART,
    ANYTHING,
)
def test_no_ipv6_address_survives(
    before: str, left: str, address: ipaddress.IPv6Address, full: bool, right: str, after: str
) -> None:
    written = address.exploded if full else str(address)

    assert written not in redacted(before + left + written + right + after)


@FEW
@given(ANYTHING, st.binary(min_size=6, max_size=6), st.sampled_from(":-"), ANYTHING)
def test_no_mac_address_survives(before: str, card: bytes, between: str, after: str) -> None:
    assert card.hex(between) not in redacted(before + card.hex(between) + after)


@FEW
@given(ANYTHING, st.emails(), APART)
def test_no_mail_address_survives(before: str, mail: str, after: str) -> None:
    user, _, host = mail.rpartition("@")

    assert f"{user[-1]}@{host}" not in redacted(f"{before} {mail}{after}")


@FEW
@given(ANYTHING, st.text(alphabet=NAME, min_size=2, max_size=20), st.sampled_from(["hosts", "users"]), ANYTHING)
def test_no_known_name_survives(before: str, name: str, kind: str, after: str) -> None:
    known = Known(hosts=(name,)) if kind == "hosts" else Known(users=(name,))

    left = Redactor(known).text(f"{before} {name.upper()} {after}")

    assert not re.search(rf"(?<![a-z0-9-<]){re.escape(name.lower())}(?![a-z0-9->])", left.lower())


@FEW
@given(st.recursive(st.one_of(OWN, ANYTHING), lambda inner: st.lists(inner) | st.dictionaries(ANYTHING, inner)), OWN)
def test_no_key_survives_in_documents(document: object, key: str) -> None:
    told = json.dumps(Redactor().data({"a": document, "b": [{key: f"x {key}"}]}), ensure_ascii=False)

    assert key not in told
    assert not re.search(r"1[0-9A-Z]{3}(-[0-9A-Z]{4}){6}", told)


@pytest.mark.parametrize("line", ["A" * 76, "A" * 20_000, "a.b" * 7000, "1234-" * 4000, "x=" * 10_000, "0:" * 10_000])
def test_no_log_takes_long(line: str) -> None:
    began = time.process_time()
    redacted("\n".join([line] * (200_000 // len(line))))
    assert time.process_time() - began < 5

"""The device's offline key: made once, kept privately, set aside when it was damaged; and the files it is kept in."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import rfc8785
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from seatkeeper import base64url, device_key, private_files
from seatkeeper.errors import ConfigurationError
from shared.signing import jws

posix = pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "offline-key.pem"


def test_a_key_is_made_once_and_read_again(path: Path) -> None:
    assert device_key.load(path) is None
    made = device_key.create(path)
    assert device_key.create(path).public == made.public
    loaded = device_key.load(path)
    assert loaded is not None
    assert loaded.public == made.public
    assert loaded.jwk == {"kty": "OKP", "crv": "Ed25519", "x": base64url.encode(made.public)}
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")


@posix
def test_only_the_owner_can_read_it(path: Path) -> None:
    device_key.create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_all_who_ask_at_once_have_the_same_key(path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: device_key.create(path).public, range(8)))
    loaded = device_key.load(path)
    assert loaded is not None
    assert set(made) == {loaded.public}


def test_the_private_half_is_in_no_repr(path: Path) -> None:
    key = device_key.create(path)
    private = serialization.load_pem_private_key(path.read_bytes(), None)
    raw = private.private_bytes_raw()  # type: ignore[union-attr]
    for secret in (base64url.encode(raw), raw.hex(), repr(raw)[2:-1]):
        assert secret not in f"{key!r} {key} {[key]}"
    assert "DeviceKey(kid=" in repr(key)


def test_what_it_signs_the_server_verifies(path: Path) -> None:
    key = device_key.create(path)
    signed = key.signed("seatkeeper-test+jws", {"b": 1, "a": "é"})
    signature = signed.pop("signature")
    assert signed == {"b": 1, "a": "é"}
    assert jws.is_signed_detached(signature, rfc8785.dumps(signed), key.public, "seatkeeper-test+jws")


OTHER_KIND = ec.generate_private_key(ec.SECP256R1()).private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)


@pytest.mark.parametrize("contents", [b"", b"\0" * 119, b"-----BEGIN PRIVATE KEY-----\nAAAA\n", OTHER_KIND])
def test_a_damaged_key_is_set_aside_and_the_next_one_is_fresh(path: Path, contents: bytes) -> None:
    private_files.write(path, contents)
    with pytest.raises(ConfigurationError, match="set aside"):
        device_key.load(path)
    (aside,) = path.parent.iterdir()
    assert aside.name.startswith("offline-key.pem.corrupt-")
    assert aside.read_bytes() == contents
    assert device_key.create(path).public


def test_a_private_file_is_replaced_whole_and_leaves_nothing_beside_it(path: Path) -> None:
    assert private_files.read(path) is None
    private_files.write(path, b"one")
    private_files.write(path, b"two")
    assert private_files.read(path) == b"two"
    assert not private_files.create(path, b"three")
    assert private_files.read(path) == b"two"
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_write_that_fails_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private_files.write(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        private_files.write(path, b"new")
    assert private_files.read(path) == b"old"
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_file_is_created_where_the_file_system_has_no_links(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    assert private_files.create(path, b"one")
    assert not private_files.create(path, b"two")
    assert private_files.read(path) == b"one"

"""What a device keeps between runs: whole, its own, and never a reason to stop."""

import logging
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from seatkeeper.cache import KEPT_ASIDE, Cache, Kept, Refusal

KEPT = Kept(
    device_id="d-1",
    generation=3,
    device_token="skd1.secret",
    lease="a.b.c",
    valid_until=datetime(2027, 1, 1, tzinfo=UTC),
    counter=17,
    seen_s=1.5,
    refusal=Refusal(code="LEASE_LOST", detail="Activate again.", reason="user"),
    intent=b'{"nonce":"n"}',
    leaving=True,
)


def cache(folder: Path, *, product: str = "app", secret: bytes = b"a device") -> Cache:
    return Cache(folder / "seat", product=product, secret=secret)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert cache(tmp_path).read() is None
    assert cache(tmp_path).write(KEPT)
    assert cache(tmp_path).read() == KEPT
    cache(tmp_path).clear()
    assert cache(tmp_path).read() is None
    cache(tmp_path).clear()


def test_it_is_for_its_owner_alone_and_shows_no_secret(tmp_path: Path) -> None:
    cache(tmp_path).write(KEPT)
    path = cache(tmp_path).path
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert [file.name for file in path.parent.iterdir()] == ["state.bin"]
    sealed = path.read_bytes()
    assert not any(secret in sealed for secret in (b"skd1", b"a.b.c", b"d-1", b"nonce"))
    assert "skd1" not in repr(KEPT)
    assert "nonce" not in repr(KEPT)


def test_the_same_is_never_sealed_alike(tmp_path: Path) -> None:
    written = set()
    for _ in range(3):
        cache(tmp_path).write(KEPT)
        written.add(cache(tmp_path).path.read_bytes())
    assert len(written) == 3


@pytest.mark.parametrize("other", [{"product": "other"}, {"secret": b"another device"}])
def test_it_opens_on_its_device_and_for_its_product_alone(tmp_path: Path, other: dict[str, object]) -> None:
    cache(tmp_path).write(KEPT)
    assert cache(tmp_path, **other).read() is None  # type: ignore[arg-type]
    assert not cache(tmp_path).path.exists()


@pytest.mark.parametrize("damage", [b"", b"SKC1", b"SKC1" + b"x" * 11, b"SKC1" + b"x" * 100, b"\0" * 4096])
def test_what_does_not_open_is_set_aside(tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    path = cache(tmp_path).path
    path.parent.mkdir()
    path.write_bytes(damage)
    with caplog.at_level(logging.WARNING, "seatkeeper"):
        assert cache(tmp_path).read() is None
    (aside,) = path.parent.iterdir()
    assert aside.name.startswith("state.bin.corrupt-")
    assert aside.read_bytes() == damage
    assert str(aside) in caplog.text


def test_every_byte_counts(tmp_path: Path) -> None:
    cache(tmp_path).write(KEPT)
    whole = cache(tmp_path).path.read_bytes()
    for at in range(0, len(whole), 7):
        cache(tmp_path).path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert cache(tmp_path).read() is None


def test_what_a_killed_process_left_half_written_goes_after_an_hour(tmp_path: Path) -> None:
    cache(tmp_path).write(KEPT)
    folder = cache(tmp_path).path.parent
    old, new, other, own = (
        folder / name
        for name in (".state.bin.1.unfinished", ".state.bin.2.unfinished", ".other.bin.1.unfinished", ".state.bin.mine")
    )
    for file, age_s in ((old, 4000), (new, 10), (other, 4000), (own, 4000)):
        file.write_bytes(b"half")
        os.utime(file, (time.time() - age_s,) * 2)
    cache(tmp_path).write(KEPT)
    assert {*folder.iterdir()} == {folder / "state.bin", new, other, own}


def test_only_the_last_few_are_kept_aside(tmp_path: Path) -> None:
    path = cache(tmp_path).path
    path.parent.mkdir()
    for number in range(KEPT_ASIDE + 4):
        path.with_name(f"state.bin.corrupt-{number}").write_bytes(b"")
    path.write_bytes(b"damaged")
    cache(tmp_path).read()
    assert len(list(path.parent.iterdir())) == KEPT_ASIDE


def test_a_disk_that_cannot_be_used_is_told_and_no_more(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "seat").write_text("in the way")
    assert cache(tmp_path).read() is None
    assert not cache(tmp_path).write(KEPT)
    assert "cannot be written" in caplog.text

"""QR codes hold the file, whole and in order: they are read back from their modules."""

import functools
import json
import operator
import re
import zlib
from typing import Any

import pytest

from seatkeeper import qr
from seatkeeper.errors import ConfigurationError
from tests.unit.client.qr_reader import Symbol, read
from tests.unit.client.signed import LEAF, RSA, license_text


def read_back(codes: qr.QrCodes) -> bytes:
    """What a reader that knows structured append makes of them."""
    symbols: list[Symbol] = [read(symbol.matrix) for symbol in codes.symbols]
    assert [symbol.number for symbol in symbols] == list(range(len(symbols)))
    assert {symbol.total for symbol in symbols} == {len(symbols)}
    data = b"".join(symbol.data for symbol in symbols)
    parity = functools.reduce(operator.xor, data)
    assert {symbol.parity for symbol in symbols} == ({parity} if len(symbols) > 1 else {None})
    return data


@pytest.mark.parametrize("key", [LEAF, RSA], ids=["Ed25519", "RSA"])
def test_a_license_file_fits_one_symbol_and_is_read_back(key: Any) -> None:
    file = license_text(key)
    codes = qr.encode(file)
    (symbol,) = codes.symbols
    assert int(symbol.version) <= (24 if key is LEAF else 36)
    assert read_back(codes) == codes.text.encode()
    assert json.loads(codes.text) == json.loads(file)
    assert not re.search(r"[:,] |\n", codes.text)


def test_text_of_other_languages_is_read_back_whatever_the_reader_takes_bytes_for() -> None:
    file = json.dumps({"name": "阿达的笔记本 ☂ é"}, ensure_ascii=False, indent=2).encode()
    codes = qr.encode(file)
    assert codes.text.isascii()
    assert json.loads(read_back(codes)) == json.loads(file)


@pytest.mark.parametrize(("length", "symbols"), [(2950, 1), (2954, 2), (5920, 3)])
def test_what_does_not_fit_one_symbol_is_spread_over_as_few_as_hold_it(length: int, symbols: int) -> None:
    file = json.dumps({"a": "x" * (length - 8)}, separators=(",", ":")).encode()
    assert len(file) == length
    codes = qr.encode(file)
    assert len(codes.symbols) == symbols
    assert read_back(codes) == file


def test_what_sixteen_symbols_do_not_hold_is_handed_over_as_a_file() -> None:
    with pytest.raises(ConfigurationError, match="too long for QR codes"):
        qr.encode(json.dumps({"a": "x" * 48_000}).encode())


def test_the_picture_has_the_modules_of_the_symbol() -> None:
    codes = qr.encode(license_text())
    (symbol,) = codes.symbols
    (png,), (svg,) = codes.png(), codes.svg()
    side = len(symbol.matrix) + 2 * 4
    assert (
        png_modules(png, side)
        == [[0] * side] * 4
        + [[0] * 4 + [module & 1 for module in row] + [0] * 4 for row in symbol.matrix]
        + [[0] * side] * 4
    )
    assert f'width="{side * 4}" height="{side * 4}"'.encode() in svg


def png_modules(png: bytes, side: int) -> list[list[int]]:
    """The modules of a picture in one bit a pixel, four pixels a module; 1 is dark."""
    chunks: dict[bytes, bytes] = {}
    at = 8
    while at < len(png):
        length, name = int.from_bytes(png[at : at + 4], "big"), png[at + 4 : at + 8]
        chunks[name] = chunks.get(name, b"") + png[at + 8 : at + 8 + length]
        at += 12 + length
    width = side * 4
    assert chunks[b"IHDR"] == width.to_bytes(4, "big") * 2 + bytes([1, 0, 0, 0, 0])
    line = 1 + (width + 7) // 8
    raw = zlib.decompress(chunks[b"IDAT"])
    assert set(raw[:: 4 * line]) == {0}  # no filter: the three lines below each may say that they are the same
    rows = [raw[row * 4 * line + 1 : (row * 4 + 1) * line] for row in range(side)]
    return [[row[at * 4 // 8] >> (7 - at * 4 % 8) & 1 ^ 1 for at in range(side)] for row in rows]


def test_a_terminal_shows_each_symbol_under_its_number() -> None:
    one = qr.encode(license_text()).terminal()
    assert not re.search(r"\d/\d", one)
    several = qr.encode(json.dumps({"a": "x" * 3000}).encode()).terminal()
    assert re.findall(r"^\d/\d$", several, re.MULTILINE) == ["1/2", "2/2"]
    assert {"▀", "▄", "█"} <= set(one)

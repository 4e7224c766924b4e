"""Inputs for fuzzing: valid ones changed by chance in a few places, and every reader held to what it declares."""

import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from tests.abuse.conftest import Table

LONGEST_S = 0.25
"""Of a processor's time, for one input of these sizes."""

TOKENS = [
    *(bytes([byte]) for byte in b'\0\t\n\r "\\{}[],:.-+=_aA09\x7f\x80\xff'),
    b"null", b"true", b"NaN", b"-0", b"0.0", b"1e999", b"1e-999", b"-1", b"9" * 25, b"1" * 4400, b"1E400", b"0x1",
    b"\\u0000", b"\\ud800", b"\\udfff\\ud800", b"\\", b"\\x", b'""', b"{}", b"[]", b'{"a":', b"[" * 2000,
    b'{"a":' * 2000,
    b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", "é".encode(), "\u2028".encode(), "💻".encode(),
    "１".encode(), "\u00a0".encode(), "\u200b".encode(), b"..", b"==", b"AAAA", b"skd1.", b"signature", b"iss", b"\n\n",
]  # fmt: skip


MEMBERS = [
    *(b'"deep":' + b"[" * depth + b"]" * depth + b"," for depth in (100, 900, 990, 1000, 2000, 8000)),
    *(b'"deep":' + b'{"a":' * depth + b"1" + b"}" * depth + b"," for depth in (900, 990, 2000, 6000)),
    *(b'"more":' + number + b"," for number in (b"1" * 4400, b"-" + b"9" * 400, b"1e400", b"NaN", b"1.5", b"1e-400")),
    *(b'"more":"' + text + b'",' for text in (b"\\ud800", b"\\x", b"\0", b"\xff", b"\\u0000", b"\n")),
    b'"a":1,"a":2,', b'"":0,', b"// no\n", b",",
]  # fmt: skip
NUMBERS = [
    b"1" * 4400,
    b"9" * 400,
    b"9223372036854775808",
    b"18446744073709551616",
    b"1e400",
    b"1e30",
    b"-1",
    b"0.5",
    b"00",
]
TEXTS = [b"\\ud800", b"\\u0000", b"\0", b"\xff", b"\\", b"x" * 9000, b"\xed\xa0\x80"]


def mutated(chance: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    """`data` changed in one to four places: bits, bytes, spans, words of the formats, pieces of other inputs."""
    for _ in range(chance.choice((1, 1, 1, 2, 3, 4))):
        at, end = sorted((chance.randint(0, len(data)), chance.randint(0, len(data))))
        end = min(end, at + chance.choice((1, 1, 2, 4, 16, 4096)))
        span = data[at:end]
        data = data[:at] + chance.choice(CHANGES)(chance, span, corpus) + data[end:]
    return data


def _flip(chance: random.Random, span: bytes, _corpus: Sequence[bytes]) -> bytes:
    return bytes([span[0] ^ 1 << chance.randrange(8)]) + span[1:] if span else b""


def _splice(chance: random.Random, _span: bytes, corpus: Sequence[bytes]) -> bytes:
    other = chance.choice(corpus)
    start = chance.randint(0, len(other))
    return other[start : start + chance.choice((1, 4, 16, 4096))]


CHANGES: list[Callable[[random.Random, bytes, Sequence[bytes]], bytes]] = [
    _flip,
    _flip,
    _splice,
    lambda chance, span, _: chance.randbytes(len(span)),
    lambda chance, span, _: chance.choice(TOKENS),
    lambda chance, span, _: span + chance.choice(TOKENS),
    lambda chance, span, _: span * 2,
    lambda chance, span, _: span[::-1],
    lambda chance, span, _: b"",
    lambda chance, span, _: span.swapcase(),
]


def aimed(data: bytes) -> Iterator[bytes]:
    """Where chance seldom hits: unknown members of great depth, endless numbers, half characters, in every place."""
    for brace in re.finditer(rb"\{", data):
        for member in MEMBERS:
            yield data[: brace.end()] + member + data[brace.end() :]
    for number in re.finditer(rb"(?<=[:\[ ])-?[0-9]+", data):
        for other in NUMBERS:
            yield data[: number.start()] + other + data[number.end() :]
    for quote in re.finditer(rb'"', data):
        for text in TEXTS:
            yield data[: quote.end()] + text + data[quote.end() :]


def fuzz(
    table: Table, name: str, corpus: Sequence[bytes], check: Callable[[bytes], bool], *, tries: int, seed: int = 1
) -> None:
    """A row. `check` tells whether an input was read, and fails where the reader did not keep to what it declares."""
    chance = random.Random(seed)
    read, wrong, first = 0, 0, ""
    for genuine in corpus:
        assert check(genuine), f"{name}: the genuine input is not read"
    inputs = [data for genuine in corpus for data in aimed(genuine)]
    tried = tries + len(inputs)
    for data in chain(inputs, (mutated(chance, chance.choice(corpus), corpus) for _ in range(tries))):
        try:
            was_read, took_s = _timed(check, data)
            if took_s >= LONGEST_S:  # its own doing, or a collection of this process's garbage
                was_read, took_s = _timed(check, data)
            read += was_read
            assert took_s < LONGEST_S, f"{took_s:.2f} s"
        except Exception as error:
            wrong += 1
            first = first or f"{type(error).__name__} {error!s:.200}, as by {data!r:.200}"
    note = f"{read} were read" + (f"; {first}" if first else "")
    table.row(f"fuzzing: {name}", tried=tried, got_through=wrong, note=note)


def _timed(check: Callable[[bytes], bool], data: bytes) -> tuple[bool, float]:
    """What it says, and the processor's seconds that it took."""
    began = time.thread_time()
    was_read = check(data)
    return was_read, time.thread_time() - began

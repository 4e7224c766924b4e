"""Reads the modules of a QR code (ISO/IEC 18004) that is whole: mask, order of codewords, structured append, bytes.

Of the writer's own it takes nothing but the tables of the standard.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from segno import consts

MASKS: tuple[Callable[[int, int], bool], ...] = (
    lambda i, j: (i + j) % 2 == 0,
    lambda i, j: i % 2 == 0,
    lambda i, j: j % 3 == 0,
    lambda i, j: (i + j) % 3 == 0,
    lambda i, j: (i // 2 + j // 3) % 2 == 0,
    lambda i, j: i * j % 2 + i * j % 3 == 0,
    lambda i, j: (i * j % 2 + i * j % 3) % 2 == 0,
    lambda i, j: ((i + j) % 2 + i * j % 3) % 2 == 0,
)
LEVELS = {1: consts.ERROR_LEVEL_L, 0: consts.ERROR_LEVEL_M, 3: consts.ERROR_LEVEL_Q, 2: consts.ERROR_LEVEL_H}
STRUCTURED_APPEND, BYTES = 3, 4


class Symbol(NamedTuple):
    data: bytes
    number: int
    total: int
    parity: int | None


def read(matrix: Sequence[Sequence[int]]) -> Symbol:
    version = (len(matrix) - 17) // 4
    format_bits = int("".join(str(matrix[8][at] & 1) for at in (0, 1, 2, 3, 4)), 2) ^ 0b10101
    level, mask = LEVELS[format_bits >> 3], MASKS[format_bits & 7]
    bits = [matrix[i][j] & 1 ^ mask(i, j) for i, j in places(version)]
    codewords = [int("".join(map(str, bits[at : at + 8])), 2) for at in range(0, len(bits) - 7, 8)]
    return parsed("".join(f"{word:08b}" for word in data_words(codewords, version, level)), version)


def places(version: int) -> Iterator[tuple[int, int]]:
    """Where the bits of the codewords stand, in their order."""
    size = 17 + 4 * version
    upwards = True
    for right in [*range(size - 1, 6, -2), 5, 3, 1]:
        rows = range(size - 1, -1, -1) if upwards else range(size)
        yield from ((i, j) for i in rows for j in (right, right - 1) if not is_pattern(i, j, version, size))
        upwards = not upwards


def is_pattern(i: int, j: int, version: int, size: int) -> bool:
    finder = (i < 9 and (j < 9 or j >= size - 8)) or (i >= size - 8 and j < 9)
    numbered = version >= 7 and ((i < 6 and j >= size - 11) or (j < 6 and i >= size - 11))
    centres = consts.ALIGNMENT_POS[version - 2] if version > 1 else ()
    corners = {(6, 6), (6, size - 7), (size - 7, 6)}
    aligned = any(abs(i - a) < 3 and abs(j - b) < 3 for a in centres for b in centres if (a, b) not in corners)
    return finder or numbered or aligned or 6 in (i, j)


def data_words(codewords: Sequence[int], version: int, level: int) -> list[int]:
    ecc: Any = consts.ECC
    lengths = [block.num_data for block in ecc[version][level] for _ in range(block.num_blocks)]
    blocks: list[list[int]] = [[] for _ in lengths]
    words = iter(codewords)
    for at in range(max(lengths)):
        for block, length in zip(blocks, lengths, strict=True):
            if at < length:
                block.append(next(words))
    return [word for block in blocks for word in block]


def parsed(bits: str, version: int) -> Symbol:
    at = 0

    def take(width: int) -> int:
        nonlocal at
        at += width
        return int(bits[at - width : at], 2)

    mode, number, total, parity = take(4), 0, 0, None
    if mode == STRUCTURED_APPEND:
        number, total, parity, mode = take(4), take(4), take(8), take(4)
    assert mode == BYTES
    length = take(8 if version < 10 else 16)
    return Symbol(bytes(take(8) for _ in range(length)), number, total + 1, parity)

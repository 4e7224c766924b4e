"""What verbs read from files, or from stdin where `-` is said."""

import sys
from pathlib import Path

from seatkeeper.command.failures import CommandError, ExitCode
from seatkeeper.system_words import system_words

ON_STDIN = "-"
LONGEST = 64 * 1024


def read_secret(file: str) -> str:
    """The first line. A key is never taken from the line itself, where other users of the machine see it."""
    if file == ON_STDIN:
        return sys.stdin.readline().strip()
    try:
        return read_bytes(file).decode("utf-8-sig").strip().partition("\n")[0].strip()
    except UnicodeDecodeError:
        raise CommandError("failure.file", ExitCode.MISUSED, file=file, why="UTF-8?") from None


def read_bytes(file: str) -> bytes:
    """A document, cut off where it is longer than any may be."""
    if file == ON_STDIN:
        return sys.stdin.buffer.read(LONGEST + 1)
    try:
        with Path(file).expanduser().open("rb") as opened:
            return opened.read(LONGEST + 1)
    except OSError as error:
        raise CommandError("failure.file", ExitCode.MISUSED, file=file, why=system_words(error)) from None

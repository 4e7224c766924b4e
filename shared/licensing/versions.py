"""Versions of applications: numbers between dots, of which the range in a policy names as many as it means.

`2.3` as the last supported version takes in 2.3.7 and not 2.4; as the first it takes in 2.3 and whatever is later.
A `v` in front and what follows the numbers (`-beta.1`, `+build`, ` SP2`) count for nothing.
"""

import re

_NUMBERS = re.compile(r"[vV]?([0-9]{1,9}(?:\.[0-9]{1,9}){0,7})(?![0-9])")


def read_version(text: str) -> tuple[int, ...] | None:
    """The numbers that a version begins with; None for a text that begins with none."""
    found = _NUMBERS.match(text.strip())
    return tuple(map(int, found[1].split("."))) if found else None


def is_supported(version: str | None, first: str | None, last: str | None) -> bool:
    """Whether an application's version lies in a policy's range. Where there is a range, no version is not in it."""
    if first is None and last is None:
        return True
    numbers = read_version(version or "")
    if numbers is None:
        return False
    return (first is None or _to_width_of(first, numbers) >= _numbers(first)) and (
        last is None or _to_width_of(last, numbers) <= _numbers(last)
    )


def _to_width_of(bound: str, numbers: tuple[int, ...]) -> tuple[int, ...]:
    """As many of the numbers as the bound names, zeros for those that are not there."""
    width = len(_numbers(bound))
    return (numbers + (0,) * width)[:width]


def _numbers(bound: str) -> tuple[int, ...]:
    return read_version(bound) or ()

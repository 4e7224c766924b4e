"""Lengths of time and ends of licenses as a person writes them. What cannot be read is a ValueError that says so."""

import re
from datetime import UTC, date, datetime, time, timedelta

LONGEST_S = 315_360_000
"""Ten years of 365 days, the longest lease that the database takes."""

_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"([0-9]{1,9})([smhd]?)")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9:.]+([Zz]|[+-][0-9]{2}:[0-9]{2})?")


def duration_s(text: str) -> int:
    """The seconds of `90d`, `10m`, `12h`, `30s` or plain `3600`, from one second to ten years."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no length of time: write 90d, 12h, 10m, 30s or a number of seconds")
    seconds = int(found[1]) * _UNITS_S[found[2]]
    if not 1 <= seconds <= LONGEST_S:
        raise ValueError(f"{text!r} must lie between one second and ten years (3650d)")
    return seconds


def written(seconds: int) -> str:
    """Whole seconds as `duration_s` reads them, in the largest unit that fits."""
    unit = max((unit for unit, size_s in _UNITS_S.items() if seconds % size_s == 0), key=lambda unit: _UNITS_S[unit])
    return f"{seconds // _UNITS_S[unit]}{unit or 's'}"


def expiry(text: str) -> datetime:
    """The moment at which a license ends. A day counts in full: `2027-01-31` ends with that day in UTC."""
    try:
        return _day_after(text.strip()) if _DAY.fullmatch(text.strip()) else _moment(text.strip())
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is no date: write 2027-01-31 (good through that day, UTC) or 2027-01-31T12:00:00Z"
        ) from None


def _day_after(text: str) -> datetime:
    return datetime.combine(date.fromisoformat(text), time(), UTC) + timedelta(days=1)


def _moment(text: str) -> datetime:
    """RFC 3339, whose offset is no option: a local time would mean another moment to everybody."""
    found = _MOMENT.fullmatch(text)
    if found is None or found[1] is None:
        raise ValueError(text)
    return datetime.fromisoformat(text.upper()).astimezone(UTC)

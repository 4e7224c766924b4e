"""How what Redis holds of a license differs from what Postgres holds. Pure: both are given, none is asked.

- What is merely absent is no drift: an unknown license, an older epoch, a device without its field.
- Contacts and counts may be ahead of Postgres. Floors may not be: what Redis says yes to, Postgres has to hold.
- A difference says nothing by itself: a change may be on its way. Who compares looks twice.
"""

from collections.abc import Mapping
from enum import StrEnum

from shared.licensing.model import Change
from shared.seats import keys
from shared.seats.projection import Standing

Fields = Mapping[bytes, bytes]
"""A license's hash: its header and the seats of its devices; empty where there is none."""


class Kind(StrEnum):
    """What differs. Another version says all that can be said; the others are differences at the same version."""

    VERSION = "version"
    HEADER = "header"
    GENERATION = "generation"
    SEATLESS = "seatless"
    FLOOR = "floor"


def is_missing(epoch: int, fields: Fields) -> bool:
    """Whether Redis knows nothing of the license that counts in this epoch."""
    header = fields.get(keys.HEADER_FIELD, b"")
    return not fields or (len(header) == keys.HEADER.size and keys.HEADER.unpack(header)[0] != epoch)


def drift(epoch: int, fields: Fields, held: Change) -> dict[Kind, str]:
    """What differs, in words for a log; nothing where all is well or missing. `held` has every active device."""
    if is_missing(epoch, fields):
        return {}
    header, expected = fields.get(keys.HEADER_FIELD, b""), keys.pack_header(epoch, held.license)
    if len(header) != keys.HEADER.size:
        return {Kind.HEADER: f"{len(header)} bytes"}
    standing = Standing._make(keys.HEADER.unpack(header))
    if standing.version != held.license.version:
        return {Kind.VERSION: f"{standing.version} for {held.license.version}"}
    found = {}
    if header != expected:
        found[Kind.HEADER] = _differences(standing, Standing._make(keys.HEADER.unpack(expected)))
    return found | _of_seats(fields, held)


def _of_seats(fields: Fields, held: Change) -> dict[Kind, str]:
    seats = {keys.device_field(device.id): keys.pack_seat(device) for device in held.devices}
    found: dict[Kind, str] = {}
    for field, seat in fields.items():
        expected = seats.get(field)
        if field == keys.HEADER_FIELD or seat == expected:
            continue
        if (difference := _of_seat(seat, expected)) is not None:
            kind, words = difference
            found[kind] = f"{field.hex()}: {words}"
    return found


def _of_seat(seat: bytes, expected: bytes | None) -> tuple[Kind, str] | None:
    if expected is None:
        return Kind.SEATLESS, "holds no seat"
    if len(seat) != len(expected):
        return Kind.GENERATION, f"{len(seat)} bytes"
    generation, floor_s = keys.SEAT.unpack(seat)[:2]
    held_generation, held_floor_s = keys.SEAT.unpack(expected)[:2]
    if generation != held_generation:
        return Kind.GENERATION, f"{generation} for {held_generation}"
    return (Kind.FLOOR, f"{floor_s} for {held_floor_s}") if floor_s > held_floor_s else None


def _differences(seen: Standing, held: Standing) -> str:
    pairs = zip(Standing._fields, seen, held, strict=True)
    return ", ".join(f"{name} {was} for {is_}" for name, was, is_ in pairs if was != is_)

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
    try:
        return not fields or keys.unpack_header(fields.get(keys.HEADER_FIELD, b""))[0] != epoch
    except ValueError:
        return False


def drift(epoch: int, fields: Fields, held: Change) -> dict[Kind, str]:
    """What differs, in words for a log; nothing where all is well or missing. `held` has every active device."""
    if is_missing(epoch, fields):
        return {}
    header, expected = fields.get(keys.HEADER_FIELD, b""), keys.pack_header(epoch, held.license)
    try:
        standing = Standing._make(keys.unpack_header(header))
    except ValueError as error:
        return {Kind.HEADER: str(error)}
    if standing.version != held.license.version:
        return {Kind.VERSION: f"{standing.version} for {held.license.version}"}
    found = {}
    if header != expected:
        found[Kind.HEADER] = _differences(standing, Standing._make(keys.unpack_header(expected)))
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
    try:
        generation, floor_s, _, _ = keys.unpack_seat(seat)
    except ValueError as error:
        return Kind.GENERATION, str(error)
    held_generation, held_floor_s, _, _ = keys.unpack_seat(expected)
    if generation != held_generation:
        return Kind.GENERATION, f"{generation} for {held_generation}"
    return (Kind.FLOOR, f"{floor_s} for {held_floor_s}") if floor_s > held_floor_s else None


def _differences(seen: Standing, held: Standing) -> str:
    pairs = zip(Standing._fields, seen, held, strict=True)
    return ", ".join(f"{name} {was} for {is_}" for name, was, is_ in pairs if was != is_)

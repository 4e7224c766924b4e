"""Facts: what is told to other services once a change was committed.

A fact is immutable and states absolute values, so that applying it twice, or late, does no harm: whoever keeps
a copy compares `version`, which rises by one with each fact of a license. Readers ignore members they do not know.
"""

from datetime import datetime
from uuid import UUID

import msgspec

from shared.licensing.model import Change, Device, Event, License, LicenseStatus, Reason, Terms

SCHEMA = 1


class Fact(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One committed change of one license, with the license and the device as they were after it."""

    schema: int = SCHEMA
    type: str
    account_id: UUID
    license_id: UUID
    version: int
    at: datetime
    status: LicenseStatus
    seats_limit: int
    seats_allowed: int
    seats_used: int
    devices_pending: int
    expires_at: datetime | None
    terms: Terms
    reason: Reason | None = None
    device: Device | None = None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Fact)


def fact_of(event: Event, license: License, at: datetime) -> Fact:
    """The fact that tells of `event`. Seats are the event's own; status, end and terms the committed license's."""
    return Fact(
        type=event.kind,
        account_id=license.account_id,
        license_id=license.id,
        version=event.version,
        at=at,
        status=license.status,
        seats_limit=event.seats_limit,
        seats_allowed=event.seats_allowed,
        seats_used=event.seats_used,
        devices_pending=license.devices_pending,
        expires_at=license.expires_at,
        terms=license.terms,
        reason=event.reason,
        device=event.device,
    )


def change_of(fact: Fact) -> Change:
    """What the fact says of the projection: a step from the version before."""
    license = License(
        account_id=fact.account_id,
        id=fact.license_id,
        status=fact.status,
        seats_limit=fact.seats_limit,
        seats_allowed=fact.seats_allowed,
        seats_used=fact.seats_used,
        devices_pending=fact.devices_pending,
        version=fact.version,
        expires_at=fact.expires_at,
        terms=fact.terms,
    )
    return Change(
        license=license, base_version=fact.version - 1, devices=(fact.device,) if fact.device is not None else ()
    )


def encode(fact: Fact) -> str:
    return _encoder.encode(fact).decode()


def decode(text: str | bytes) -> Fact:
    """Raises `msgspec.ValidationError` for what is no fact of a schema this code can read."""
    return _decoder.decode(text)

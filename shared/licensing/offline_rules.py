"""The rules of offline files: while one lives, only its return, or a vendor's audited force, frees its seat."""

from datetime import datetime, timedelta

from msgspec.structs import replace

from shared.licensing import gates, leases
from shared.licensing.case import Case, named
from shared.licensing.codes import Code
from shared.licensing.model import (
    Decision,
    Device,
    DeviceState,
    EventKind,
    HoldOffline,
    License,
    Reason,
    ReturnOffline,
)
from shared.licensing.seat_rules import count_release, end, holds_nothing


def hold(case: Case, command: HoldOffline) -> Decision:
    device = named(case, command)
    if device is None:
        return case.refuse(Code.DEVICE_NOT_FOUND)
    if device.state is not DeviceState.ACTIVE or holds_nothing(device, command):
        return case.refuse(Code.LEASE_LOST, reason=device.ended_reason, device=device)
    if (code := gates.new_seat(case)) is not None:
        return case.refuse(code, device=device)
    longest = timedelta(days=case.license.terms.offline_max_days)
    if not case.now < command.until <= case.now + longest:
        return case.refuse(Code.OFFLINE_NOT_ALLOWED, device=device)
    if device.offline_until is not None and device.offline_until >= command.until:
        return case.grant(device, changed=False)
    device = replace(
        device,
        offline_until=command.until,
        lease_expires_at=leases.lease_end(case.license.terms, case.now, command.until),
        last_contact_at=case.now,
        announced_lease_end=None,
    )
    case.record(EventKind.DEVICE_HELD_OFFLINE, device)
    return case.grant(device)


def give_back(case: Case, command: ReturnOffline) -> Decision:
    """The seat of the generation whose key has signed; what came after it is untouched."""
    device = named(case, command)
    if device is None:
        return case.refuse(Code.DEVICE_NOT_FOUND)
    if device.state is not DeviceState.ACTIVE or holds_nothing(device, command):
        return case.grant(device, changed=False)
    if command.keeps_seat:
        return case.grant(_begin_anew(case, device))
    if (kept := count_release(case, device, command)) is not None:
        return kept
    return case.grant(end(case, device, Reason.USER))


def _begin_anew(case: Case, device: Device) -> Device:
    """End the device's generation and begin the next in the same seat, which was nobody's in between."""
    device = replace(
        device,
        generation=device.generation + 1,
        activated_at=case.now,
        last_contact_at=case.now,
        lease_expires_at=leases.lease_end(case.license.terms, case.now),
        announced_lease_end=None,
        counter=0,
        clone_suspected_at=None,
        offline_until=None,
    )
    case.record(EventKind.DEVICE_RENEWED, device)
    return device


def allows(license: License, days: int | None) -> bool:
    """Whether the policy allows a file of so many days; without a number, whether it allows any."""
    return (days or 1) <= license.terms.offline_max_days


def file_end(license: License, *, issued: datetime, days: int | None, certificate_end: datetime) -> datetime:
    """The end of a file: after the days asked for, or the policy's most, and never past the end of the license or of
    the certificate of the key that signs it. A whole second, if `issued` is."""
    end = min(issued + timedelta(days=days or license.terms.offline_max_days), certificate_end)
    hard_end = leases.hard_end(license)
    return min(end, hard_end.replace(microsecond=0)) if hard_end is not None else end

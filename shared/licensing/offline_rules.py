"""The rules of offline files: while one lives, only its return, or a vendor's audited force, frees its seat."""

from datetime import timedelta

from msgspec.structs import replace

from shared.licensing import gates, leases
from shared.licensing.case import Case, named
from shared.licensing.codes import Code
from shared.licensing.model import Decision, DeviceState, EventKind, HoldOffline, Reason, ReturnOffline
from shared.licensing.seat_rules import end, holds_nothing


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
    device = named(case, command)
    if device is None:
        return case.refuse(Code.DEVICE_NOT_FOUND)
    if holds_nothing(device, command) or device.offline_until is None:
        return case.grant(device, changed=False)
    return case.grant(end(case, device, Reason.USER))

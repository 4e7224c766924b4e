"""The rules of what a vendor decides: which devices are allowed, and how a license stands."""

from msgspec.structs import replace

from shared.licensing import leases
from shared.licensing.case import Case, named, unseen, vacate, waits
from shared.licensing.codes import Code
from shared.licensing.model import (
    Approve,
    Block,
    Decision,
    DeviceState,
    EventKind,
    LicenseStatus,
    Reason,
    Reinstate,
    Resize,
    Revoke,
    Suspend,
    Unblock,
)

MAX_SEATS = 2_000_000_000


def block(case: Case, command: Block) -> Decision:
    device = named(case, command)
    if device is None:
        return case.refuse(Code.DEVICE_NOT_FOUND)
    if device.state is DeviceState.BLOCKED:
        return case.grant(device, changed=False)
    if device.state is DeviceState.ACTIVE and leases.is_offline(device, case.now):
        return case.refuse(Code.OFFLINE_HELD, device=device, until=device.offline_until)
    vacate(case, device)
    device = replace(device, state=DeviceState.BLOCKED, approved=False, ended_at=case.now, ended_reason=Reason.BLOCKED)
    case.record(EventKind.DEVICE_BLOCKED, device, Reason.BLOCKED)
    return case.grant(device)


def unblock(case: Case, command: Unblock) -> Decision:
    device = named(case, command)
    if device is None:
        return case.refuse(Code.DEVICE_NOT_FOUND)
    if device.state is not DeviceState.BLOCKED:
        return case.grant(device, changed=False)
    device = replace(device, state=DeviceState.RELEASED)
    case.record(EventKind.DEVICE_UNBLOCKED, device)
    return case.grant(device)


def approve(case: Case, command: Approve) -> Decision:
    device = case.devices.get(command.device_id)
    if device is not None and device.state is DeviceState.BLOCKED:
        return case.refuse(Code.DEVICE_BLOCKED, device=device)
    if device is not None and device.approved:
        return case.grant(device, changed=False)
    if device is not None and waits(device):
        case.count(pending=-1)
    device = replace(device or replace(unseen(command), state=DeviceState.RELEASED), approved=True)
    case.record(EventKind.DEVICE_APPROVED, device)
    return case.grant(device)


def suspend(case: Case, command: Suspend) -> Decision:
    return _set_status(case, LicenseStatus.SUSPENDED, EventKind.LICENSE_SUSPENDED)


def reinstate(case: Case, command: Reinstate) -> Decision:
    return _set_status(case, LicenseStatus.ACTIVE, EventKind.LICENSE_REINSTATED)


def revoke(case: Case, command: Revoke) -> Decision:
    return _set_status(case, LicenseStatus.REVOKED, EventKind.LICENSE_REVOKED)


def _set_status(case: Case, status: LicenseStatus, event: EventKind) -> Decision:
    if case.license.status is status:
        return case.grant(changed=False)
    if case.license.status is LicenseStatus.REVOKED:
        return case.refuse(Code.LICENSE_REVOKED)
    case.license = replace(case.license, status=status)
    case.record(event)
    return case.grant()


def resize(case: Case, command: Resize) -> Decision:
    if not 0 <= command.seats <= MAX_SEATS:
        return case.refuse(Code.REQUEST_INVALID)
    if command.seats == case.license.seats_limit:
        return case.grant(changed=False)
    case.license = replace(case.license, seats_limit=command.seats)
    case.count()
    case.record(EventKind.LICENSE_RESIZED)
    return case.grant()

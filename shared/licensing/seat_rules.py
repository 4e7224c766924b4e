"""The rules of seats: how a device takes one, keeps it, and loses it."""

from msgspec.structs import replace

from shared.licensing import leases
from shared.licensing.case import Case, named, unseen, vacate
from shared.licensing.codes import Code
from shared.licensing.model import (
    Activate,
    Announce,
    Approval,
    Decision,
    Device,
    DeviceCommand,
    DeviceState,
    EventKind,
    Expire,
    Extend,
    Kind,
    License,
    LicenseStatus,
    Reason,
    Release,
    Reset,
)

PENDING_LIMIT = 100
"""Devices of one license that may wait for approval at a time; more are refused, so that nobody fills the table."""


def activate(case: Case, command: Activate) -> Decision:
    device = case.devices.get(command.device_id)
    if command.token_id is not None and (code := _token_fault(case)) is not None:
        return case.refuse(code)
    if device is not None and device.state is DeviceState.ACTIVE:
        return _contact(case, device)
    if (code := _license_fault(case)) is not None:
        return case.refuse(code)
    if device is not None and device.state is DeviceState.BLOCKED:
        return case.refuse(Code.DEVICE_BLOCKED, device=device)
    if device is not None and command.nonce is not None and device.nonce == command.nonce:
        return case.refuse(Code.REPLAYED, device=device)
    if case.token is not None and case.token.uses >= case.token.max_uses:
        return case.refuse(Code.TOKEN_EXHAUSTED)
    if case.license.terms.approval is Approval.ALLOW_LIST and not (device and device.approved):
        return _ask_approval(case, command, device)
    if case.license.full:
        _free_expired(case)
    if case.license.full:
        return case.refuse(Code.DEVICE_LIMIT_EXCEEDED)
    return _take_seat(case, command, device)


def _take_seat(case: Case, command: Activate, device: Device | None) -> Decision:
    was_pending = device is not None and device.state is DeviceState.PENDING
    device = replace(
        device or unseen(command),
        name=command.name or (device.name if device else ""),
        state=DeviceState.ACTIVE,
        generation=(device.generation if device else 0) + 1,
        activated_at=case.now,
        last_contact_at=case.now,
        lease_expires_at=leases.lease_end(case.license.terms, case.now),
        announced_lease_end=None,
        ended_at=None,
        ended_reason=None,
        nonce=command.nonce,
    )
    case.count(seats=1, pending=-1 if was_pending else 0)
    case.use_token()
    case.record(EventKind.DEVICE_ACTIVATED, device)
    return case.grant(device)


def _ask_approval(case: Case, command: Activate, device: Device | None) -> Decision:
    if device is not None and device.state is DeviceState.PENDING:
        return case.grant(device, changed=False)
    if case.license.devices_pending >= PENDING_LIMIT:
        return case.refuse(Code.DEVICE_NOT_ALLOWED)
    device = device or unseen(command)
    device = replace(device, name=command.name or device.name, state=DeviceState.PENDING)
    case.count(pending=1)
    case.record(EventKind.DEVICE_PENDING, device)
    return case.grant(device)


def extend(case: Case, command: Extend) -> Decision:
    device = case.devices.get(command.device_id)
    if device is None:
        return case.refuse(Code.DEVICE_NOT_FOUND)
    if command.generation is not None and command.generation < device.generation:
        return case.refuse(Code.LEASE_LOST, reason=Reason.SUPERSEDED, device=device)
    if device.state is not DeviceState.ACTIVE:
        return case.refuse(Code.LEASE_LOST, reason=device.ended_reason, device=device)
    if command.generation is not None and command.generation > device.generation:
        return case.refuse(Code.TOKEN_INVALID)
    return _contact(case, device)


def _contact(case: Case, device: Device) -> Decision:
    """An active device was heard. It counts while a license is suspended too, though the answer is a refusal."""
    license = case.license
    if license.status is LicenseStatus.REVOKED:
        return case.refuse(Code.LICENSE_REVOKED, device=device)
    if leases.is_expired(license, case.now):
        return case.refuse(Code.LICENSE_EXPIRED, device=device)
    if device.lease_expires_at is None or leases.needs_commit(license.terms.lease_s, device.lease_expires_at, case.now):
        device = replace(
            device,
            last_contact_at=case.now,
            lease_expires_at=leases.lease_end(license.terms, case.now),
            announced_lease_end=None,
        )
        case.keep(device)
    if license.status is LicenseStatus.SUSPENDED:
        return case.refuse(Code.LICENSE_SUSPENDED, device=device)
    return case.grant(device, changed=False)


def release(case: Case, command: Release) -> Decision:
    device = named(case, command)
    if device is None:
        return case.refuse(Code.DEVICE_NOT_FOUND)
    if _holds_nothing(device, command):
        return case.grant(device, changed=False)
    return case.grant(_end(case, device, command.reason))


def reset(case: Case, command: Reset) -> Decision:
    device = named(case, command)
    if device is None:
        return case.refuse(Code.DEVICE_NOT_FOUND)
    if not _holds_nothing(device, command):
        return case.grant(_end(case, replace(device, reset_at=case.now), Reason.RESET))
    if _is_reset(device, command):
        return case.grant(device, changed=False)
    device = replace(device, reset_at=case.now)
    case.record(EventKind.DEVICE_RESET, device)
    return case.grant(device)


def expire(case: Case, command: Expire) -> Decision:
    device = named(case, command)
    if device is None or _holds_nothing(device, command) or not leases.is_over(case.license, device, case.now):
        return case.grant(device, changed=False)
    return case.grant(_end(case, device, _silence(case.license)))


def announce(case: Case, command: Announce) -> Decision:
    device = named(case, command)
    if device is None or _holds_nothing(device, command) or not leases.is_expiring(case.license, device, case.now):
        return case.grant(device, changed=False)
    device = replace(device, announced_lease_end=device.lease_expires_at)
    case.record(EventKind.LEASE_EXPIRING, device)
    return case.grant(device)


def _license_fault(case: Case) -> Code | None:
    if case.license.status is LicenseStatus.REVOKED:
        return Code.LICENSE_REVOKED
    if case.license.status is LicenseStatus.SUSPENDED:
        return Code.LICENSE_SUSPENDED
    return Code.LICENSE_EXPIRED if leases.is_expired(case.license, case.now) else None


def _token_fault(case: Case) -> Code | None:
    """A token that was withdrawn or is past its end authenticates nobody, not even an active device."""
    if case.token is None:
        return Code.TOKEN_INVALID
    if case.token.revoked_at is not None:
        return Code.TOKEN_REVOKED
    return Code.TOKEN_EXPIRED if case.now >= case.token.expires_at else None


def _holds_nothing(device: Device, command: DeviceCommand) -> bool:
    """Whether what the command would end has ended already: no seat, or a later generation's."""
    ended = device.state not in (DeviceState.ACTIVE, DeviceState.PENDING)
    return ended or (command.generation is not None and command.generation != device.generation)


def _is_reset(device: Device, command: Reset) -> bool:
    """Whether the generation that is meant was reset already; of an earlier one any reset is enough."""
    if device.reset_at is None or device.activated_at is None:
        return device.reset_at is not None
    earlier = command.generation is not None and command.generation < device.generation
    return earlier or device.reset_at >= device.activated_at


def _end(case: Case, device: Device, reason: Reason) -> Device:
    vacate(case, device)
    device = replace(device, state=DeviceState.RELEASED, ended_at=case.now, ended_reason=reason)
    case.record(EventKind.DEVICE_RELEASED, device, reason)
    return device


def _free_expired(case: Case) -> None:
    """A full license frees its own ended leases first, so that a late reaper never costs anybody a seat."""
    for device in case.devices.values():
        if leases.is_over(case.license, device, case.now):
            _end(case, device, _silence(case.license))


def _silence(license: License) -> Reason:
    return Reason.IDLE if license.terms.kind is Kind.NODE_LOCKED else Reason.LEASE_EXPIRED

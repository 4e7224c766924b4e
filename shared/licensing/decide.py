"""Every rule of licensing, as one pure function: `decide(license, devices, token, command, now)`.

The ledger calls it under the license's row lock with what it read afterwards, and writes what it answers.
Rules that hold for all commands:

- A repeated command has one outcome: what is already so is granted again, unchanged, before any limit is looked at.
- `seats_used` is the count of active devices; `seats_allowed` is `max(limit, seats_used)`.
- Each event raises the license's version by one. Extending a lease is no event.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from shared.licensing import leases
from shared.licensing.codes import Code
from shared.licensing.model import (
    Activate,
    ActivationToken,
    Announce,
    Approval,
    Approve,
    Block,
    Command,
    Decision,
    Device,
    DeviceCommand,
    DeviceState,
    Event,
    EventKind,
    Expire,
    Extend,
    Granted,
    Kind,
    License,
    LicenseStatus,
    Reason,
    Refused,
    Reinstate,
    Release,
    Reset,
    Resize,
    Revoke,
    Suspend,
    Unblock,
)

PENDING_LIMIT = 100
"""Devices of one license that may wait for approval at a time; more are refused, so that nobody fills the table."""

MAX_SEATS = 2_000_000_000


class Case:
    """One command being decided: gathers changes so that each rule below stays a few lines."""

    def __init__(
        self,
        license: License,
        devices: Mapping[UUID, Device],
        token: ActivationToken | None,
        command: Command,
        now: datetime,
    ) -> None:
        self.license = license
        self.devices = devices
        self.token = token
        self.command = command
        self.now = now
        self._changed: dict[UUID, Device] = {}
        self._events: list[Event] = []
        self._token_used: UUID | None = None

    def use_token(self) -> None:
        self._token_used = self.token.id if self.token else None

    def keep(self, device: Device) -> None:
        """Write `device` without an event: a lease that moved."""
        self._changed[device.id] = device

    def record(self, kind: EventKind, device: Device | None = None, reason: Reason | None = None) -> None:
        """Note an event, and with it the device as it is now."""
        self.license = replace(self.license, version=self.license.version + 1)
        if device is not None:
            self._changed[device.id] = device
        self._events.append(
            Event(
                kind=kind,
                version=self.license.version,
                seats_used=self.license.seats_used,
                seats_allowed=self.license.seats_allowed,
                device=device,
                reason=reason,
            )
        )

    def count(self, *, seats: int = 0, pending: int = 0) -> None:
        """Move the counts. Taking a seat never raises the allowance: the database's CHECK stands behind the rules."""
        used = self.license.seats_used + seats
        shrunk = max(self.license.seats_limit, used)
        self.license = replace(
            self.license,
            seats_used=used,
            seats_allowed=self.license.seats_allowed if seats > 0 else shrunk,
            devices_pending=self.license.devices_pending + pending,
        )

    def grant(self, device: Device | None = None, *, changed: bool = True) -> Decision:
        return self._close(Granted(changed=changed, device=device))

    def refuse(self, code: Code, *, reason: Reason | None = None, device: Device | None = None) -> Decision:
        return self._close(Refused(code=code, reason=reason, device=device))

    def _close(self, answer: Granted | Refused) -> Decision:
        return Decision(
            answer=answer,
            license=self.license,
            devices=tuple(self._changed.values()),
            events=tuple(self._events),
            token_used=self._token_used,
        )


def decide(
    license: License,
    devices: Mapping[UUID, Device],
    token: ActivationToken | None,
    command: Command,
    now: datetime,
) -> Decision:
    """Decide one command.

    `devices` holds the command's device if there is one and, for a full license, those whose leases end first.
    `now` is the database's clock, read after the lock was held.
    """
    return _RULES[type(command)](Case(license, devices, token, command, now), command)


# --- Seats ----------------------------------------------------------------------------------------------------


def _activate(case: Case, command: Activate) -> Decision:
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
        device or _unseen(command),
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
    device = device or _unseen(command)
    device = replace(device, name=command.name or device.name, state=DeviceState.PENDING)
    case.count(pending=1)
    case.record(EventKind.DEVICE_PENDING, device)
    return case.grant(device)


def _extend(case: Case, command: Extend) -> Decision:
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


def _release(case: Case, command: Release) -> Decision:
    device = _named(case, command)
    if device is None:
        return case.refuse(Code.DEVICE_NOT_FOUND)
    if _holds_nothing(device, command):
        return case.grant(device, changed=False)
    return case.grant(_end(case, device, command.reason))


def _reset(case: Case, command: Reset) -> Decision:
    device = _named(case, command)
    if device is None:
        return case.refuse(Code.DEVICE_NOT_FOUND)
    if not _holds_nothing(device, command):
        return case.grant(_end(case, replace(device, reset_at=case.now), Reason.RESET))
    if _is_reset(device, command):
        return case.grant(device, changed=False)
    device = replace(device, reset_at=case.now)
    case.record(EventKind.DEVICE_RESET, device)
    return case.grant(device)


def _expire(case: Case, command: Expire) -> Decision:
    device = _named(case, command)
    if device is None or _holds_nothing(device, command) or not leases.is_over(case.license, device, case.now):
        return case.grant(device, changed=False)
    return case.grant(_end(case, device, _silence(case.license)))


def _announce(case: Case, command: Announce) -> Decision:
    device = _named(case, command)
    if device is None or _holds_nothing(device, command) or not leases.is_expiring(case.license, device, case.now):
        return case.grant(device, changed=False)
    device = replace(device, announced_lease_end=device.lease_expires_at)
    case.record(EventKind.LEASE_EXPIRING, device)
    return case.grant(device)


# --- The allow-list -------------------------------------------------------------------------------------------


def _block(case: Case, command: Block) -> Decision:
    device = _named(case, command)
    if device is None:
        return case.refuse(Code.DEVICE_NOT_FOUND)
    if device.state is DeviceState.BLOCKED:
        return case.grant(device, changed=False)
    _vacate(case, device)
    device = replace(device, state=DeviceState.BLOCKED, approved=False, ended_at=case.now, ended_reason=Reason.BLOCKED)
    case.record(EventKind.DEVICE_BLOCKED, device, Reason.BLOCKED)
    return case.grant(device)


def _unblock(case: Case, command: Unblock) -> Decision:
    device = _named(case, command)
    if device is None:
        return case.refuse(Code.DEVICE_NOT_FOUND)
    if device.state is not DeviceState.BLOCKED:
        return case.grant(device, changed=False)
    device = replace(device, state=DeviceState.RELEASED)
    case.record(EventKind.DEVICE_UNBLOCKED, device)
    return case.grant(device)


def _approve(case: Case, command: Approve) -> Decision:
    device = case.devices.get(command.device_id)
    if device is not None and device.state is DeviceState.BLOCKED:
        return case.refuse(Code.DEVICE_BLOCKED, device=device)
    if device is not None and device.approved:
        return case.grant(device, changed=False)
    device = replace(device or replace(_unseen(command), state=DeviceState.RELEASED), approved=True)
    case.record(EventKind.DEVICE_APPROVED, device)
    return case.grant(device)


# --- The license ----------------------------------------------------------------------------------------------


def _suspend(case: Case, command: Suspend) -> Decision:
    return _set_status(case, LicenseStatus.SUSPENDED, EventKind.LICENSE_SUSPENDED)


def _reinstate(case: Case, command: Reinstate) -> Decision:
    return _set_status(case, LicenseStatus.ACTIVE, EventKind.LICENSE_REINSTATED)


def _revoke(case: Case, command: Revoke) -> Decision:
    return _set_status(case, LicenseStatus.REVOKED, EventKind.LICENSE_REVOKED)


def _set_status(case: Case, status: LicenseStatus, event: EventKind) -> Decision:
    if case.license.status is status:
        return case.grant(changed=False)
    if case.license.status is LicenseStatus.REVOKED:
        return case.refuse(Code.LICENSE_REVOKED)
    case.license = replace(case.license, status=status)
    case.record(event)
    return case.grant()


def _resize(case: Case, command: Resize) -> Decision:
    if not 0 <= command.seats <= MAX_SEATS:
        return case.refuse(Code.REQUEST_INVALID)
    if command.seats == case.license.seats_limit:
        return case.grant(changed=False)
    case.license = replace(case.license, seats_limit=command.seats)
    case.count()
    case.record(EventKind.LICENSE_RESIZED)
    return case.grant()


# --- What the rules share -------------------------------------------------------------------------------------


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


def _named(case: Case, command: DeviceCommand) -> Device | None:
    """The command's device, unless it speaks of a generation that never was."""
    device = case.devices.get(command.device_id)
    if device is None or (command.generation is not None and command.generation > device.generation):
        return None
    return device


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
    _vacate(case, device)
    device = replace(device, state=DeviceState.RELEASED, ended_at=case.now, ended_reason=reason)
    case.record(EventKind.DEVICE_RELEASED, device, reason)
    return device


def _vacate(case: Case, device: Device) -> None:
    if device.state is DeviceState.ACTIVE:
        case.count(seats=-1)
    elif device.state is DeviceState.PENDING:
        case.count(pending=-1)


def _free_expired(case: Case) -> None:
    """A full license frees its own ended leases first, so that a late reaper never costs anybody a seat."""
    for device in case.devices.values():
        if leases.is_over(case.license, device, case.now):
            _end(case, device, _silence(case.license))


def _silence(license: License) -> Reason:
    return Reason.IDLE if license.terms.kind is Kind.NODE_LOCKED else Reason.LEASE_EXPIRED


def _unseen(command: Activate | Approve) -> Device:
    return Device(
        account_id=command.account_id,
        license_id=command.license_id,
        id=command.device_id,
        fingerprint=command.fingerprint,
        name="",
        state=DeviceState.PENDING,
        generation=0,
        approved=False,
        activated_at=None,
        last_contact_at=None,
        lease_expires_at=None,
        announced_lease_end=None,
        ended_at=None,
        ended_reason=None,
        reset_at=None,
        nonce=None,
    )


_RULES: dict[type[Command], Callable[[Case, Any], Decision]] = {
    Activate: _activate,
    Extend: _extend,
    Release: _release,
    Reset: _reset,
    Expire: _expire,
    Announce: _announce,
    Block: _block,
    Unblock: _unblock,
    Approve: _approve,
    Suspend: _suspend,
    Reinstate: _reinstate,
    Revoke: _revoke,
    Resize: _resize,
}

"""The rules of seats: how a device takes one, keeps it, and loses it."""

from datetime import timedelta

from msgspec.structs import replace

from shared.licensing import gates, leases
from shared.licensing.case import Case, named, unseen, vacate, waits
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
    OnClone,
    Reason,
    Release,
    Reset,
)

PENDING_LIMIT = 100
"""Devices of one license that may wait for approval at a time; more are refused, so that nobody fills the table."""

NONCES_KEPT = 8
"""A request that is repeated later than so many activations of its device after its own makes another."""

CLONE_EVERY = timedelta(days=1)
"""A device whose counter goes back is noted once in so long, however often it does."""

ADMIN = "admin"
"""The actor whom no limit of the policy binds: the vendor."""


def activate(case: Case, command: Activate) -> Decision:
    device = case.devices.get(command.device_id)
    if command.token_id is not None and (code := gates.token(case)) is not None:
        return case.refuse(code)
    if device is not None and device.state is DeviceState.ACTIVE:
        return _contact(case, device, command)
    if (code := gates.new_seat(case) or gates.application(case, command)) is not None:
        return case.refuse(code)
    if device is not None and device.state is DeviceState.BLOCKED:
        return case.refuse(Code.DEVICE_BLOCKED, device=device)
    if device is not None and command.nonce in device.nonces:
        return case.refuse(Code.REPLAYED, device=device)
    if case.token is not None and case.token.uses >= case.token.max_uses:
        return case.refuse(Code.TOKEN_EXHAUSTED)
    if case.license.terms.approval is Approval.ALLOW_LIST and not (device and device.approved):
        return _ask_approval(case, command, device)
    if not _has_room(case):
        return case.refuse(Code.DEVICE_LIMIT_EXCEEDED)
    most = case.license.terms.activations_per_hour
    if (until := gates.spent_until(case.license.activations, most, gates.HOUR, case.now)) is not None:
        return case.refuse(Code.TOO_MANY_REQUESTS, until=until)
    return _take_seat(case, command, device)


def _take_seat(case: Case, command: Activate, device: Device | None) -> Decision:
    device = device or unseen(command)
    was_waiting = waits(device) and command.device_id in case.devices
    device = replace(
        device,
        name=command.name or device.name,
        state=DeviceState.ACTIVE,
        generation=device.generation + 1,
        activated_at=case.now,
        last_contact_at=case.now,
        lease_expires_at=leases.lease_end(case.license.terms, case.now),
        announced_lease_end=None,
        ended_at=None,
        ended_reason=None,
        nonces=_nonces(device, command.nonce),
        counter=0,
        clone_suspected_at=None,
        offline_until=None,
    )
    _count_activation(case)
    case.count(seats=1, pending=-1 if was_waiting else 0)
    case.use_token()
    case.record(EventKind.DEVICE_ACTIVATED, device)
    return case.grant(device, warning=gates.warning(case))


def _nonces(device: Device, nonce: bytes | None) -> tuple[bytes, ...]:
    return device.nonces if nonce is None else (nonce, *device.nonces)[:NONCES_KEPT]


def _count_activation(case: Case) -> None:
    """The first activation begins a license that lasts for a time; where the policy limits them, each counts."""
    license, terms = case.license, case.license.terms
    if license.expires_at is None and terms.valid_s is not None:
        license = replace(license, expires_at=case.now + timedelta(seconds=terms.valid_s))
    if terms.activations_per_hour is not None:
        license = replace(license, activations=gates.counted(license.activations, gates.HOUR, case.now))
    case.license = license


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
        return _come_back(case, device, command)
    if command.generation is not None and command.generation > device.generation:
        return case.refuse(Code.TOKEN_INVALID)
    return _contact(case, device, command)


def _come_back(case: Case, device: Device, command: Extend) -> Decision:
    """A floating device that was silent past its lease has its seat again if one is free; any other has lost it."""
    lost_by_silence = device.state is DeviceState.RELEASED and device.ended_reason is Reason.LEASE_EXPIRED
    if not (command.resumes and command.generation == device.generation and lost_by_silence):
        return case.refuse(Code.LEASE_LOST, reason=device.ended_reason, device=device)
    if (code := gates.new_seat(case) or gates.application(case, command)) is not None:
        return case.refuse(code, device=device)
    if _went_back(device, command):
        device = _suspect(case, device)
        if case.license.terms.on_clone is OnClone.REFUSE:
            return case.refuse(Code.CLONE_SUSPECTED, device=device)
    if not _has_room(case):
        return case.refuse(Code.LEASE_LOST, reason=device.ended_reason, device=device)
    device = replace(
        device,
        state=DeviceState.ACTIVE,
        last_contact_at=case.now,
        lease_expires_at=leases.lease_end(case.license.terms, case.now),
        announced_lease_end=None,
        ended_at=None,
        ended_reason=None,
        counter=_counted(device, command),
        offline_until=None,
    )
    case.count(seats=1)
    case.record(EventKind.DEVICE_RESUMED, device)
    return case.grant(device, warning=gates.warning(case))


def _contact(case: Case, device: Device, command: Activate | Extend) -> Decision:
    """An active device was heard. It counts while a license is suspended too, though the answer is a refusal."""
    license = case.license
    if (code := gates.kept_seat(case) or gates.application(case, command)) is not None:
        return case.refuse(code, device=device)
    if isinstance(command, Extend) and _went_back(device, command):
        device = _suspect(case, device)
        if license.terms.on_clone is OnClone.REFUSE:
            return case.refuse(Code.CLONE_SUSPECTED, device=device)
    counter = _counted(device, command) if isinstance(command, Extend) else device.counter
    due = device.lease_expires_at is None or leases.needs_commit(
        license.terms.lease_s, device.lease_expires_at, case.now
    )
    if due or counter < device.counter:
        device = replace(
            device,
            last_contact_at=case.now,
            lease_expires_at=leases.lease_end(license.terms, case.now, device.offline_until),
            announced_lease_end=None,
            counter=counter,
        )
        case.keep(device)
    if license.status is LicenseStatus.SUSPENDED:
        return case.refuse(Code.LICENSE_SUSPENDED, device=device)
    return case.grant(device, changed=False, warning=gates.warning(case))


def _went_back(device: Device, command: Extend) -> bool:
    """Whether another machine has counted on from the same state. A count that begins anew, at 1, is a new start."""
    highest = max(device.counter, command.counter_seen)
    return command.counter is not None and 1 < command.counter < highest


def _counted(device: Device, command: Extend) -> int:
    """What the device has counted to; one that begins anew, at 1, is committed at once, or it would seem to go back."""
    return 1 if command.counter == 1 else max(device.counter, command.counter_seen, command.counter or 0)


def _suspect(case: Case, device: Device) -> Device:
    if device.clone_suspected_at is not None and case.now < device.clone_suspected_at + CLONE_EVERY:
        return device
    device = replace(device, clone_suspected_at=case.now)
    case.record(EventKind.CLONE_SUSPECTED, device)
    return device


def release(case: Case, command: Release) -> Decision:
    device = named(case, command)
    if device is None:
        return case.refuse(Code.DEVICE_NOT_FOUND)
    if holds_nothing(device, command):
        return case.grant(device, changed=False)
    if (held := _kept_from(case, device, command, forced=command.reason is Reason.FORCED)) is not None:
        return held
    return case.grant(end(case, device, command.reason))


def reset(case: Case, command: Reset) -> Decision:
    device = named(case, command)
    if device is None:
        return case.refuse(Code.DEVICE_NOT_FOUND)
    if not holds_nothing(device, command):
        if (held := _kept_from(case, device, command)) is not None:
            return held
        return case.grant(end(case, replace(device, reset_at=case.now), Reason.RESET))
    if _is_reset(device, command):
        return case.grant(device, changed=False)
    device = replace(device, reset_at=case.now)
    case.record(EventKind.DEVICE_RESET, device)
    return case.grant(device)


def _kept_from(case: Case, device: Device, command: Release | Reset, *, forced: bool = False) -> Decision | None:
    """The refusal that keeps a seat from being given back: a living offline file, or too many releases in a year."""
    if leases.is_offline(device, case.now) and not forced:
        return case.refuse(Code.OFFLINE_HELD, device=device, until=device.offline_until)
    return count_release(case, device, command)


def count_release(case: Case, device: Device, command: DeviceCommand) -> Decision | None:
    """One more seat given back this year, or the refusal where the policy allows no more.

    Devices and holders move a node-locked license as often as the policy allows; a vendor as often as he likes.
    """
    most = case.license.terms.releases_per_year
    if most is None or command.actor == ADMIN or device.state is not DeviceState.ACTIVE:
        return None
    if (until := gates.spent_until(case.license.releases, most, gates.YEAR, case.now)) is not None:
        return case.refuse(Code.RELEASE_LIMIT_EXCEEDED, device=device, until=until)
    case.license = replace(case.license, releases=gates.counted(case.license.releases, gates.YEAR, case.now))
    return None


def expire(case: Case, command: Expire) -> Decision:
    device = named(case, command)
    if device is None or holds_nothing(device, command) or not _is_over(case, device):
        return case.grant(device, changed=False)
    return case.grant(end(case, device, _silence(case.license)))


def announce(case: Case, command: Announce) -> Decision:
    device = named(case, command)
    if device is None or holds_nothing(device, command) or not leases.is_expiring(case.license, device, case.now):
        return case.grant(device, changed=False)
    device = replace(device, announced_lease_end=device.lease_expires_at)
    case.record(EventKind.LEASE_EXPIRING, device)
    return case.grant(device)


def holds_nothing(device: Device, command: DeviceCommand) -> bool:
    """Whether what the command would end has ended already: no seat, or a later generation's."""
    ended = device.state not in (DeviceState.ACTIVE, DeviceState.PENDING)
    return ended or (command.generation is not None and command.generation != device.generation)


def end(case: Case, device: Device, reason: Reason) -> Device:
    """Free the seat, and say why."""
    vacate(case, device)
    device = replace(device, state=DeviceState.RELEASED, ended_at=case.now, ended_reason=reason, offline_until=None)
    case.record(EventKind.DEVICE_RELEASED, device, reason)
    return device


def _is_reset(device: Device, command: Reset) -> bool:
    """Whether the generation that is meant was reset already; of an earlier one any reset is enough."""
    if device.reset_at is None or device.activated_at is None:
        return device.reset_at is not None
    earlier = command.generation is not None and command.generation < device.generation
    return earlier or device.reset_at >= device.activated_at


def _has_room(case: Case) -> bool:
    """Whether there is a seat. A full license frees its own ended leases first, so a late reaper costs nobody one.

    No more of them than are needed, and those first that ended first: the others may still be extended.
    """
    over = [(device.lease_expires_at, device.id) for device in case.devices.values() if _is_over(case, device)]
    for _, id in sorted(over):
        if not case.license.full:
            break
        end(case, case.devices[id], _silence(case.license))
    return case.license.admits


def _is_over(case: Case, device: Device) -> bool:
    return leases.is_over(case.license, device, case.now, case.reap_not_before)


def _silence(license: License) -> Reason:
    return Reason.IDLE if license.terms.kind is Kind.NODE_LOCKED else Reason.LEASE_EXPIRED

"""One command being decided: what was read, and what the rules change, gathered until the decision is made."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from msgspec.structs import replace

from shared.licensing.codes import Code
from shared.licensing.model import (
    Activate,
    ActivationToken,
    Approve,
    Command,
    Decision,
    Device,
    DeviceCommand,
    DeviceState,
    Event,
    EventKind,
    Granted,
    License,
    Overage,
    Reason,
    Refused,
)


class Case:
    """Gathers changes, so that each rule stays a few lines."""

    def __init__(
        self,
        license: License,
        devices: Mapping[UUID, Device],
        token: ActivationToken | None,
        command: Command,
        now: datetime,
        reap_not_before: datetime | None = None,
    ) -> None:
        self.license = license
        self.devices = devices
        self.token = token
        self.command = command
        self.now = now
        self.reap_not_before = reap_not_before
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
                seats_limit=self.license.seats_limit,
                seats_used=self.license.seats_used,
                seats_allowed=self.license.seats_allowed,
                device=device,
                reason=reason,
            )
        )

    def count(self, *, seats: int = 0, pending: int = 0) -> None:
        """Move the counts. Taking a seat raises the allowance only where the policy sells overage: else the database's
        CHECK stands behind the rules."""
        used = self.license.seats_used + seats
        fixed = seats > 0 and self.license.terms.overage is Overage.NONE
        self.license = replace(
            self.license,
            seats_used=used,
            seats_allowed=self.license.seats_allowed if fixed else max(self.license.seats_limit, used),
            devices_pending=self.license.devices_pending + pending,
        )

    def grant(self, device: Device | None = None, *, changed: bool = True, warning: Code | None = None) -> Decision:
        return self._close(Granted(changed=changed, device=device, warning=warning))

    def refuse(
        self,
        code: Code,
        *,
        reason: Reason | None = None,
        device: Device | None = None,
        until: datetime | None = None,
    ) -> Decision:
        return self._close(Refused(code=code, reason=reason, device=device, until=until))

    def _close(self, answer: Granted | Refused) -> Decision:
        return Decision(
            answer=answer,
            license=self.license,
            devices=tuple(self._changed.values()),
            events=tuple(self._events),
            token_used=self._token_used,
        )


def named(case: Case, command: DeviceCommand) -> Device | None:
    """The command's device, unless it speaks of a generation that never was."""
    device = case.devices.get(command.device_id)
    if device is None or (command.generation is not None and command.generation > device.generation):
        return None
    return device


def vacate(case: Case, device: Device) -> None:
    if device.state is DeviceState.ACTIVE:
        case.count(seats=-1)
    elif waits(device):
        case.count(pending=-1)


def waits(device: Device) -> bool:
    """Whether the device is one of those that wait for approval, whose number is limited."""
    return device.state is DeviceState.PENDING and not device.approved


def unseen(command: Activate | Approve) -> Device:
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
        nonces=(),
    )

"""One license in memory: the pure rules on a state that is kept as the ledger keeps its rows."""

from collections.abc import Set
from datetime import datetime, timedelta
from uuid import UUID

from msgspec.structs import replace

from shared.licensing.decide import decide
from shared.licensing.model import (
    Activate,
    ActivationToken,
    Command,
    Decision,
    Device,
    DeviceCommand,
    DeviceState,
    Extend,
    License,
)

NOBODY: Set[UUID] = frozenset()
HALTED_FOR = timedelta(days=36_525)


class World:
    """Deals with one command after the other. `not_before` is the moment before which silence ends no long lease."""

    def __init__(self, license: License, token: ActivationToken) -> None:
        self.license = license
        self.devices: dict[UUID, Device] = {}
        self.token = token
        self.not_before: datetime | None = None

    def decide(self, command: Command, now: datetime, preferred: Set[UUID] = NOBODY) -> Decision:
        """What the rules say. Of leases that ended at the same moment, those `preferred` go first: any may."""
        read = self._read(command, now, preferred)
        return decide(self.license, read, self._token_of(command), command, now, self.not_before)

    def write(self, decision: Decision) -> None:
        self.license = decision.license
        self.devices |= {device.id: device for device in decision.devices}
        if decision.token_used is not None:
            self.token = replace(self.token, uses=self.token.uses + 1)

    def in_state(self, state: DeviceState) -> list[Device]:
        return [device for device in self.devices.values() if device.state is state]

    def _read(self, command: Command, now: datetime, preferred: Set[UUID]) -> dict[UUID, Device]:
        """The device that is named and, of those past their end, as many as are in the way of a new seat."""
        named = command.device_id if isinstance(command, DeviceCommand) else None
        found = [device for device in self.devices.values() if device.id == named]
        if isinstance(command, Activate) or (isinstance(command, Extend) and command.resumes):
            in_the_way = max(0, self.license.seats_used + 1 - self.license.seats_limit)
            ended = [(d.lease_expires_at, d.id not in preferred, d.id) for d in self.in_state(DeviceState.ACTIVE)]
            found += [self.devices[id] for end, _, id in sorted(ended)[:in_the_way] if end is not None and end <= now]
        return {device.id: device for device in found}

    def _token_of(self, command: Command) -> ActivationToken | None:
        return self.token if isinstance(command, Activate) and command.token_id is not None else None

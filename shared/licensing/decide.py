"""Every rule of licensing, as one pure function: `decide(license, devices, token, command, now)`.

The ledger calls it under the license's row lock with what it read afterwards, and writes what it answers.
Rules that hold for all commands:

- A repeated command has one outcome: what is already so is granted again, unchanged, before any limit is looked at.
- `seats_used` is the count of active devices; `seats_allowed` is `max(limit, seats_used)`, and only a policy that sells
  overage lets an activation raise it.
- Each event raises the license's version by one. Extending a lease is no event.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from shared.licensing import offline_rules, seat_rules, vendor_rules
from shared.licensing.case import Case
from shared.licensing.model import (
    Activate,
    ActivationToken,
    Announce,
    Approve,
    Block,
    Command,
    Decision,
    Device,
    Expire,
    Extend,
    HoldOffline,
    License,
    Reinstate,
    Release,
    Reset,
    Resize,
    ReturnOffline,
    Revoke,
    Suspend,
    Unblock,
)


def decide(
    license: License,
    devices: Mapping[UUID, Device],
    token: ActivationToken | None,
    command: Command,
    now: datetime,
    reap_not_before: datetime | None = None,
) -> Decision:
    """Decide one command.

    `devices` holds the command's device if there is one and, for a full license, those whose leases end first.
    `now` is the database's clock, read after the lock was held; before `reap_not_before` silence ends no lease of a
    day or more.
    """
    return _RULES[type(command)](Case(license, devices, token, command, now, reap_not_before), command)


_RULES: dict[type[Command], Callable[[Case, Any], Decision]] = {
    Activate: seat_rules.activate,
    Extend: seat_rules.extend,
    Release: seat_rules.release,
    Reset: seat_rules.reset,
    Expire: seat_rules.expire,
    Announce: seat_rules.announce,
    HoldOffline: offline_rules.hold,
    ReturnOffline: offline_rules.give_back,
    Block: vendor_rules.block,
    Unblock: vendor_rules.unblock,
    Approve: vendor_rules.approve,
    Suspend: vendor_rules.suspend,
    Reinstate: vendor_rules.reinstate,
    Revoke: vendor_rules.revoke,
    Resize: vendor_rules.resize,
}

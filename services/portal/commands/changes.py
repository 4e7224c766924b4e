"""What every change of a license or device has in common: ask the ledger, show how things stand, or say why not."""

from collections.abc import Awaitable, Callable
from uuid import UUID

import typer

from services.portal.commands.failures import refusal
from services.portal.commands.output import note
from services.portal.commands.session import Portal, run, tell
from services.portal.commands.views import device_line, license_counts
from services.portal.licenses import Licenses
from shared.ledger.reader import LicenseRef
from shared.licensing.model import Decision, Granted

Change = Callable[[Licenses, LicenseRef], Awaitable[Decision]]


def change_license(ctx: typer.Context, account: UUID, license_id: UUID, change: Change) -> None:
    """Make the change and show the license. `changed` is false where it was so already."""
    decision, granted = _decided(ctx, account, license_id, change)
    tell(ctx, {"changed": granted.changed, **license_counts(decision.license)})


def change_device(ctx: typer.Context, account: UUID, license_id: UUID, change: Change) -> None:
    """Make the change and show the device, and what is left of its license's seats."""
    decision, granted = _decided(ctx, account, license_id, change)
    assert granted.device is not None  # every change of a device answers with it
    counts = {"seatsUsed": decision.license.seats_used, "seats": decision.license.seats_limit}
    tell(ctx, {"changed": granted.changed, **device_line(granted.device), **counts})


def _decided(ctx: typer.Context, account: UUID, license_id: UUID, change: Change) -> tuple[Decision, Granted]:
    async def work(portal: Portal) -> tuple[Decision, bool]:
        return await change(portal.licenses, (account, license_id)), portal.redis.reachable

    decision, reflected = run(ctx, work, account=account)
    if not isinstance(decision.answer, Granted):
        raise refusal(decision.answer.code)
    if decision.answer.changed and not reflected:
        note("done, but Redis is out of reach: until the fact of it arrives, services may go by what was before")
    return decision, decision.answer

"""`device`: the machines that hold a license's seats."""

from typing import Annotated

import typer

from services.portal.commands.arguments import AccountId, After, DeviceId, LicenseId, Limit, Yes, confirm, example
from services.portal.commands.changes import change_device
from services.portal.commands.session import run, tell_page
from services.portal.commands.views import device_line
from shared.ledger.catalog import FIRST

app = typer.Typer(help="The machines that hold a license's seats.")


@app.command("list", epilog=example("device list ACCOUNT LICENSE_ID"))
def list_devices(
    ctx: typer.Context, account: AccountId, license_id: LicenseId, limit: Limit = 100, after: After = FIRST
) -> None:
    """The license's devices in every state, in the order of their ids."""
    found = run(
        ctx,
        lambda portal: portal.lookups.devices((account, license_id), limit=limit + 1, after=after),
        account=account,
    )
    tell_page(ctx, [device_line(device) for device in found], limit=limit, cursor="id")


@app.command(epilog=example("device release ACCOUNT LICENSE_ID DEVICE_ID"))
def release(
    ctx: typer.Context,
    account: AccountId,
    license_id: LicenseId,
    device_id: DeviceId,
    force: Annotated[
        bool, typer.Option("--force", help="Free the seat whatever holds it; asks on a terminal.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Free a device's seat. Out of reach, the device may run on until the end of its signed lease."""
    if force:
        confirm(f"Free the seat of device {device_id} by force?", yes=yes)
    change_device(ctx, account, license_id, lambda licenses, ref: licenses.release(ref, device_id, forced=force))


@app.command(epilog=example("device block ACCOUNT LICENSE_ID DEVICE_ID --yes"))
def block(ctx: typer.Context, account: AccountId, license_id: LicenseId, device_id: DeviceId, yes: Yes = False) -> None:
    """Free a device's seat and refuse it until it is unblocked. Asks first on a terminal."""
    confirm(f"Block device {device_id}? It loses its seat.", yes=yes)
    change_device(ctx, account, license_id, lambda licenses, ref: licenses.set_blocked(ref, device_id, blocked=True))


@app.command(epilog=example("device unblock ACCOUNT LICENSE_ID DEVICE_ID"))
def unblock(ctx: typer.Context, account: AccountId, license_id: LicenseId, device_id: DeviceId) -> None:
    """Let a blocked device activate again."""
    change_device(ctx, account, license_id, lambda licenses, ref: licenses.set_blocked(ref, device_id, blocked=False))


@app.command(epilog=example("device approve ACCOUNT LICENSE_ID build-server-7"))
def approve(
    ctx: typer.Context,
    account: AccountId,
    license_id: LicenseId,
    fingerprint: Annotated[
        str, typer.Argument(metavar="FINGERPRINT", help="What the device calls itself; it need not have asked yet.")
    ],
) -> None:
    """Put a device on the allow-list; it takes its seat when it activates."""
    change_device(ctx, account, license_id, lambda licenses, ref: licenses.approve(ref, fingerprint))

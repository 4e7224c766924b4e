"""`devices`: the devices of a license, and how one's seat is freed from elsewhere."""

from typing import Annotated

import typer

from seatkeeper.command.config import Settings
from seatkeeper.command.failures import CommandError, ExitCode
from seatkeeper.command.session import Session, verb
from seatkeeper.messages import Device

app = typer.Typer(invoke_without_command=True)
STATES = ("active", "pending")
ALL_STATES = ("active", "pending", "released", "blocked")


async def list_devices(
    session: Session, everything: Annotated[bool, typer.Option("--all", help="option.all")] = False
) -> None:
    settings = with_key(session, "url")
    with session.progress("progress.asking"):
        async with session.api(settings) as api:
            found = await api.devices(str(settings.license_key), ALL_STATES if everything else STATES)
    session.show({"used": found.used, "limit": found.limit, "devices": [_row(device) for device in found.devices]})


async def release(
    session: Session,
    device_id: Annotated[str, typer.Argument(metavar="DEVICE_ID", help="option.device_id")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="option.yes")] = False,
) -> None:
    settings = with_key(session, "url")
    session.confirm("prompt.release", yes=yes, device=device_id)
    async with session.api(settings) as api:
        await api.delete_device(str(settings.license_key), device_id)
    session.show({"released": True, "deviceId": device_id})
    session.note("note.released")


def with_key(session: Session, *needs: str) -> Settings:
    """Settings with a license key: a token alone does not show or free devices."""
    settings = session.settings(*needs, "license_key")
    if settings.license_key is None:
        raise CommandError("failure.no_key", ExitCode.MISUSED)
    return settings


def _row(device: Device) -> dict[str, object]:
    return {
        "deviceId": device.device_id,
        "name": device.name,
        "state": device.state,
        "generation": device.generation,
        "lastContactAt": device.last_contact_at,
        "leaseExpiresAt": device.lease_expires_at,
        "endedReason": device.ended_reason,
        "fingerprint": device.fingerprint,
    }


app.callback()(verb(list_devices))
app.command("release", help="verb.devices.release")(verb(release))

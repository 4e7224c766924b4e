"""This machine's own seat, taken, kept and given back: `activate`, `heartbeat`, `deactivate`."""

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Annotated

import typer

from seatkeeper.api import Api
from seatkeeper.client import Client
from seatkeeper.command.config import NAMES, Settings
from seatkeeper.command.config_file import write_file
from seatkeeper.command.device import DEVICE, ThisDevice
from seatkeeper.command.failures import CommandError, ExitCode
from seatkeeper.command.session import Session
from seatkeeper.command.status import record, told
from seatkeeper.messages import Device
from seatkeeper.paths import config_file
from seatkeeper.state import WAITING_FOR_APPROVAL, Name, State

NEEDS = (*DEVICE, "license_key")
LOOK_S = 1.0


async def activate(
    session: Session,
    wait: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="option.wait")] = 0,
    no_save: Annotated[bool, typer.Option("--no-save", help="option.no_save")] = False,
) -> int:
    settings = session.settings(*NEEDS)
    here = ThisDevice(settings)
    async with here.client(session) as client:
        with session.progress("progress.activating"):
            state = await _activated(client, wait)
        saved = None if no_save else _save(session, settings)
        session.show(record(client, state, here) | {"saved": saved})
    if saved:
        session.note("note.saved", file=saved)
    return told(session, state)


async def heartbeat(
    session: Session, watch: Annotated[bool, typer.Option("--watch", help="option.watch")] = False
) -> int:
    settings = session.settings(*NEEDS)
    here = ThisDevice(settings)
    async with here.client(session) as client:
        if client.state.name is not Name.ACTIVE and here.kept().device_token is None:
            raise CommandError("next.NOT_ACTIVATED", ExitCode.NOT_ACTIVE)
        if watch:
            await _watch(session, client, here)
        with session.progress("progress.asking"):
            state = await client.heartbeat() if client.state.name is not Name.ACTIVE else client.state
        session.show(record(client, state, here))
    return told(session, state)


async def deactivate(session: Session) -> None:
    settings = session.settings(*NEEDS)
    here = ThisDevice(settings)
    async with here.client(session) as client:
        device_id = client.device_id
        with session.progress("progress.asking"):
            if here.kept().device_token is not None:
                await client.release()
            else:
                device = await held_seat(client.api, here)
                await client.api.deactivate(device.device_id, str(settings.license_key), device.generation)
                device_id = device.device_id
    session.show({"released": True, "deviceId": device_id})
    session.note("note.released")


async def held_seat(api: Api, here: ThisDevice) -> Device:
    """What the server knows of this machine, of which nothing is kept here."""
    key = here.settings.license_key
    found = (await api.devices(key)).devices if key else []
    for device in found:
        if device.fingerprint == here.fingerprint:
            return device
    raise CommandError("failure.no_seat", ExitCode.NOT_ACTIVE)


async def _activated(client: Client, wait_s: float) -> State:
    """Ask for a seat, and go on asking for so long while the vendor has not approved it."""
    deadline_s = asyncio.get_running_loop().time() + wait_s
    state = await client.activate()
    while state.reason == WAITING_FOR_APPROVAL and asyncio.get_running_loop().time() < deadline_s:
        await asyncio.sleep(LOOK_S)
        state = await client.activate()
    return state


async def _watch(session: Session, client: Client, here: ThisDevice) -> None:
    """Beat until interrupted; a line for each contact and each change of the state."""
    shown = None
    async with client:
        while True:
            seen = client.state.name, client.state.reason, here.kept().last_contact_s
            if seen != shown:
                session.line(record(client, client.state, here))
                shown = seen
            await asyncio.sleep(LOOK_S)


def _save(session: Session, settings: Settings) -> Path | None:
    """Write what was told into the usual configuration, if there is none. The language was found, not told."""
    file = config_file()
    if session.config is not None or os.path.exists(file):
        return None
    values = {name: str(value) for name in NAMES if (value := getattr(settings, name)) and name != "language"}
    with contextlib.suppress(OSError):
        write_file(file, values)
        return file
    return None

"""`status`: the state of this machine's license, by what is kept here and the server's word on it. It takes no seat."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from msgspec.structs import replace

from seatkeeper.client import Client
from seatkeeper.command.device import DEVICE, ThisDevice
from seatkeeper.command.failures import ExitCode, taken
from seatkeeper.command.session import Session
from seatkeeper.errors import NotGenuine, Unreachable
from seatkeeper.lease import LeaseFault
from seatkeeper.messages import Validity
from seatkeeper.state import (
    LEASE_ENDED,
    OFFLINE_FILE,
    RELEASED,
    STARTING,
    UNREACHABLE,
    WAITING_FOR_APPROVAL,
    Name,
    State,
    own,
)
from seatkeeper.texts import text

NOT_ACTIVATED = "NOT_ACTIVATED"
QUICK_ATTEMPTS = 2
_SAID_BY_DISK = (NOT_ACTIVATED, OFFLINE_FILE, RELEASED)


async def status(session: Session, local: Annotated[bool, typer.Option("--local", help="option.local")] = False) -> int:
    settings = session.settings(*DEVICE)
    here = ThisDevice(settings)
    async with here.client(session, to_look=True) as client:
        with session.progress("progress.asking"):
            state = await _state(client, here, session.language, ask=not local)
        session.show(record(client, state, here))
    return told(session, state)


def record(client: Client, state: State, here: ThisDevice) -> dict[str, object]:
    """The state of this machine's license, to be shown."""
    last_contact_s = here.kept().last_contact_s
    return {
        "state": state.name,
        "reason": state.reason,
        "detail": state.detail or None,
        "validUntil": state.until,
        "deviceId": client.device_id,
        "generation": client.generation or None,
        "entitlements": dict(client.entitlements) if state.usable else {},
        "trial": client.lease.trial if client.lease is not None else None,
        "lastContactAt": datetime.fromtimestamp(last_contact_s, UTC) if last_contact_s else None,
        "directory": here.directory,
    }


def told(session: Session, state: State) -> int:
    """The exit code, and what to do next."""
    if state.name is Name.PENDING and state.reason:
        session.advise(state.reason)
    return ExitCode.DONE if state.name is Name.ACTIVE else ExitCode.NOT_ACTIVE


async def _state(client: Client, here: ThisDevice, language: str, *, ask: bool) -> State:
    """What is on disk, and the server's word on it. Without a license key there is none to be had."""
    key, state = here.settings.license_key, _on_disk(client, here, language)
    if state.reason in _SAID_BY_DISK:
        return state
    if not ask or key is None:
        return _in_force(state)
    try:
        answer = await client.api.validate(key, here.fingerprint, here.settings.version, attempts=QUICK_ATTEMPTS)
    except Unreachable:
        return state
    return _judged(state, answer, language)


def _on_disk(client: Client, here: ThisDevice, language: str) -> State:
    state = client.state
    if state.reason != STARTING:
        return state
    if here.kept().lease is not None:
        raise NotGenuine(LeaseFault.UNTRUSTED)
    reason = NOT_ACTIVATED if client.device_id is None else WAITING_FOR_APPROVAL
    return own(Name.PENDING, reason, language)


def _judged(state: State, answer: Validity, language: str) -> State:
    if answer.valid and answer.code != "DEVICE_NOT_ACTIVATED":
        ended = state.reason == LEASE_ENDED
        return replace(state, detail=text("note.renew", language)) if ended else _in_force(state)
    if answer.valid and state.reason == WAITING_FOR_APPROVAL:
        return state
    known = state.detail if state.reason == answer.code else ""
    counts = taken(answer.used, answer.limit, language) if answer.code == "DEVICE_LIMIT_EXCEEDED" else ""
    return State(name=Name.PENDING, reason=answer.code, detail=" ".join(filter(None, (known, counts))))


def _in_force(state: State) -> State:
    """A signed lease that nobody has spoken against."""
    if state.name is not Name.LIMITED:
        return state
    return State(name=Name.ACTIVE, reason=None if state.reason == UNREACHABLE else state.reason, until=state.until)

"""One batch of commands in one transaction: lock, read, decide, write, COMMIT.

- The clock and the devices are read in a statement after the lock: an older snapshot would oversell.
- Commands of one license see each other's effects in the order in which they came.
- A batch in which nothing changed is rolled back: a refusal costs no flush.
- An error at COMMIT leaves the outcome unknown, and is said so.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
from msgspec.structs import replace

from shared.ledger.connections import Connection
from shared.ledger.rows import columns, device_of, license_of, own, token_of
from shared.ledger.statements import load
from shared.licensing import facts
from shared.licensing.decide import decide
from shared.licensing.model import (
    Activate,
    ActivationToken,
    Change,
    Command,
    Decision,
    Device,
    DeviceCommand,
    Event,
    Extend,
    Granted,
    License,
    Resize,
)

_SQL = load("ledger.sql")
_LOCK, _LOCK_FREE = _SQL["lock"], _SQL["lock"] + " SKIP LOCKED"

FREED_LIMIT = 256
"""At most so many ended leases of one full license are freed by one batch."""

Ref = tuple[UUID, UUID]
"""(account id, license id)."""

TokenKey = tuple[UUID, UUID, UUID]
"""(account id, license id, token id)."""


class OutcomeUnknownError(Exception):
    """The connection failed at COMMIT: the commands may have taken effect or not. Asking again tells."""


class LicenseNotFoundError(LookupError):
    """A command named a license that does not exist in its account."""


@dataclass(slots=True)
class Held:
    """One license of the batch as its commands move it, and what is to be written for it."""

    license: License
    base_version: int
    commands: list[Command]
    devices: dict[UUID, Device] = field(default_factory=dict)
    seen: dict[UUID, Device] = field(default_factory=dict)
    changed: dict[UUID, Device] = field(default_factory=dict)
    events: list[tuple[Event, Command]] = field(default_factory=list)

    def change(self) -> Change:
        return Change(
            license=self.license,
            base_version=self.base_version,
            devices=tuple((self.seen | self.changed).values()),
        )


@dataclass(slots=True)
class Outcome:
    """A decision for each command (None: its license is held by another transaction), and what was committed."""

    decisions: list[Decision | None]
    changes: list[Change]
    now: datetime | None


async def transact(connection: Connection, commands: Sequence[Command], *, wait: bool) -> Outcome:
    """Decide and commit `commands`. With `wait`, wait for licenses that others hold; else leave them out.

    Raises `OutcomeUnknownError` at COMMIT and whatever asyncpg raises before; then nothing was changed.
    """
    of_licenses = _by_license(commands)
    await connection.execute("BEGIN")
    try:
        held = await _lock(connection, of_licenses, wait=wait)
        if not held:
            await connection.execute("ROLLBACK")
            return Outcome([None] * len(commands), [], None)
        now, reap_not_before = await _read(connection, held.values())
        tokens = await _read_tokens(connection, commands)
        decisions, uses = _decide_all(held, tokens, commands, now, reap_not_before)
        wrote = await _write(connection, held.values(), uses, now)
    except BaseException:
        await _roll_back(connection)
        raise
    await _end(connection, "COMMIT" if wrote else "ROLLBACK")
    return Outcome(decisions, [one.change() for one in held.values()], now)


def _by_license(commands: Sequence[Command]) -> dict[Ref, list[Command]]:
    found: dict[Ref, list[Command]] = {}
    for command in commands:
        found.setdefault((command.account_id, command.license_id), []).append(command)
    return found


async def _lock(connection: Connection, of_licenses: dict[Ref, list[Command]], *, wait: bool) -> dict[Ref, Held]:
    refs = list(of_licenses)
    rows = await connection.fetch(_LOCK if wait else _LOCK_FREE, *columns(refs, 2))
    locked = [refs[row["place"] - 1] for row in rows]
    licenses = map(license_of, rows, locked)
    return {ref: Held(one, one.version, of_licenses[ref]) for ref, one in zip(locked, licenses, strict=True)}


async def _read(connection: Connection, held: Collection[Held]) -> tuple[datetime, datetime | None]:
    """Read the devices; returns now and the moment before which silence ends no long lease."""
    named = [(one, command) for one in held for command in one.commands if isinstance(command, DeviceCommand)]
    crowded = [(one, count) for one in held if (count := _lacking(one)) > 0]
    rows = await connection.fetch(
        _SQL["read"],
        *columns([(command.account_id, command.license_id, command.device_id) for _, command in named], 3),
        *columns([(one.license.account_id, one.license.id, count) for one, count in crowded], 3),
    )
    for row in rows:
        if row["id"] is not None:
            one = named[row["named"] - 1][0] if row["named"] else crowded[row["crowded"] - 1][0]
            device = device_of(row, (one.license.account_id, one.license.id))
            one.devices[device.id] = device
    return rows[0]["now"], rows[0]["not_before"]


def _lacking(one: Held) -> int:
    """How many ended leases may be in the way of the license's commands.

    Counted are all commands, not only the seekers: each other one may keep a lease that had ended. The limit is the
    lowest that the batch will have.
    """
    if not any(map(_may_take, one.commands)):
        return 0
    limit = min([one.license.seats_limit, *(command.seats for command in one.commands if isinstance(command, Resize))])
    return min(one.license.seats_used + len(one.commands) - limit, FREED_LIMIT)


def _may_take(command: Command) -> bool:
    return isinstance(command, Activate) or (isinstance(command, Extend) and command.resumes)


async def _read_tokens(connection: Connection, commands: Sequence[Command]) -> dict[TokenKey, ActivationToken]:
    wanted = {
        (command.account_id, command.license_id, command.token_id)
        for command in commands
        if isinstance(command, Activate) and command.token_id is not None
    }
    if not wanted:
        return {}
    rows = await connection.fetch(_SQL["read_tokens"], *columns(wanted, 3))
    return {(own(row["account_id"]), own(row["license_id"]), own(row["id"])): token_of(row) for row in rows}


def _decide_all(
    held: dict[Ref, Held],
    tokens: dict[TokenKey, ActivationToken],
    commands: Sequence[Command],
    now: datetime,
    reap_not_before: datetime | None,
) -> tuple[list[Decision | None], Counter[TokenKey]]:
    decisions: list[Decision | None] = []
    uses: Counter[TokenKey] = Counter()
    for command in commands:
        one = held.get((command.account_id, command.license_id))
        if one is None:
            decisions.append(None)
            continue
        token = _token_of(command, tokens, uses)
        decision = decide(one.license, one.devices, token, command, now, reap_not_before)
        _apply(one, command, decision)
        if decision.token_used is not None:
            uses[command.account_id, command.license_id, decision.token_used] += 1
        decisions.append(decision)
    return decisions, uses


def _token_of(
    command: Command, tokens: dict[TokenKey, ActivationToken], uses: Counter[TokenKey]
) -> ActivationToken | None:
    """The command's token as the commands before it left it."""
    if not isinstance(command, Activate) or command.token_id is None:
        return None
    key = (command.account_id, command.license_id, command.token_id)
    token = tokens.get(key)
    return token if token is None or not uses[key] else replace(token, uses=token.uses + uses[key])


def _apply(one: Held, command: Command, decision: Decision) -> None:
    one.license = decision.license
    for device in decision.devices:
        one.devices[device.id] = one.changed[device.id] = device
    one.events.extend((event, command) for event in decision.events)
    if isinstance(decision.answer, Granted) and decision.answer.device is not None:
        one.seen[decision.answer.device.id] = decision.answer.device


async def _write(connection: Connection, held: Collection[Held], uses: Counter[TokenKey], now: datetime) -> bool:
    """Write what changed; False when nothing did."""
    moved = [device for one in held if not one.events for device in one.changed.values()]
    eventful = [one for one in held if one.events]
    if moved:
        leases = [(d.account_id, d.license_id, d.id, d.last_contact_at, d.lease_expires_at, d.counter) for d in moved]
        await connection.execute(_SQL["extend"], *columns(leases, 6))
    if eventful:
        await connection.execute(_SQL["write"], *_write_arguments(eventful, now))
    if uses:
        await connection.execute(_SQL["use_tokens"], *columns([(*key, count) for key, count in uses.items()], 4))
    return bool(moved or eventful)


def _write_arguments(held: Sequence[Held], now: datetime) -> list[Any]:
    events = [_event_row(one.license, event, command, now) for one in held for event, command in one.events]
    return [
        *columns([_device_row(device) for one in held for device in one.changed.values()], 19),
        *columns([_license_row(one.license) for one in held], 13),
        *columns(events, 12),
        now,
    ]


def _device_row(device: Device) -> tuple[Any, ...]:
    return (
        device.account_id,
        device.license_id,
        device.id,
        device.fingerprint,
        device.name,
        device.state,
        device.generation,
        device.approved,
        device.activated_at,
        device.last_contact_at,
        device.lease_expires_at,
        device.announced_lease_end,
        device.ended_at,
        device.ended_reason,
        device.reset_at,
        b"".join(device.nonces) or None,
        device.counter,
        device.clone_suspected_at,
        device.offline_until,
    )


def _license_row(license: License) -> tuple[Any, ...]:
    return (
        license.account_id,
        license.id,
        license.status,
        license.seats_limit,
        license.seats_allowed,
        license.seats_used,
        license.devices_pending,
        license.version,
        license.expires_at,
        license.activations.began_at,
        license.activations.count,
        license.releases.began_at,
        license.releases.count,
    )


def _event_row(license: License, event: Event, command: Command, now: datetime) -> tuple[Any, ...]:
    device = event.device
    return (
        license.account_id,
        license.id,
        event.version,
        command.actor,
        event.kind,
        device.id if device else None,
        device.generation if device else None,
        event.reason,
        event.seats_limit,
        event.seats_used,
        event.seats_allowed,
        facts.encode(facts.fact_of(event, license, now)),
    )


async def _end(connection: Connection, verb: str) -> None:
    try:
        await connection.execute(verb)
    except Exception as error:
        _abandon(connection)
        if verb == "COMMIT":
            raise OutcomeUnknownError from error


async def _roll_back(connection: Connection) -> None:
    try:
        await connection.execute("ROLLBACK")
    except Exception:
        _abandon(connection)


def _abandon(connection: Connection) -> None:
    """Close without a word. A connection that was lost has left its pool already and can be closed no more."""
    with suppress(asyncpg.InterfaceError):
        connection.terminate()

"""Licenses and devices to measure with, and the files of bodies that the loads post."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from services.portal.accounts import Accounts, terms
from services.portal.licenses import Licenses
from shared.licensing.model import Activate, Granted, Kind, device_id
from shared.runtime.resources import Resources

ACCOUNTS = 10
SEATS = 1_000_000
FLEET = 1000
_AT_ONCE = 8


class Grant(NamedTuple):
    account: UUID
    id: UUID
    key: str


async def make_licenses(resources: Resources, count: int, *, seats: int = SEATS) -> list[Grant]:
    """So many licenses, dealt over some accounts: limits by account are part of the path."""
    r = resources
    accounts = Accounts(r.catalog, r.secrets, r.management_tokens)
    licenses = Licenses(r.catalog, r.ledger, r.reader, r.keystore, r.license_keys)
    owners = []
    for number in range(min(count, ACCOUNTS)):
        account = (await accounts.create(f"Vendor {number}")).id
        await accounts.add_product(account, code="bench", name="Bench")
        rules = terms(kind=Kind.NODE_LOCKED, product_code="bench")
        await accounts.add_policy(account, name="bench", seats=seats, terms=rules)
        owners.append(account)
    door = asyncio.Semaphore(_AT_ONCE)

    async def make(number: int) -> Grant:
        account = owners[number % len(owners)]
        async with door:
            made = await licenses.create(account, policy="bench")
        return Grant(account, made.id, made.key)

    return list(await asyncio.gather(*(make(number) for number in range(count))))


async def activate_each(resources: Resources, grants: Sequence[Grant]) -> list[str]:
    """A first device for each license; the devices' tokens."""
    decisions = await asyncio.gather(*(resources.ledger.submit(first_device(grant)) for grant in grants))
    devices = [decision.answer.device for decision in decisions if isinstance(decision.answer, Granted)]
    return [resources.issuer.token(device) for device in devices if device is not None]


def first_device(grant: Grant, fingerprint: str = "first") -> Activate:
    return Activate(
        account_id=grant.account,
        license_id=grant.id,
        actor="device",
        device_id=device_id(grant.id, fingerprint),
        fingerprint=fingerprint,
    )


def heartbeats(tokens: Iterable[str]) -> list[dict[str, Any]]:
    return [{"deviceToken": token, "nonce": "@N@"} for token in tokens]


def fleets(tokens: Sequence[str]) -> list[dict[str, Any]]:
    """Fleets of 1,000 devices, or of all there are."""
    return [
        {"heartbeats": [{"deviceToken": token, "nonce": f"{number:08}"} for token in tokens[first : first + FLEET]]}
        for number, first in enumerate(range(0, len(tokens), FLEET))
    ]


def validations(grants: Iterable[Grant]) -> list[dict[str, Any]]:
    return [{"key": grant.key} for grant in grants]


def activations(grants: Iterable[Grant]) -> list[dict[str, Any]]:
    """Of new devices."""
    return [{"licenseKey": grant.key, "fingerprint": "@N@", "timestamp": "@NOW@"} for grant in grants]


def write(path: Path, bodies: Sequence[Mapping[str, Any]]) -> Path:
    """The bodies as a file, one a line."""
    lines = (msgspec.json.encode(body).decode().replace('"@NOW@"', "@NOW@") for body in bodies)
    path.write_text("\n".join(lines) + "\n")
    return path

"""The demo account of a first start: one product, a node-locked and a floating license, a token of each kind.

What a newcomer needs is kept in `.run/demo.json`; keys and tokens are nowhere else to be had.
"""

import os
from pathlib import Path
from uuid import UUID

import msgspec

from services.portal.accounts import SCOPES, Accounts, terms
from services.portal.licenses import Licenses
from services.portal.lookups import Lookups
from shared.licensing.leases import DAY_S
from shared.licensing.model import Kind, Rules
from shared.runtime.resources import Resources

PRODUCT = "demo-app"
NODE_LOCKED, FLOATING = "Node-locked, 3 devices", "Floating, 2 seats of 10 minutes"
TOKEN_USES = 100
OFFLINE_DAYS = 30
TOKEN_TTL_S = 365 * DAY_S


class Demo(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What `.run/demo.json` holds. `root_key` is what clients pin, in its short form."""

    url: str
    account_id: str
    license_key: str
    floating_license_key: str
    activation_token: str
    management_token: str
    root_key: str = ""
    product: str = PRODUCT


async def ensure_demo(resources: Resources, path: Path, url: str) -> Demo:
    """The demo account's data at `url`: read from `path` where that is good for this database, else made anew."""
    licenses = Licenses(
        resources.catalog, resources.ledger, resources.reader, resources.keystore, resources.license_keys
    )
    kept = _read(path)
    if kept is None or await licenses.find(kept.license_key) is None:
        kept = await _create(resources, licenses, url)
    lookups = Lookups(resources.catalog, resources.reader, resources.keystore)
    root_key = await lookups.root_key(UUID(kept.account_id))
    demo = msgspec.structs.replace(kept, url=url, root_key=root_key["x"])
    _write(path, demo)
    return demo


async def _create(resources: Resources, licenses: Licenses, url: str) -> Demo:
    accounts = Accounts(resources.catalog, resources.secrets, resources.management_tokens)
    account = (await accounts.create("Demo vendor")).id
    await accounts.add_product(account, code=PRODUCT, name="Demo application")
    for name, kind, seats in ((NODE_LOCKED, Kind.NODE_LOCKED, 3), (FLOATING, Kind.FLOATING, 2)):
        is_floating = kind is Kind.FLOATING
        rules = Rules(show_holders=is_floating, offline_max_days=0 if is_floating else OFFLINE_DAYS)
        granted = terms(kind=kind, product_code=PRODUCT, rules=rules)
        await accounts.add_policy(account, name=name, seats=seats, terms=granted)
    node_locked = await licenses.create(account, policy=NODE_LOCKED, customer="Ada")
    floating = await licenses.create(account, policy=FLOATING, customer="Grace")
    token = await licenses.add_token((account, node_locked.id), ttl_s=TOKEN_TTL_S, max_uses=TOKEN_USES)
    return Demo(
        url=url,
        account_id=str(account),
        license_key=node_locked.key,
        floating_license_key=floating.key,
        activation_token=token.token,
        management_token=await accounts.add_management_token(
            account, name="demo", scopes=list(SCOPES), ttl_s=TOKEN_TTL_S
        ),
    )


def _read(path: Path) -> Demo | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Demo)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _write(path: Path, demo: Demo) -> None:
    """Replace the file whole; it holds secrets, so it is its owner's alone."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(demo)) + b"\n")
    fresh.replace(path)

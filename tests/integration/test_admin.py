"""The vendor's story, told by real processes of the admin command under the portal's own database role."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from services.portal import app
from shared.ledger.migrate import migrations
from shared.licensing.model import Activate, device_id
from shared.signing import activation_token, base64url
from shared.signing.keyring import verify_certificate
from tests.builders import fetch
from tests.conftest import Database
from tests.integration.admin_process import (
    ROOT,
    SECRET,
    Admin,
    Vendor,
    admin_of,
    as_service,
    contents,
    make_vendor,
    plain_environment,
)
from tests.invariants import check_invariants

ACTIVATION = "seatkeeper_activation"


@pytest.fixture
def admin(database: Database, redis_url: str) -> Admin:
    return admin_of(database, redis_url)


@pytest.fixture
async def vendor(database: Database, redis_url: str) -> Vendor:
    return await make_vendor(database, redis_url)


async def test_a_vendor_begins_with_nothing_and_sells_a_license(
    empty_database: Callable[[], Awaitable[Database]], redis_url: str
) -> None:
    database = await empty_database()
    plain, as_json = await Admin().at_once(("secrets", "new", "--id", "k7"), ("secrets", "new", "--json"))
    made = dict(line.split("=", 1) for line in plain.out.splitlines())
    assert made["SEATKEEPER_SECRETS_CURRENT"] == "k7"
    assert as_json.json.keys() == made.keys()
    assert as_json.json["SEATKEEPER_SECRETS_KEYS"][3:] != made["SEATKEEPER_SECRETS_KEYS"][3:]
    admin = Admin(admin_of(database, redis_url).variables | made)
    owner = {"SEATKEEPER_OWNER_DSN": database.owner_dsn}

    assert "`migrate`" in (await admin("account", "list")).refused()
    assert (await Admin(owner)("migrate", "--check", "--json")).code == 1
    runs = await asyncio.gather(*(Admin(owner)("migrate", "--json") for _ in range(4)))
    applied = [run.json["applied"] for run in runs]
    assert sorted(applied, key=len) == [[], [], [], list(migrations())]
    assert (await Admin()("migrate", "--check", "--owner-dsn", database.owner_dsn)).out == "pending  none\n"

    account = (await admin("account", "create", "Acme", "--json")).json
    vendor = UUID(account["id"])
    again = (await admin("account", "root-key", vendor, "--json")).json
    assert (again["rootKey"], again["rootKeyText"]) == (account["rootKey"], account["rootKey"]["x"])
    assert "app" in (await admin("product", "create", vendor, "app", "App")).out
    terms = ("--lease", "30d", "--offline-grace", "5d", "--heartbeat", "2h", "--approval", "allow-list")
    offline = ("--offline-days", 30, "--offline-algorithm", "ed25519")
    policy = ("policy", "create", vendor, "app", "Node", "--kind", "node-locked", "--seats", 3, *terms, *offline)
    assert (await admin(*policy, "--json")).json.items() >= {
        "leaseS": 2_592_000, "offlineGraceS": 432_000, "heartbeatIntervalS": 7200, "approval": "allow_list",
        "offlineMaxDays": 30, "offlineAlgorithm": "ed25519",
    }.items()  # fmt: skip
    options = ("--seats", 2, "--expires", "2090-01-31", "--customer", "Ada")
    license = (await admin("license", "create", vendor, "Node", *options, "--json")).json
    ref = (vendor, UUID(license["id"]))
    token = (await admin("token", "create", *ref, "--ttl", "1h", "--uses", 3, "--json")).json
    await _check_what_devices_get(database, redis_url, made, account["rootKey"], license["licenseKey"], ref, token)

    assert (await admin("license", "resize", *ref, 5, "--json")).json["seats"] == 5
    assert "suspended" in (await admin("license", "suspend", *ref)).out
    shown = (await admin("license", "show", *ref, "--json")).json
    assert shown.items() >= {"status": "suspended", "seats": 5, "seatsUsed": 0, "customer": "Ada"}.items()
    assert shown["expiresAt"] == "2090-02-01T00:00:00Z"
    events = ["license.created", "license.resized", "license.suspended"]
    assert [(entry["event"], entry["actor"]) for entry in shown["trail"]] == [(event, "admin") for event in events]
    trail = (await admin("license", "trail", *ref)).out
    assert [line.split()[3] for line in trail.splitlines()[2:]] == events
    await check_invariants(database)


async def _check_what_devices_get(
    database: Database,
    redis_url: str,
    secret: dict[str, str],
    root: dict[str, str],
    key: str,
    ref: tuple[UUID, UUID],
    token: dict[str, Any],
) -> None:
    """The printed key finds the license, the printed token is signed, and the printed root key vouches for it."""
    key_id, _, master = secret["SEATKEEPER_SECRETS_KEYS"].partition(":")
    async with as_service(database, redis_url, ACTIVATION, key_id=key_id, secret=master) as resources:
        assert await app.licenses(resources).find(key) == ref
        signing = await resources.keystore.account(ref[0])
        assert signing is not None
        claims = activation_token.verify(token["token"], signing.public)
        assert claims is not None
        assert (claims.lic, claims.jti) == (ref[1], UUID(token["id"]))
        root_public = base64url.decode(root["x"].encode())
        assert root_public is not None
        assert verify_certificate(root_public, signing.certificate, datetime.now(UTC), account=ref[0]) is not None


async def test_an_imported_key_is_read_from_stdin_and_never_printed(
    admin: Admin, vendor: Vendor, database: Database, redis_url: str
) -> None:
    key = "Legacy/2019 key #0001"
    ran = await admin("license", "create", vendor.account, "Node", "--key", "-", "--json", stdin=f"{key}\n")
    assert "licenseKey" not in ran.json
    assert key not in ran.out
    async with as_service(database, redis_url, ACTIVATION) as resources:
        assert await app.licenses(resources).find(key) == (vendor.account, UUID(ran.json["id"]))
    again = await admin("license", "create", vendor.account, "Float", "--key", "-", stdin=key)
    assert "in use already" in again.refused()


async def test_devices_are_looked_up_freed_blocked_and_approved(
    admin: Admin, vendor: Vendor, database: Database, redis_url: str
) -> None:
    ref = vendor.ref
    first, second = (device_id(ref[1], name) for name in ("first", "second"))
    async with as_service(database, redis_url, ACTIVATION) as resources:
        for name, id in (("first", first), ("second", second)):
            command = Activate(account_id=ref[0], license_id=ref[1], actor="device", device_id=id, fingerprint=name)
            await resources.ledger.submit(command)
    listed = (await admin("device", "list", *ref, "--json")).json
    assert {(device["id"], device["state"]) for device in listed} == {(str(first), "active"), (str(second), "active")}
    freed = (await admin("device", "release", *ref, first, "--json")).json
    assert freed.items() >= {"changed": True, "state": "released", "endedReason": "admin", "seatsUsed": 1}.items()
    assert (await admin("device", "release", *ref, first, "--force", "--json")).json["changed"] is False
    assert (await admin("device", "block", *ref, second, "--json")).json["seatsUsed"] == 0
    assert "unblock" in (await admin("device", "approve", *ref, "second")).refused()
    assert (await admin("device", "unblock", *ref, second, "--json")).json["state"] == "released"
    assert (await admin("device", "approve", *ref, "third", "--json")).json["approved"] is True
    trail = (await admin("license", "trail", *ref, "--json")).json
    assert [entry["event"].split(".")[1] for entry in trail] == [
        "created", "activated", "activated", "released", "blocked", "unblocked", "approved"
    ]  # fmt: skip
    await check_invariants(database)


async def test_tokens_end_and_their_secrets_are_kept_nowhere(admin: Admin, vendor: Vendor, database: Database) -> None:
    debug = Admin(admin.variables | {"SEATKEEPER_LOG_LEVEL": "debug"})
    license = await debug("license", "create", vendor.account, "Float", "--json")
    ref = (vendor.account, license.json["id"])
    token, management = await debug.at_once(
        ("token", "create", *ref, "--json"),
        ("management-token", "create", vendor.account, "crm", "--scope", "licenses:read", "--ttl", "90d", "--json"),
    )
    assert management.json.items() >= {"scopes": ["licenses:read"], "ttlS": 7_776_000}.items()
    assert (await admin("token", "revoke", vendor.account, token.json["id"])).code == 0
    assert "revoked already" in (await admin("token", "revoke", vendor.account, token.json["id"])).refused()
    kept = str(await contents(database)) + license.err + token.err + management.err
    key = license.json["licenseKey"]
    for secret in (key, key.replace("-", ""), token.json["token"], management.json["token"], SECRET):
        assert secret not in kept


async def test_long_lists_come_in_pages(admin: Admin, vendor: Vendor) -> None:
    later = await admin.id("license", "create", vendor.account, "Float")
    command = ("license", "list", vendor.account, "--limit", 1, "--json")
    first, second, accounts = await admin.at_once(
        command, (*command, "--after", vendor.license), ("account", "list", "--json")
    )
    assert [license["id"] for license in first.json] == [str(vendor.license)]
    assert first.err == f"there are more: add --after {vendor.license}\n"
    assert [license["id"] for license in second.json] == [str(later)]
    assert second.err == ""
    assert [account["id"] for account in accounts.json] == [str(vendor.account), str(vendor.other)]


async def test_settings_come_from_a_file_named_anywhere_on_the_line(
    database: Database, redis_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "portal.toml"
    secrets = f'[secrets]\ncurrent = "k1"\n[secrets.keys]\nk1 = "{SECRET}"\n'
    dsn = json.dumps(database.dsn_for("seatkeeper_operator"))
    file.write_text(f'[postgres]\ndsn = {dsn}\n[redis]\nurl = "{redis_url}"\n{secrets}')
    assert (await Admin()("account", "list", "--json", "--config", file)).json == []


@pytest.mark.parametrize(("answer", "code", "status"), [("n", 1, "active"), ("y", 0, "revoked")])
async def test_a_terminal_is_asked_before_a_license_is_revoked(
    admin: Admin, vendor: Vendor, database: Database, answer: str, code: int, status: str
) -> None:
    terminal, inner = os.openpty()
    os.write(terminal, f"{answer}\n".encode())
    command = [sys.executable, "-m", "services.portal.admin", "license", "revoke", *map(str, vendor.ref)]
    environment = plain_environment() | admin.variables
    ran = await asyncio.to_thread(
        subprocess.run, command, cwd=ROOT, env=environment, stdin=inner, capture_output=True, text=True, timeout=30
    )
    os.close(inner)
    os.close(terminal)
    assert (code, True) == (ran.returncode, "cannot be undone" in ran.stderr)
    assert ("nothing was changed" in ran.stderr) == (code == 1)
    assert await fetch(database, "SELECT status FROM license WHERE id = $1", vendor.license) == [(status,)]

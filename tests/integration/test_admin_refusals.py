"""What the admin command refuses: one clear line, the right exit code, and a database in which nothing changed."""

import base64
import os
from uuid import uuid4

import pytest

from shared.licensing.license_key import format_key
from tests.conftest import Database
from tests.integration.admin_process import Admin, Vendor, admin_of, contents, make_vendor

SECRET_IN_DSN = "hunter2"
NOWHERE = f"postgresql://somebody:{SECRET_IN_DSN}@127.0.0.1:1/nothing"


@pytest.fixture
def admin(database: Database, redis_url: str) -> Admin:
    return admin_of(database, redis_url)


@pytest.fixture
async def vendor(database: Database, redis_url: str) -> Vendor:
    return await make_vendor(database, redis_url)


async def test_wrong_input_is_one_line_that_says_what_to_do_and_changes_nothing(
    admin: Admin, vendor: Vendor, database: Database
) -> None:
    account, license, other = vendor.account, vendor.license, vendor.other
    assert (await admin("license", "revoke", *vendor.ref)).code == 0
    nobody = uuid4()
    mistyped = format_key(bytes(17))[:-1] + "1"
    policy = ("policy", "create", account, "app")
    cases: list[tuple[tuple[object, ...], int, str]] = [
        (("account", "create", ""), 1, "1 to 200 characters"),
        (("product", "create", account, "app", "Again"), 1, "exists already"),
        (("product", "create", nobody, "app", "App"), 1, "no such account"),
        ((*policy, "Node", "--kind", "floating", "--seats", 1), 1, "exists already"),
        ((*policy, "Other", "--kind", "leased", "--seats", 1), 2, "'node-locked', 'floating'"),
        ((*policy, "Other", "--kind", "floating", "--seats", 1, "--lease", "10w"), 2, "write 90d"),
        ((*policy, "Other", "--kind", "floating", "--seats", 1, "--offline-grace", "1d"), 1, "leave out"),
        (
            (*policy, "Other", "--kind", "node-locked", "--seats", 1, "--lease", "1d", "--heartbeat", "2d"),
            1,
            "interval",
        ),
        (("policy", "create", account, "nope", "P", "--kind", "floating", "--seats", 1), 1, "no product 'nope'"),
        (("license", "create", account, "Nope"), 1, "no policy 'Nope'"),
        (("license", "create", nobody, "Node"), 1, "no such account"),
        (("license", "create", account, "Node", "--expires", "soon"), 2, "write 2027-01-31"),
        (("license", "create", account, "Node", "--customer", "x" * 201), 1, "200 characters"),
        (("license", "create", account, "Node", "--key", mistyped), 1, "mistyped"),
        (("license", "create", account, "Node", "--key", "-"), 1, "empty"),
        (("license", "show", account, "not-an-id"), 2, "'LICENSE_ID'"),
        (("license", "show", other, license), 1, "no such license"),
        (("license", "suspend", other, license), 1, "no such license"),
        (("license", "reinstate", account, license), 1, "revoked for good"),
        (("license", "resize", account, license), 2, "'SEATS'"),
        (("device", "release", account, license, nobody), 1, "no such device"),
        (("device", "approve", account, license, "two\nlines"), 1, "control character"),
        (("token", "create", other, license), 1, "no such license"),
        (("management-token", "create", account, "crm", "--scope", "everything"), 1, "licenses:read"),
        (("reboot",), 2, "'reboot'"),
    ]
    before = await contents(database)
    runs = await admin.at_once(*(arguments for arguments, _, _ in cases))
    for (_, code, expected), ran in zip(cases, runs, strict=True):
        line = ran.refused(code)
        assert expected in line
        assert mistyped not in line
    assert before == await contents(database)


async def test_all_faults_of_the_settings_are_told_at_once() -> None:
    ran = await Admin({"SEATKEEPER_POSTGRES_POOL_SIZE": "many"})("account", "list")
    assert (ran.code, ran.out) == (2, "")
    lines = ran.err.splitlines()
    for name in ("POSTGRES_DSN", "POSTGRES_POOL_SIZE", "REDIS_URL", "SECRETS_KEYS", "SECRETS_CURRENT"):
        assert [line for line in lines if f"(SEATKEEPER_{name})" in line] != [], name
    assert "SEATKEEPER_OWNER_DSN" in (await Admin()("migrate")).refused(2)


async def test_a_database_away_is_one_line(admin: Admin) -> None:
    away = Admin(admin.variables | {"SEATKEEPER_POSTGRES_DSN": NOWHERE, "SEATKEEPER_OWNER_DSN": NOWHERE})
    for ran in await away.at_once(("account", "create", "Acme"), ("migrate",), ("migrate", "--check")):
        line = ran.refused()
        assert "Postgres is out of reach" in line
        assert SECRET_IN_DSN not in line


async def test_a_role_without_the_right_is_one_line(admin: Admin, database: Database) -> None:
    reaper = database.dsn_for("seatkeeper_reaper")
    assert "seatkeeper_operator" in (await admin("account", "create", "X", SEATKEEPER_POSTGRES_DSN=reaper)).refused()


async def test_redis_away_is_told_and_keeps_nobody_from_a_change(admin: Admin, vendor: Vendor) -> None:
    away = {"SEATKEEPER_REDIS_URL": "redis://127.0.0.1:1/0"}
    ran = await admin("license", "suspend", *vendor.ref, "--json", **away)
    assert ran.json["status"] == "suspended"
    assert "Redis is out of reach" in ran.err
    assert (await admin("license", "list", vendor.account, **away)).err == ""


async def test_other_master_secrets_make_nothing(admin: Admin, vendor: Vendor, database: Database) -> None:
    """A key hashed under them would be found by no service."""
    before = await contents(database)
    for key_id in ("k1", "k2"):
        secret = f"{key_id}:{base64.b64encode(os.urandom(32)).decode()}"
        other = Admin(admin.variables | {"SEATKEEPER_SECRETS_KEYS": secret, "SEATKEEPER_SECRETS_CURRENT": key_id})
        for ran in await other.at_once(("license", "create", vendor.account, "Node"), ("token", "create", *vendor.ref)):
            assert "this installation's master secrets" in ran.refused()
    assert before == await contents(database)

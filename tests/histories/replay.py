"""The trail and the facts of a license, told from the beginning: they have to lead to what its rows say."""

from typing import Any

import asyncpg

from shared.ledger.reader import LicenseRef
from shared.ledger.rows import device_of, license_of
from shared.ledger.statements import load
from shared.licensing.facts import decode
from shared.licensing.model import DeviceState

_READ = load("reading.sql")
_AUDIT = "SELECT * FROM audit WHERE account_id = $1 AND license_id = $2 ORDER BY version"
_FACTS = "SELECT version, fact FROM outbox WHERE account_id = $1 AND license_id = $2 ORDER BY version"
_DEVICES = "SELECT * FROM device WHERE account_id = $1 AND license_id = $2"
_TAKES = ("device.activated", "device.resumed")
_STATUS = {"license.suspended": "suspended", "license.reinstated": "active", "license.revoked": "revoked"}


async def check_trail(connection: asyncpg.Connection, ref: LicenseRef) -> None:
    license = license_of(await connection.fetchrow(_READ["read_licenses"], [ref[0]], [ref[1]]))
    devices = {device.id: device for device in map(device_of, await connection.fetch(_DEVICES, *ref))}

    trail = await connection.fetch(_AUDIT, *ref)
    status, seated = _told_by(trail)
    assert [row["version"] for row in trail] == list(range(1, license.version + 1))
    assert [row["at"] for row in trail] == sorted(row["at"] for row in trail)
    assert status == license.status
    assert seated == {device.id: device.generation for device in devices.values() if device.state is DeviceState.ACTIVE}
    assert trail[-1]["seats_limit"] == license.seats_limit

    facts = [decode(row["fact"]) for row in await connection.fetch(_FACTS, *ref)]
    assert [fact.version for fact in facts] == list(range(1, license.version + 1))
    for row, fact in zip(trail, facts, strict=True):
        assert (row["event"], row["reason"], row["at"]) == (fact.type, fact.reason, fact.at)
        assert (row["seats_limit"], row["seats_used"]) == (fact.seats_limit, fact.seats_used)
    last = facts[-1]
    assert (last.status, last.seats_limit, last.seats_used, last.devices_pending, last.expires_at) == (
        (license.status, license.seats_limit, license.seats_used, license.devices_pending, license.expires_at)
    )
    told = {fact.device.id: fact.device for fact in facts if fact.device is not None}
    assert told.keys() == devices.keys()
    for id, device in told.items():
        held = devices[id]
        assert (device.state, device.generation, device.approved) == (held.state, held.generation, held.approved)
        assert (device.ended_at, device.ended_reason) == (held.ended_at, held.ended_reason)


def _told_by(trail: list[Any]) -> tuple[str, dict[Any, int]]:
    """The license's status and who holds a seat, with which generation."""
    status, seated = "active", {}
    for row in trail:
        status = _STATUS.get(row["event"], status)
        if row["event"] in _TAKES:
            assert row["device_id"] not in seated
            seated[row["device_id"]] = row["generation"]
        elif row["event"] == "device.renewed":
            assert seated[row["device_id"]] == row["generation"] - 1
            seated[row["device_id"]] = row["generation"]
        elif row["event"] in ("device.released", "device.blocked"):
            seated.pop(row["device_id"], None)
        assert row["seats_used"] == len(seated)
        assert row["seats_allowed"] == max(row["seats_limit"], row["seats_used"])
    return status, seated

"""What holds in every database at every commit (I1, I2, I5 and I6 of the design), as one question for each.

Each statement returns the rows that break its rule.
"""

from typing import Any

import asyncpg

from shared.ledger.reader import LicenseRef
from tests.builders import owner
from tests.conftest import Database

_BROKEN_BY = {
    "I1: no more seats than allowed": """
        SELECT id FROM license
        WHERE seats_used > seats_allowed OR seats_allowed <> greatest(seats_limit, seats_used)""",
    "I1: in the trail every change moves the seats as its name says, within the allowance": """
        SELECT license_id, version
        FROM (
            SELECT license_id, version, event, seats_used, seats_allowed, seats_used - lag(seats_used, 1, 0) OVER (
                       PARTITION BY account_id, license_id ORDER BY version) AS step
            FROM audit
        ) AS trail
        WHERE seats_used > seats_allowed
           OR (event IN ('device.activated', 'device.resumed')) <> (step = 1)
           OR step NOT IN (-1, 0, 1)
           OR (step = -1 AND event NOT IN ('device.released', 'device.blocked'))""",
    "I1: no seat is given beyond the limit, unless the policy sells overage": """
        SELECT a.license_id, a.version
        FROM audit a
        JOIN license l ON l.account_id = a.account_id AND l.id = a.license_id
        JOIN policy p ON p.account_id = l.account_id AND p.id = l.policy_id
        WHERE a.event IN ('device.activated', 'device.resumed') AND a.seats_used > a.seats_limit
            AND p.rules ->> 'overage' IS DISTINCT FROM 'unlimited'""",
    "I1: the trail ends where the license is": """
        SELECT l.id
        FROM license l
        LEFT JOIN audit a ON (a.account_id, a.license_id, a.version) = (l.account_id, l.id, l.version)
        WHERE (a.seats_used, a.seats_allowed) IS DISTINCT FROM (l.seats_used, l.seats_allowed)""",
    "I2: seats_used counts the active devices, devices_pending the pending ones": """
        SELECT l.id
        FROM license l
        LEFT JOIN device d ON d.account_id = l.account_id AND d.license_id = l.id
        GROUP BY l.account_id, l.id, l.seats_used, l.devices_pending
        HAVING l.seats_used <> count(*) FILTER (WHERE d.state = 'active')
            OR l.devices_pending <> count(*) FILTER (WHERE d.state = 'pending' AND NOT d.approved)""",
    "I5: one active device for each fingerprint": """
        SELECT license_id FROM device WHERE state = 'active'
        GROUP BY account_id, license_id, fingerprint HAVING count(*) > 1""",
    "I6: the trail counts the versions without a gap": """
        SELECT l.id
        FROM license l
        LEFT JOIN audit a ON a.account_id = l.account_id AND a.license_id = l.id
        GROUP BY l.account_id, l.id, l.version
        HAVING count(a.version) <> l.version OR min(a.version) <> 1 OR max(a.version) <> l.version""",
    "I6: one outbox row for each audit row": """
        SELECT coalesce(a.license_id, o.license_id)
        FROM audit a
        FULL JOIN outbox o USING (account_id, license_id, version)
        WHERE a.version IS NULL OR o.version IS NULL""",
}

_ONE_LICENSE = """
    WITH license AS (SELECT * FROM license WHERE account_id = $1 AND id = $2),
         device AS (SELECT * FROM device WHERE account_id = $1 AND license_id = $2),
         audit AS (SELECT * FROM audit WHERE account_id = $1 AND license_id = $2),
         outbox AS (SELECT * FROM outbox WHERE account_id = $1 AND license_id = $2)
"""


async def check_invariants(database: Database) -> None:
    """Fails with the rules that are broken and the licenses that break them."""
    async with owner(database) as connection:
        assert await broken_rules(connection) == {}


async def broken_rules(connection: asyncpg.Connection, only: LicenseRef | None = None) -> dict[str, list[Any]]:
    """The rules that are broken, in the whole database or by one license, and the rows that break them."""
    scope = _ONE_LICENSE if only else ""
    found = {rule: await connection.fetch(scope + question, *(only or ())) for rule, question in _BROKEN_BY.items()}
    return {rule: rows for rule, rows in found.items() if rows}

"""The simulated clock of demonstrations and tests: the schema's owner replaces the function that tells the time.

No service can: replacing a function is DDL, which no service's role may do.
"""

import asyncpg


async def move_clock(owner_dsn: str, *, days: int) -> None:
    """Make the ledger's clock run `days` ahead of the true one; 0 sets it right."""
    connection = await asyncpg.connect(owner_dsn)
    try:
        await connection.execute(
            "CREATE OR REPLACE FUNCTION ledger_clock() RETURNS timestamptz LANGUAGE sql VOLATILE AS "
            f"'SELECT clock_timestamp() + interval ''{int(days)} days'''"
        )
    finally:
        await connection.close()

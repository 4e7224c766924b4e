"""The real ledger on a real Postgres whose clock stands where it is put, driven from plain code that waits for it."""

import asyncio
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID, uuid4

import asyncpg
from msgspec.structs import replace

from shared.ledger.catalog import Catalog, NewKey
from shared.ledger.ledger import Ledger
from shared.ledger.reader import LicenseRef
from shared.ledger.rows import device_of, license_of, token_of
from shared.ledger.statements import load
from shared.licensing.model import ActivationToken, Change, Command, Decision, Device, License, Terms
from tests.builders import open_role, owner
from tests.conftest import Database
from tests.histories.replay import check_trail
from tests.invariants import broken_rules

Answer = TypeVar("Answer")

PRODUCT = "editor"
TOKEN_TTL_S, TOKEN_USES = 300 * 86_400, 2

_READ = load("reading.sql")
_STAND_STILL = """
    CREATE UNLOGGED TABLE simulated_now (at timestamptz NOT NULL);
    INSERT INTO simulated_now VALUES (now());
    GRANT SELECT ON simulated_now TO PUBLIC;
    CREATE OR REPLACE FUNCTION ledger_clock() RETURNS timestamptz LANGUAGE sql VOLATILE AS
        'SELECT at FROM simulated_now';
"""
_REST = "UPDATE reaping SET not_before = $1, halted_at = $2, cause = $3 WHERE account_id = $4"


async def stop_clock(connection: asyncpg.Connection) -> None:
    """From now on the ledger's clock stands; what is committed need not be on the disk."""
    await connection.execute(_STAND_STILL)
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")


async def set_clock(connection: asyncpg.Connection, now: datetime) -> None:
    await connection.execute("UPDATE simulated_now SET at = $1", now)


class RealLedger:
    """One ledger for all histories, and for each a license of its own."""

    def __init__(self, run: asyncio.Runner, connection: asyncpg.Connection, catalog: Catalog) -> None:
        self._runner = run
        self._connection = connection
        self._catalog = catalog
        self.account = uuid4()
        self.ledger: Ledger
        self.batches: list[Sequence[Change]] = []

    async def note(self, changes: Sequence[Change]) -> None:
        self.batches.append(changes)

    async def prepare(self) -> None:
        await stop_clock(self._connection)
        await self._catalog.add_account(self.account, "Vendor", [])
        await self._catalog.add_product(self.account, uuid4(), code=PRODUCT, name="Editor")

    # --- What histories do --------------------------------------------------------------------------------------

    def grant(self, terms: Terms, seats: int, now: datetime) -> tuple[License, ActivationToken]:
        """A license under a policy of its own, and a token for it."""
        return self._run(self._grant(terms, seats, now))

    def move_to(self, now: datetime) -> None:
        self._run(set_clock(self._connection, now))

    def rest(self, not_before: datetime | None, halted_at: datetime | None) -> None:
        """Tell the reaping to wait until `not_before`, or until further notice."""
        cause = "a test" if halted_at else None
        self._run(self._connection.execute(_REST, not_before, halted_at, cause, UUID(int=0)))

    def withdraw(self, token: ActivationToken) -> None:
        self._run(self._catalog.revoke_activation_token(self.account, token.id))

    def submit(self, commands: Sequence[Command]) -> list[Decision]:
        """Have them decided by one transaction."""
        self.batches.clear()
        decisions = self._run(self._submit(commands))
        assert len(self.batches) == 1, "they did not go together"
        return decisions

    def read(self, ref: LicenseRef, token: UUID) -> tuple[License, dict[UUID, Device], ActivationToken]:
        """What the rows say."""
        return self._run(self._read(ref, token))

    def check(self, ref: LicenseRef) -> None:
        """The invariants on the license's rows, and that its trail tells how it came to be as it is."""
        self._run(self._check(ref))

    # --- How ----------------------------------------------------------------------------------------------------

    def _run(self, work: Awaitable[Answer]) -> Answer:
        async def wait() -> Answer:
            return await work

        return self._runner.run(wait())

    async def _grant(self, terms: Terms, seats: int, now: datetime) -> tuple[License, ActivationToken]:
        await set_clock(self._connection, now)
        await self._connection.execute(_REST, None, None, None, UUID(int=0))
        policy, ref, token_id = uuid4(), (self.account, uuid4()), uuid4()
        terms = replace(terms, product_code=PRODUCT)
        await self._catalog.add_policy(self.account, policy, name=str(policy), seats=seats, terms=terms)
        key = NewKey(digest=policy.bytes * 2, key_id="test", prefix="")
        license = await self._catalog.add_license(
            ref, policy=str(policy), seats=None, expires_at=None, customer="", key=key, actor="test"
        )
        await self._catalog.add_activation_token(ref, token_id, ttl_s=TOKEN_TTL_S, max_uses=TOKEN_USES)
        return license, await self._token(ref, token_id)

    async def _submit(self, commands: Sequence[Command]) -> list[Decision]:
        return await asyncio.gather(*map(self.ledger.submit, commands))

    async def _read(self, ref: LicenseRef, token: UUID) -> tuple[License, dict[UUID, Device], ActivationToken]:
        row = await self._connection.fetchrow(_READ["read_licenses"], [ref[0]], [ref[1]])
        rows: list[Any] = await self._connection.fetch(
            "SELECT * FROM device WHERE account_id = $1 AND license_id = $2", *ref
        )
        devices = [device_of(row) for row in rows]
        return license_of(row), {device.id: device for device in devices}, await self._token(ref, token)

    async def _token(self, ref: LicenseRef, token: UUID) -> ActivationToken:
        row = await self._connection.fetchrow(
            "SELECT * FROM activation_token WHERE account_id = $1 AND license_id = $2 AND id = $3", *ref, token
        )
        return token_of(row)

    async def _check(self, ref: LicenseRef) -> None:
        assert await broken_rules(self._connection, only=ref) == {}
        await check_trail(self._connection, ref)


@contextmanager
def open_real_ledger(database: Database) -> Iterator[RealLedger]:
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        stack = AsyncExitStack()
        real = runner.run(_open(runner, stack, database))
        try:
            yield real
        finally:
            runner.run(stack.aclose())


async def _open(runner: asyncio.Runner, stack: AsyncExitStack, database: Database) -> RealLedger:
    connection = await stack.enter_async_context(owner(database))
    owners = await stack.enter_async_context(open_role(database.owner_dsn, size=1))
    real = RealLedger(runner, connection, Catalog(owners))
    await real.prepare()
    pool = await stack.enter_async_context(open_role(database.dsn_for("seatkeeper_standalone"), size=2))
    real.ledger = Ledger(pool, after_commit=real.note)
    stack.push_async_callback(real.ledger.close)
    return real

"""The catalogue: accounts with their keys, products, policies, licenses and tokens, as the portal makes them.

Each method is one transaction. What the database refuses for what it was given is a `CatalogError` that says what
to mend; seats are never changed here.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec

from shared.ledger.connections import LOST, Connection, Pool, UnavailableError
from shared.ledger.reader import LicenseRef, StoredKey
from shared.ledger.rows import license_of, own, rules_text
from shared.ledger.statements import load
from shared.ledger.transaction import OutcomeUnknownError
from shared.licensing import facts
from shared.licensing.model import Event, EventKind, License, Terms

_SQL = load("catalog.sql")
_READ = load("reading.sql")

_SAID = {
    "product_account_id_code_key": "a product with this code exists already",
    "product_account_id_fkey": "no such account",
    "policy_account_id_name_key": "a policy with this name exists already",
    "license_key_pkey": "this license key is in use already",
    "license_seats_limit_check": "seats must not be negative",
    "license_never_oversold": "seats must not be negative",
    "license_customer_check": "the customer has at most 200 characters",
    "policy_seats_check": "seats must not be negative",
    "policy_check": "the offline grace must lie between one second and the lease",
    "policy_check1": "the heartbeat interval must lie between one second and the lease",
    "policy_check2": "a floating policy's offline grace is its lease",
    "account_name_check": "a name has 1 to 200 characters",
    "product_name_check": "a name has 1 to 200 characters",
    "policy_name_check": "a name has 1 to 200 characters",
    "policy_floating_lease": "a floating lease is a day at most",
    "policy_lease_s_check": "the lease must lie between one second and ten years",
    "product_code_check": "a product code is 1 to 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit",
    "activation_token_max_uses_check": "a token needs at least one use",
    "activation_token_account_id_license_id_fkey": "no such license",
    "management_token_account_id_fkey": "no such account",
}


FIRST = UUID(int=0)
"""What a list begins after that begins at its beginning."""


class CatalogError(Exception):
    """What was given cannot be; the text says what to mend."""


class NewKey(msgspec.Struct, frozen=True, kw_only=True):
    """A license key as it is kept: its HMAC, the pepper's id and a prefix to show."""

    digest: bytes
    key_id: str
    prefix: str


class LicenseRow(msgspec.Struct, frozen=True, kw_only=True):
    """A license as lists show it."""

    id: UUID
    policy: str
    status: str
    seats_limit: int
    seats_used: int
    key_prefix: str
    customer: str
    expires_at: datetime | None


class Catalog:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add_account(self, id: UUID, name: str, keys: list[StoredKey]) -> None:
        async with self._transaction() as connection:
            await connection.execute(_SQL["add_account"], id, name)
            for key in keys:
                await _add_key(connection, id, key)

    async def add_signing_key(self, account_id: UUID, key: StoredKey) -> None:
        async with self._transaction() as connection:
            await _add_key(connection, account_id, key)

    async def add_product(self, account_id: UUID, id: UUID, *, code: str, name: str) -> None:
        async with self._transaction() as connection:
            await connection.execute(_SQL["add_product"], account_id, id, code, name)

    async def add_policy(self, account_id: UUID, id: UUID, *, name: str, seats: int, terms: Terms) -> None:
        async with self._transaction() as connection:
            product = await connection.fetchval(
                _SQL["add_policy"],
                account_id,
                id,
                terms.product_code,
                name,
                terms.kind,
                seats,
                terms.lease_s,
                terms.offline_grace_s,
                terms.heartbeat_interval_s,
                terms.approval,
                rules_text(terms),
            )
            if product is None:
                raise CatalogError(f"the account has no product {terms.product_code!r}")

    async def add_license(
        self,
        ref: LicenseRef,
        *,
        policy: str,
        seats: int | None,
        expires_at: datetime | None,
        customer: str,
        key: NewKey,
        actor: str,
    ) -> License:
        """Add a license under the account's policy of that name; `seats` None takes the policy's number."""
        account_id, id = ref
        async with self._transaction() as connection:
            granted = await connection.fetchval(
                _SQL["add_license"], account_id, policy, id, seats, expires_at, key.prefix, customer
            )
            if granted is None:
                raise CatalogError(f"the account has no policy {policy!r}")
            await connection.execute(_SQL["add_license_key"], key.digest, key.key_id, account_id, id)
            license = license_of(await connection.fetchrow(_READ["read_licenses"], [account_id], [id]))
            await _tell_created(connection, license, actor)
            return license

    async def add_activation_token(
        self, ref: LicenseRef, id: UUID, *, ttl_s: float, max_uses: int
    ) -> tuple[datetime, datetime]:
        """Add a token for a license; returns (now, its expiry) by the database's clock."""
        async with self._transaction() as connection:
            row = await connection.fetchrow(_SQL["add_activation_token"], *ref, id, ttl_s, max_uses)
            assert row is not None
            return row["now"], row["expires_at"]

    async def revoke_activation_token(self, account_id: UUID, id: UUID) -> None:
        async with self._transaction() as connection:
            if await connection.execute(_SQL["revoke_activation_token"], account_id, id) == "UPDATE 0":
                raise CatalogError("no such activation token, or it was revoked already")

    async def add_management_token(
        self, account_id: UUID, id: UUID, *, digest: bytes, key_id: str, name: str, scopes: list[str], ttl_s: float
    ) -> None:
        async with self._transaction() as connection:
            await connection.execute(_SQL["add_management_token"], account_id, id, digest, key_id, name, scopes, ttl_s)

    async def licenses(self, account_id: UUID, *, limit: int, after: UUID = FIRST) -> list[LicenseRow]:
        """A page of an account's licenses in the order of their ids."""
        async with self._transaction() as connection:
            rows = await connection.fetch(_SQL["list_licenses"], account_id, after, limit)
        return [_license_row(row) for row in rows]

    async def license(self, ref: LicenseRef) -> LicenseRow | None:
        async with self._transaction() as connection:
            row = await connection.fetchrow(_SQL["read_license"], *ref)
        return None if row is None else _license_row(row)

    async def accounts(self, *, limit: int, after: UUID = FIRST) -> list[tuple[UUID, str, datetime]]:
        """A page of all accounts in the order of their ids: (id, name, when it was made)."""
        async with self._transaction() as connection:
            rows = await connection.fetch(_SQL["list_accounts"], after, limit)
        return [(own(row["id"]), row["name"], row["created_at"]) for row in rows]

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Connection]:
        committing = False
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                yield connection
                committing = True
        except LOST as error:
            raise OutcomeUnknownError if committing else UnavailableError from error
        except asyncpg.IntegrityConstraintViolationError as error:
            name = getattr(error, "constraint_name", None) or ""
            raise CatalogError(_SAID.get(name, f"the database refuses it ({name})")) from error
        except asyncpg.DataError as error:
            raise CatalogError(f"a value is out of range: {error}") from error


def _license_row(row: asyncpg.Record) -> LicenseRow:
    return LicenseRow(**{name: row[name] for name in LicenseRow.__struct_fields__ if name != "id"}, id=own(row["id"]))


async def _add_key(connection: Connection, account_id: UUID, key: StoredKey) -> None:
    sealed = (key.sealed_with, key.sealed, key.certificate)
    await connection.execute(_SQL["add_signing_key"], account_id, key.kid, key.role, key.public_key, *sealed)


async def _tell_created(connection: Connection, license: License, actor: str) -> None:
    event = Event(
        kind=EventKind.LICENSE_CREATED,
        version=1,
        seats_limit=license.seats_limit,
        seats_used=0,
        seats_allowed=license.seats_allowed,
    )
    now = await connection.fetchval("SELECT ledger_clock()")
    ref = (license.account_id, license.id)
    await connection.execute(_SQL["add_audit"], *ref, actor, event.kind, license.seats_allowed)
    await connection.execute(_SQL["add_outbox"], *ref, facts.encode(facts.fact_of(event, license, now)))

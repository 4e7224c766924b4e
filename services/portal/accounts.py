"""Accounts: a vendor with its root and leaf signing keys, its products and policies, and who may manage them."""

import os
from datetime import UTC, datetime
from uuid import UUID

import msgspec
from msgspec.structs import asdict

from services.portal.ids import new_id
from shared.ledger.catalog import Catalog, CatalogError
from shared.ledger.reader import StoredKey
from shared.licensing.leases import DAY_S
from shared.licensing.model import Approval, Kind, Rules, Terms
from shared.licensing.policy_rules import SHORTEST_FLOATING_LEASE_S, faults
from shared.signing import management_token
from shared.signing.keyring import new_account_keys, seal
from shared.signing.keys import PublicJwk, SigningKey, public_jwk
from shared.signing.license_key_hash import LicenseKeyHasher
from shared.signing.secrets import MasterSecrets

NODE_LOCKED_LEASE_S = 90 * DAY_S
FLOATING_LEASE_S = 600
OFFLINE_GRACE_S = 7 * DAY_S
HEARTBEAT_INTERVAL_S = 3600

SCOPES = ("licenses:read", "licenses:write", "devices:read", "devices:write", "catalog:write")


class NewAccount(msgspec.Struct, frozen=True, kw_only=True):
    """The account and the root key that its clients pin."""

    id: UUID
    root_key: PublicJwk


class Accounts:
    def __init__(
        self,
        catalog: Catalog,
        secrets: MasterSecrets,
        management_tokens: LicenseKeyHasher,
        *,
        shortest_floating_lease_s: int = SHORTEST_FLOATING_LEASE_S,
    ) -> None:
        self._catalog = catalog
        self._shortest_floating_lease_s = shortest_floating_lease_s
        self._secrets = secrets
        self._management_tokens = management_tokens

    async def create(self, name: str) -> NewAccount:
        """Make an account with fresh signing keys. Raises `CatalogError`."""
        id = new_id()
        root, leaf, certificate = new_account_keys(id, datetime.now(UTC))
        await self._catalog.add_account(id, name, [self._stored(id, root, None), self._stored(id, leaf, certificate)])
        return NewAccount(id=id, root_key=public_jwk(root.public))

    async def add_product(self, account_id: UUID, *, code: str, name: str) -> UUID:
        id = new_id()
        await self._catalog.add_product(account_id, id, code=code, name=name)
        return id

    async def add_policy(self, account_id: UUID, *, name: str, seats: int, terms: Terms) -> UUID:
        """A new policy. Raises `CatalogError` with every fault of its terms."""
        if wrong := faults(terms, shortest_floating_lease_s=self._shortest_floating_lease_s):
            raise CatalogError("; ".join(wrong))
        id = new_id()
        await self._catalog.add_policy(account_id, id, name=name, seats=seats, terms=terms)
        return id

    async def add_management_token(self, account_id: UUID, *, name: str, scopes: list[str], ttl_s: float) -> str:
        """A new bearer token for the management API; only its HMAC is kept. Raises `CatalogError`."""
        if unknown := sorted(set(scopes) - set(SCOPES)):
            raise CatalogError(f"no such scope: {', '.join(unknown)}; there are {', '.join(SCOPES)}")
        token = management_token.generate(os.urandom(32))
        digest = self._management_tokens.digest(token)
        await self._catalog.add_management_token(
            account_id, new_id(), digest=digest.digest, key_id=digest.key_id, name=name, scopes=scopes, ttl_s=ttl_s
        )
        return token

    def _stored(self, account_id: UUID, key: SigningKey, certificate: str | None) -> StoredKey:
        sealed = seal(self._secrets, account_id, key.kid, key.private.private_bytes_raw())
        return StoredKey(
            kid=key.kid,
            role=key.role,
            public_key=key.public,
            sealed_with=sealed.key_id,
            sealed=sealed.sealed,
            certificate=certificate,
        )


def terms(
    *,
    kind: Kind,
    product_code: str,
    lease_s: int | None = None,
    offline_grace_s: int | None = None,
    heartbeat_interval_s: int | None = None,
    approval: Approval = Approval.AUTOMATIC,
    rules: Rules | None = None,
) -> Terms:
    """A policy's terms with the defaults of its kind: 90 days, or ten minutes for a floating license."""
    lease_s = lease_s or (NODE_LOCKED_LEASE_S if kind is Kind.NODE_LOCKED else FLOATING_LEASE_S)
    grace_s = lease_s if kind is Kind.FLOATING else offline_grace_s or min(OFFLINE_GRACE_S, lease_s)
    return Terms(
        kind=kind,
        lease_s=lease_s,
        offline_grace_s=grace_s,
        heartbeat_interval_s=heartbeat_interval_s or max(1, min(HEARTBEAT_INTERVAL_S, lease_s // 3)),
        approval=approval,
        product_code=product_code,
        **asdict(rules or Rules()),
    )

"""Between Postgres's rows and the vocabulary: one function for each direction and kind of row."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID, SafeUUID

import msgspec
from msgspec.structs import asdict

from shared.licensing.model import (
    ActivationToken,
    Approval,
    Device,
    DeviceState,
    Kind,
    License,
    LicenseStatus,
    Reason,
    Rules,
    Terms,
    Window,
)

NONCE_BYTES = 16
"""Of each nonce; a device's last ones stand in one column."""

_STATUS = {status.value: status for status in LicenseStatus}
_STATE = {state.value: state for state in DeviceState}
_REASON: dict[str | None, Reason | None] = {reason.value: reason for reason in Reason} | {None: None}


def own(id: UUID) -> UUID:
    """The standard library's UUID for asyncpg's own, which msgspec does not encode.

    What `UUID(int=…)` does without its checks, which take twice as long.
    """
    made = _new(UUID)
    _set(made, "int", id.int)
    _set(made, "is_safe", _SAFE)
    return made


_new, _set, _SAFE = object.__new__, object.__setattr__, SafeUUID.unknown


def license_of(row: Any, ref: tuple[UUID, UUID] | None = None) -> License:
    """`ref` is (account id, license id) where the row has them not."""
    account_id, id = ref or (own(row["account_id"]), own(row["id"]))
    return License(
        account_id=account_id,
        id=id,
        status=_STATUS[row["status"]],
        seats_limit=row["seats_limit"],
        seats_allowed=row["seats_allowed"],
        seats_used=row["seats_used"],
        devices_pending=row["devices_pending"],
        version=row["version"],
        expires_at=row["expires_at"],
        terms=_terms(
            row["kind"],
            row["lease_s"],
            row["offline_grace_s"],
            row["heartbeat_interval_s"],
            row["approval"],
            row["product_code"],
            row["rules"],
        ),
        activations=_window(row["activations_began_at"], row["activations_count"]),
        releases=_window(row["releases_began_at"], row["releases_count"]),
    )


@lru_cache(maxsize=4096)
def _terms(
    kind: str, lease_s: int, offline_grace_s: int, heartbeat_interval_s: int, approval: str, product: str, rules: str
) -> Terms:
    """The terms of these very values: licenses under one policy share them."""
    return Terms(
        kind=Kind(kind),
        lease_s=lease_s,
        offline_grace_s=offline_grace_s,
        heartbeat_interval_s=heartbeat_interval_s,
        approval=Approval(approval),
        product_code=product,
        **asdict(msgspec.json.decode(rules, type=Rules)),
    )


def rules_text(terms: Terms) -> str:
    """The part of the terms that is kept as JSON."""
    return msgspec.json.encode(Rules(**{name: getattr(terms, name) for name in Rules.__struct_fields__})).decode()


_NOTHING_COUNTED = Window()


def _window(began_at: datetime | None, count: int) -> Window:
    return _NOTHING_COUNTED if began_at is None else Window(began_at=began_at, count=count)


def device_of(row: Any, ref: tuple[UUID, UUID] | None = None) -> Device:
    """`ref` is (account id, license id) where the row has them not."""
    account_id, license_id = ref or (own(row["account_id"]), own(row["license_id"]))
    return Device(
        account_id=account_id,
        license_id=license_id,
        id=own(row["id"]),
        fingerprint=row["fingerprint"],
        name=row["name"],
        state=_STATE[row["state"]],
        generation=row["generation"],
        approved=row["approved"],
        activated_at=row["activated_at"],
        last_contact_at=row["last_contact_at"],
        lease_expires_at=row["lease_expires_at"],
        announced_lease_end=row["announced_lease_end"],
        ended_at=row["ended_at"],
        ended_reason=_REASON[row["ended_reason"]],
        reset_at=row["reset_at"],
        nonces=_nonces(row["nonce"] or b""),
        counter=row["counter"],
        clone_suspected_at=row["clone_suspected_at"],
        offline_until=row["offline_until"],
    )


def _nonces(packed: bytes) -> tuple[bytes, ...]:
    return tuple(packed[at : at + NONCE_BYTES] for at in range(0, len(packed), NONCE_BYTES))


def token_of(row: Any) -> ActivationToken:
    return ActivationToken(
        id=own(row["id"]),
        expires_at=row["expires_at"],
        max_uses=row["max_uses"],
        uses=row["uses"],
        revoked_at=row["revoked_at"],
    )


def columns(rows: Iterable[Sequence[Any]], width: int) -> list[list[Any]]:
    """Turn rows into the column arrays that `unnest` takes; `width` empty ones when there are no rows."""
    table = [list(column) for column in zip(*rows, strict=True)]
    return table or [[] for _ in range(width)]

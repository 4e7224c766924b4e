"""Between Postgres's rows and the vocabulary: one function for each direction and kind of row."""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from shared.licensing.model import (
    ActivationToken,
    Approval,
    Device,
    DeviceState,
    Kind,
    License,
    LicenseStatus,
    Reason,
    Terms,
)

_STATUS = {status.value: status for status in LicenseStatus}
_STATE = {state.value: state for state in DeviceState}
_REASON: dict[str | None, Reason | None] = {reason.value: reason for reason in Reason} | {None: None}


def own(id: UUID) -> UUID:
    """The standard library's UUID for asyncpg's own, which msgspec does not encode."""
    return UUID(int=id.int)


def license_of(row: Any) -> License:
    return License(
        account_id=own(row["account_id"]),
        id=own(row["id"]),
        status=_STATUS[row["status"]],
        seats_limit=row["seats_limit"],
        seats_allowed=row["seats_allowed"],
        seats_used=row["seats_used"],
        devices_pending=row["devices_pending"],
        version=row["version"],
        expires_at=row["expires_at"],
        terms=Terms(
            kind=Kind(row["kind"]),
            lease_s=row["lease_s"],
            offline_grace_s=row["offline_grace_s"],
            heartbeat_interval_s=row["heartbeat_interval_s"],
            approval=Approval(row["approval"]),
            product_code=row["product_code"],
        ),
    )


def device_of(row: Any) -> Device:
    return Device(
        account_id=own(row["account_id"]),
        license_id=own(row["license_id"]),
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
        nonce=row["nonce"],
    )


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

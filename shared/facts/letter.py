"""What a dead letter tells of itself: which facts it holds, why it is dead and since when."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from aio_pika.abc import AbstractIncomingMessage

from shared.facts.codec import unpack


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One fact of a letter."""

    type: str
    account_id: UUID
    license_id: UUID
    version: int


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """`reason` is the broker's: `rejected` by the consumer, or `delivery_limit` when consumers died of it."""

    id: str
    queue: str
    reason: str
    died_at: datetime | None
    published_at: datetime | None
    bytes: int
    facts: tuple[Line, ...]
    unreadable: tuple[str, ...]


def letter_of(message: AbstractIncomingMessage, queue: str) -> Letter:
    facts, unreadable = unpack(message.body)
    reason, died_at = _death(message.headers.get("x-death"))
    return Letter(
        id=message.message_id or "",
        queue=queue,
        reason=reason,
        died_at=died_at,
        published_at=message.timestamp,
        bytes=len(message.body),
        facts=tuple(
            Line(type=fact.type, account_id=fact.account_id, license_id=fact.license_id, version=fact.version)
            for fact in facts
        ),
        unreadable=tuple(unreadable),
    )


def _death(deaths: Any) -> tuple[str, datetime | None]:
    """Why and when, as the broker noted it last."""
    if not isinstance(deaths, Sequence) or not deaths or not isinstance(deaths[0], dict):
        return "unknown", None
    when = deaths[0].get("time")
    return str(deaths[0].get("reason", "unknown")), when if isinstance(when, datetime) else None

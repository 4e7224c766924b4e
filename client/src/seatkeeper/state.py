"""What an application sees of its license: Pending, Active or Limited, why, and what to do about it."""

from datetime import datetime
from enum import StrEnum

import msgspec

from seatkeeper.texts import text


class Name(StrEnum):
    PENDING = "pending"
    ACTIVE = "active"
    LIMITED = "limited"


STARTING = "STARTING"
WAITING_FOR_APPROVAL = "WAITING_FOR_APPROVAL"
UNREACHABLE = "UNREACHABLE"
CLOCK_SET_BACK = "CLOCK_SET_BACK"
CLOCK_FROZEN = "CLOCK_FROZEN"
OFFLINE_FILE = "OFFLINE_FILE"
LEASE_ENDED = "LEASE_ENDED"
RELEASED = "RELEASED"


class State(msgspec.Struct, frozen=True, kw_only=True):
    """`reason` is a code: the API's, or one of the names above; None where all is well. `detail` is a sentence that
    says what to do. `until` is the end of the signed lease or license file in hands."""

    name: Name
    reason: str | None = None
    detail: str = ""
    until: datetime | None = None

    @property
    def usable(self) -> bool:
        """Whether the application may run as licensed."""
        return self.name is not Name.PENDING

    def __str__(self) -> str:
        reason = f" ({self.reason})" if self.reason else ""
        until = f" until {self.until:%Y-%m-%d %H:%M} UTC" if self.until is not None and self.usable else ""
        return f"{self.name.capitalize()}{reason}{until}"


def own(name: Name, reason: str, language: str, until: datetime | None = None) -> State:
    """A state for a reason of this package, with its sentence."""
    detail = text(f"reason.{reason}", language, until=f"{until:%Y-%m-%d %H:%M} UTC" if until is not None else "…")
    return State(name=name, reason=reason, detail=detail, until=until)

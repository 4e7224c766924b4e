"""What a license and its policy demand before a device gets or keeps a seat: each gate a code, or None to pass."""

from datetime import datetime, timedelta

from shared.licensing import leases
from shared.licensing.case import Case
from shared.licensing.codes import Code
from shared.licensing.model import Activate, Extend, LicenseStatus, OnExpiry, Window
from shared.licensing.versions import is_supported

HOUR = timedelta(hours=1)
YEAR = timedelta(days=365)


def new_seat(case: Case) -> Code | None:
    """Whether the license gives seats at all."""
    if case.license.status is LicenseStatus.REVOKED:
        return Code.LICENSE_REVOKED
    if case.license.status is LicenseStatus.SUSPENDED:
        return Code.LICENSE_SUSPENDED
    warns = case.license.terms.on_expiry is OnExpiry.WARN
    return Code.LICENSE_EXPIRED if leases.is_expired(case.license, case.now) and not warns else None


def kept_seat(case: Case) -> Code | None:
    """Whether the license stands behind the seats it gave. A suspension is said only once the contact has counted."""
    if case.license.status is LicenseStatus.REVOKED:
        return Code.LICENSE_REVOKED
    hard_end = leases.hard_end(case.license)
    return Code.LICENSE_EXPIRED if hard_end is not None and case.now >= hard_end else None


def application(case: Case, command: Activate | Extend) -> Code | None:
    """Whether the policy serves this version of the application, and what the application cannot do without."""
    terms = case.license.terms
    if not is_supported(command.version, terms.min_version, terms.max_version):
        return Code.VERSION_NOT_SUPPORTED
    missing = any(code not in terms.entitlements for code in command.entitlements)
    return Code.ENTITLEMENT_MISSING if missing else None


def token(case: Case) -> Code | None:
    """A token that was withdrawn or is past its end authenticates nobody, not even an active device."""
    if case.token is None:
        return Code.TOKEN_INVALID
    if case.token.revoked_at is not None:
        return Code.TOKEN_REVOKED
    return Code.TOKEN_EXPIRED if case.now >= case.token.expires_at else None


def warning(case: Case) -> Code | None:
    """What is granted all the same, and would not be under a stricter policy."""
    return Code.LICENSE_EXPIRED if leases.is_expired(case.license, case.now) else None


def spent_until(window: Window, limit: int | None, length: timedelta, now: datetime) -> datetime | None:
    """The end of a window in which the limit has been reached; None where there is something left.

    A limit of nothing is reached before anything was counted, in a window that would begin now.
    """
    if limit is None:
        return None
    began_at, count = _current(window, length, now)
    return None if count < limit else began_at + length


def counted(window: Window, length: timedelta, now: datetime) -> Window:
    """The window with one more in it; a new one where the last has ended."""
    began_at, count = _current(window, length, now)
    return Window(began_at=began_at, count=count + 1)


def _current(window: Window, length: timedelta, now: datetime) -> tuple[datetime, int]:
    """When the window of this moment began, and what was counted in it."""
    if window.began_at is None or now >= window.began_at + length:
        return now, 0
    return window.began_at, window.count

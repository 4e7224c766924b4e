"""How long a seat is held, and what a device may be told about it.

One rule serves both kinds of license: a lease of `lease_s` from the last committed contact. What differs is
only its length. Slack covers contacts that were answered without a commit (see `FLOOR_AGE_S`).
"""

from datetime import datetime, timedelta

from shared.licensing.model import Device, DeviceState, License, LicenseStatus, OnExpiry, Terms

DAY_S = 86_400

FLOOR_AGE_S = 43_200
"""Contacts younger than this since the last commit promise nothing new, so they need no commit of their own."""

FLOOR_MIN_LEASE_S = 129_600
"""Leases shorter than this (36 h) are committed at every contact: no slack could cover an uncommitted one."""

ANNOUNCE_LEAD_S = 7 * DAY_S


def slack_s(lease_s: int) -> int:
    """Seconds past its end that a lease is left alone: a day for leases of a day or more, else none."""
    return DAY_S if lease_s >= DAY_S else 0


def announce_lead_s(lease_s: int) -> int | None:
    """Seconds before its end that a lease is announced: seven days, a tenth of shorter ones; never below a day."""
    return min(ANNOUNCE_LEAD_S, lease_s // 10) if lease_s >= DAY_S else None


def lease_end(terms: Terms, now: datetime, offline_until: datetime | None = None) -> datetime:
    """The end of a lease that begins now; that of a device with an offline file reaches to the file's end at least."""
    end = now + timedelta(seconds=terms.lease_s)
    return max(end, offline_until) if offline_until else end


def needs_commit(lease_s: int, lease_expires_at: datetime, now: datetime) -> bool:
    """Whether a contact at `now` has to move the lease in Postgres before it is answered."""
    floor_age_s = lease_s - (lease_expires_at - now).total_seconds()
    return lease_s < FLOOR_MIN_LEASE_S or floor_age_s >= FLOOR_AGE_S


def is_over(license: License, device: Device, now: datetime, reap_not_before: datetime | None = None) -> bool:
    """Whether the seat may be taken from this silent device.

    A suspended license keeps its seats, and leases of a day or more end for nobody before `reap_not_before`.
    """
    if device.state is not DeviceState.ACTIVE or device.lease_expires_at is None:
        return False
    if license.status is LicenseStatus.SUSPENDED or is_offline(device, now):
        return False
    if reap_not_before is not None and now < reap_not_before and license.terms.lease_s >= DAY_S:
        return False
    return now >= device.lease_expires_at + timedelta(seconds=slack_s(license.terms.lease_s))


def is_expiring(license: License, device: Device, now: datetime) -> bool:
    """Whether the end of this lease is near and has not been announced yet."""
    lead_s = announce_lead_s(license.terms.lease_s)
    if device.state is not DeviceState.ACTIVE or device.lease_expires_at is None or lead_s is None:
        return False
    if license.status is LicenseStatus.SUSPENDED or device.announced_lease_end == device.lease_expires_at:
        return False
    return now >= device.lease_expires_at - timedelta(seconds=lead_s)


def valid_until_s(*, lease_expires_s: int, issued_s: int, offline_grace_s: int, license_expires_s: int | None) -> int:
    """The end that a signed lease states: never past the server's lease, the offline grace or the license.

    Times are whole seconds since 1970, as they are signed and kept in Redis.
    """
    until_s = min(lease_expires_s, issued_s + offline_grace_s)
    return min(until_s, license_expires_s) if license_expires_s else until_s


def is_expired(license: License, now: datetime) -> bool:
    return license.expires_at is not None and now >= license.expires_at


def is_offline(device: Device, now: datetime) -> bool:
    """Whether an offline file for this device's seat lives."""
    return device.offline_until is not None and now < device.offline_until


def hard_end(license: License) -> datetime | None:
    """The moment from which nothing goes on under this license; None where active devices are only warned."""
    return license.expires_at if license.terms.on_expiry is OnExpiry.REFUSE_ALL else None

"""What a policy may say: each fault is a sentence for the vendor who writes it."""

import re

from shared.licensing.leases import DAY_S
from shared.licensing.model import Kind, OnExpiry, Terms
from shared.licensing.versions import is_supported, read_version

SHORTEST_FLOATING_LEASE_S = 60
LONGEST_S = 315_360_000
"""Ten years of 365 days."""

MOST_ENTITLEMENTS = 100
MOST = 1_000_000_000

_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")


def faults(terms: Terms, *, shortest_floating_lease_s: int = SHORTEST_FLOATING_LEASE_S) -> list[str]:
    """What is wrong with a policy's terms; nothing where they can be granted."""
    return [
        *_lease_faults(terms, shortest_floating_lease_s),
        *_end_faults(terms),
        *_version_faults(terms),
        *_limit_faults(terms),
        *_entitlement_faults(terms),
    ]


def _lease_faults(terms: Terms, shortest_s: int) -> list[str]:
    found = []
    if terms.kind is Kind.FLOATING and not shortest_s <= terms.lease_s <= DAY_S:
        found.append(f"a floating lease lies between {shortest_s} seconds and 24 hours")
    if not 1 <= terms.lease_s <= LONGEST_S:
        found.append("the lease must lie between one second and ten years")
    if not 1 <= terms.offline_grace_s <= terms.lease_s:
        found.append("the offline grace must lie between one second and the lease")
    if not 1 <= terms.heartbeat_interval_s <= terms.lease_s:
        found.append("the heartbeat interval must lie between one second and the lease")
    elif terms.kind is Kind.FLOATING and terms.lease_s > 1 and terms.heartbeat_interval_s * 6 > terms.lease_s * 5:
        found.append("the heartbeat interval, which varies by a fifth, must end within the floating lease")
    return found


def _end_faults(terms: Terms) -> list[str]:
    found = []
    if terms.expires_at is not None and terms.valid_s is not None:
        found.append("licenses end on a date or a time after their first activation, not both")
    if terms.valid_s is not None and not 1 <= terms.valid_s <= LONGEST_S:
        found.append("the time after the first activation must lie between one second and ten years")
    if terms.trial and terms.expires_at is None and terms.valid_s is None:
        found.append("a trial has an end: a date or a time after the first activation")
    if terms.trial and terms.on_expiry is not OnExpiry.REFUSE_ALL:
        found.append("a trial that is over refuses everything")
    return found


def _version_faults(terms: Terms) -> list[str]:
    bounds = [bound for bound in (terms.min_version, terms.max_version) if bound is not None]
    if any(read_version(bound) is None or len(bound) > 64 for bound in bounds):
        return ["a version begins with numbers between dots, such as 2.3"]
    if len(bounds) == 2 and not is_supported(terms.min_version, None, terms.max_version):
        return ["the first supported version lies after the last"]
    return []


def _limit_faults(terms: Terms) -> list[str]:
    found = []
    if terms.activations_per_hour is not None and not 1 <= terms.activations_per_hour <= MOST:
        found.append("activations per hour are at least one")
    if terms.releases_per_year is not None and not 0 <= terms.releases_per_year <= MOST:
        found.append("releases per year are not negative")
    if terms.releases_per_year is not None and terms.kind is Kind.FLOATING:
        found.append("releases per year are for node-locked licenses: floating seats are there to be given back")
    if not 0 <= terms.offline_max_days <= LONGEST_S // DAY_S:
        found.append("an offline file lasts between 0 (none allowed) and 3650 days")
    return found


def _entitlement_faults(terms: Terms) -> list[str]:
    found = []
    if len(terms.entitlements) > MOST_ENTITLEMENTS:
        found.append(f"a policy has at most {MOST_ENTITLEMENTS} entitlements")
    if not all(_CODE.fullmatch(code) for code in terms.entitlements):
        found.append("an entitlement's code is 1 to 64 of letters, digits, '.', '_', ':' and '-', no sign first")
    if any(limit is not None and not 0 <= limit <= MOST for limit in terms.entitlements.values()):
        found.append("an entitlement's limit is not negative")
    return found

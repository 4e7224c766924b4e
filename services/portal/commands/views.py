"""Records as they are shown: what of a row stands in which field, in the API's names."""

import msgspec

from services.portal.commands.output import Record
from services.portal.lookups import LicenseDetail
from shared.ledger.catalog import LicenseRow
from shared.ledger.reader import TrailEntry
from shared.licensing.model import Device, License, Rules, Terms


def license_line(row: LicenseRow) -> Record:
    """A license as lists show it."""
    return {
        "id": row.id,
        "keyPrefix": row.key_prefix,
        "customer": row.customer,
        "policy": row.policy,
        "status": row.status,
        "seatsUsed": row.seats_used,
        "seats": row.seats_limit,
        "expiresAt": row.expires_at,
    }


def license_counts(license: License) -> Record:
    """A license as it stands after a change. Devices over a lowered limit keep their seats: `seatsAllowed`."""
    return {
        "id": license.id,
        "status": license.status,
        "seatsUsed": license.seats_used,
        "seats": license.seats_limit,
        "seatsAllowed": license.seats_allowed,
        "devicesPending": license.devices_pending,
    }


def terms_lines(terms: Terms) -> Record:
    """A policy's terms; of its rules those that differ from the usual."""
    return {
        "product": terms.product_code,
        "kind": terms.kind,
        "leaseS": terms.lease_s,
        "offlineGraceS": terms.offline_grace_s,
        "heartbeatIntervalS": terms.heartbeat_interval_s,
        "approval": terms.approval,
        **{
            rule.encode_name: _words(getattr(terms, rule.name))
            for rule in msgspec.structs.fields(Rules)
            if getattr(terms, rule.name) != getattr(_USUAL, rule.name)
        },
    }


_USUAL = Rules()


def _words(value: object) -> object:
    """Entitlements as they are written on the command line; everything else as it is."""
    if not isinstance(value, dict):
        return value
    return tuple(code if limit is None else f"{code}={limit}" for code, limit in value.items())


def license_detail(detail: LicenseDetail) -> Record:
    return {
        **license_line(detail.row),
        **license_counts(detail.license),
        **{name: value for name, value in terms_lines(detail.license.terms).items() if name != "expiresAt"},
        "devices": [device_line(device) for device in detail.devices],
        "trail": [trail_line(entry) for entry in detail.trail],
    }


def device_line(device: Device) -> Record:
    return {
        "id": device.id,
        "fingerprint": device.fingerprint,
        "name": device.name,
        "state": device.state,
        "generation": device.generation,
        "approved": device.approved,
        "lastContactAt": device.last_contact_at,
        "leaseExpiresAt": device.lease_expires_at,
        "endedAt": device.ended_at,
        "endedReason": device.ended_reason,
    }


def trail_line(entry: TrailEntry) -> Record:
    return {
        "version": entry.version,
        "at": entry.at,
        "actor": entry.actor,
        "event": entry.event,
        "deviceId": entry.device_id,
        "generation": entry.generation,
        "reason": entry.reason,
        "seatsUsed": entry.seats_used,
        "seats": entry.seats_limit,
        "seatsAllowed": entry.seats_allowed,
    }

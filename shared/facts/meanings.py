"""What each kind of fact, and each member of one, means: words for docs/facts.md. A test sees that none is missing."""

from shared.licensing.model import EventKind

EVENTS = {
    EventKind.LICENSE_CREATED: "A license was granted. Always version 1.",
    EventKind.LICENSE_SUSPENDED: "Its devices are refused until it is reinstated; their seats stay taken.",
    EventKind.LICENSE_REINSTATED: "It serves again.",
    EventKind.LICENSE_REVOKED: "It serves no more.",
    EventKind.LICENSE_RESIZED: "Its number of seats was changed.",
    EventKind.DEVICE_PENDING: "A device asked and waits for an approval; it holds no seat.",
    EventKind.DEVICE_APPROVED: "A device may activate from now on.",
    EventKind.DEVICE_ACTIVATED: "A device took a seat.",
    EventKind.DEVICE_RELEASED: "A device's seat was freed; `reason` says why.",
    EventKind.DEVICE_BLOCKED: "A device may not activate any more; a seat that it held is free.",
    EventKind.DEVICE_UNBLOCKED: "A device may ask again.",
    EventKind.DEVICE_RESET: "A device's seat was given back to clear its state.",
    EventKind.DEVICE_RESUMED: "A floating device that was silent past its lease took a seat again.",
    EventKind.DEVICE_HELD_OFFLINE: "A device got an offline file, and holds its seat until `offlineUntil`.",
    EventKind.DEVICE_RENEWED: "A device gave its offline file back and kept its seat, under a new generation.",
    EventKind.CLONE_SUSPECTED: "A device's count of its heartbeats went back: two machines may use one activation.",
    EventKind.LEASE_EXPIRING: "A silent device's lease is about to end.",
}
"""What each kind of fact tells."""

MEMBERS = {
    "schema": "The version of this document that the fact was written by.",
    "type": "What happened: one of the events above, or one that this release does not know.",
    "accountId": "The vendor.",
    "licenseId": "The license that changed.",
    "version": "Rises by one with each fact of the license: its order, and with the license its identity.",
    "at": "When it was committed, by the database's clock.",
    "status": "The license's status.",
    "seatsLimit": "The seats it grants.",
    "seatsAllowed": "The seats that may be taken: more than the limit after a resize below what is in use.",
    "seatsUsed": "The seats that are taken.",
    "devicesPending": "The devices that wait for an approval.",
    "expiresAt": "When the license ends; null for never.",
    "terms": "What its policy grants.",
    "reason": "Why a seat ended; null where none did.",
    "device": "The device that it is about, as it is now; null where it is about the license alone.",
}
"""What each member of a fact means. All are the state after the change."""

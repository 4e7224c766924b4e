"""The reasons for which a request is refused: one word for code, API, metrics and documents.

What a code means over HTTP (status, title, whether a retry helps) is said in `shared.web.problems` alone.
"""

from enum import StrEnum


class Code(StrEnum):
    """A refusal that a client can act on. The values are part of the public API and never change."""

    # Credentials
    LICENSE_KEY_INVALID = "LICENSE_KEY_INVALID"
    TOKEN_INVALID = "TOKEN_INVALID"
    TOKEN_EXPIRED = "TOKEN_EXPIRED"
    TOKEN_EXHAUSTED = "TOKEN_EXHAUSTED"
    TOKEN_REVOKED = "TOKEN_REVOKED"
    # The request itself
    REQUEST_INVALID = "REQUEST_INVALID"
    REQUEST_TOO_LARGE = "REQUEST_TOO_LARGE"
    NOT_FOUND = "NOT_FOUND"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    TIMESTAMP_SKEWED = "TIMESTAMP_SKEWED"
    REPLAYED = "REPLAYED"
    # The license
    LICENSE_SUSPENDED = "LICENSE_SUSPENDED"
    LICENSE_EXPIRED = "LICENSE_EXPIRED"
    LICENSE_REVOKED = "LICENSE_REVOKED"
    # The device
    DEVICE_LIMIT_EXCEEDED = "DEVICE_LIMIT_EXCEEDED"
    DEVICE_NOT_ALLOWED = "DEVICE_NOT_ALLOWED"
    DEVICE_BLOCKED = "DEVICE_BLOCKED"
    DEVICE_NOT_FOUND = "DEVICE_NOT_FOUND"
    LEASE_LOST = "LEASE_LOST"
    # The server
    OVERLOADED = "OVERLOADED"
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
    INTERNAL = "INTERNAL"

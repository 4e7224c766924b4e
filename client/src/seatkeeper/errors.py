"""What can go wrong, by whose word it did: the server's (`Refused`), nobody's (`Unreachable`), ours (the others).

Rules: every text says what to do next, and none holds a key, a token or an address of a person. A refusal is the
server's decision and stands until something changes; being out of reach is never a refusal.
"""

from collections.abc import Mapping
from typing import Any


class SeatkeeperError(Exception):
    """The root of all that this package raises on purpose."""


class Refused(SeatkeeperError):  # noqa: N818 - the word of the API
    """The server said no. `str()` is the server's advice in the user's language.

    `code` is one of the API's codes, such as `DEVICE_LIMIT_EXCEEDED`; `members` holds the rest of the problem document
    as it came: `limit`, `used`, `until`, `reason`, `holders`, `serverTime` …, where they apply.
    """

    def __init__(
        self,
        code: str,
        *,
        status: int,
        title: str = "",
        detail: str = "",
        retryable: bool = False,
        retry_after_s: float | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail or title or code)
        self.code = code
        self.status = status
        self.title = title
        self.detail = detail
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.members = dict(members or {})


class Unreachable(SeatkeeperError):  # noqa: N818 - the word of the API
    """No answer that can be believed, after all retries; the outcome of the last try may be unknown.

    `attempts` were made; `__cause__` is the last failure: a `TransportError`, or the `Refused` that was retryable.
    """

    def __init__(self, message: str, *, attempts: int) -> None:
        super().__init__(message)
        self.attempts = attempts


class TransportError(SeatkeeperError):
    """One try brought no answer: a name that does not resolve, a connection that is refused, reset or silent.

    `kind` is one of `dns`, `connect`, `tls`, `proxy`, `timeout`, `reset`, `malformed`. `sent` is False only where it is
    certain that nothing of the request reached the server.
    """

    def __init__(self, message: str, *, kind: str, sent: bool = True) -> None:
        super().__init__(message)
        self.kind = kind
        self.sent = sent


class NotGenuine(SeatkeeperError):  # noqa: N818 - the word of the documents
    """What came proves nothing here: a lease, a file or an answer that the pinned root does not stand behind."""


class EntitlementMissing(SeatkeeperError):  # noqa: N818 - the word of the API
    """`require` was asked for a feature that the license does not cover, or while no license is in force."""


class ConfigurationError(SeatkeeperError):
    """What was given cannot be used; the text says which setting, and what to write there."""

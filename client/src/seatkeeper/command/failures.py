"""How a run ends that did not succeed: its exit code, one text that says what to do, and the same as JSON.

| code | |
| --- | --- |
| 0 | done |
| 1 | failed unexpectedly, or was not confirmed |
| 2 | wrong usage or configuration |
| 3 | refused by the server |
| 4 | the server is out of reach |
| 5 | Limited, or not activated |
| 6 | `doctor` found something wrong |
| 7 | a proof does not hold: a lease, a license file, a receipt |
| 130 | interrupted |
"""

from collections.abc import Mapping
from enum import IntEnum

import msgspec

from seatkeeper.errors import (
    ConfigurationError,
    EntitlementMissing,
    NotGenuine,
    Refused,
    SeatkeeperError,
    TransportError,
    Unreachable,
)
from seatkeeper.system_words import system_words
from seatkeeper.telling import sentence
from seatkeeper.texts import TABLES, text


class ExitCode(IntEnum):
    DONE = 0
    FAILED = 1
    MISUSED = 2
    REFUSED = 3
    UNREACHABLE = 4
    NOT_ACTIVE = 5
    UNSOUND = 6
    NOT_GENUINE = 7
    INTERRUPTED = 130


class CommandError(SeatkeeperError):
    """The command cannot be done; `key` names the text that says why."""

    def __init__(self, key: str, code: ExitCode = ExitCode.FAILED, **values: object) -> None:
        super().__init__(key)
        self.key = key
        self.code = code
        self.values = values


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    exit_code: ExitCode
    code: str
    detail: str
    members: Mapping[str, object] = {}

    def document(self) -> dict[str, object]:
        said = {name: value for name, value in self.members.items() if name in _SHOWN}
        return {"error": {"code": self.code, "detail": self.detail, "exitCode": int(self.exit_code), **said}}


_SHOWN = ("limit", "used", "until", "reason", "retryAfter", "serverTime", "holders", "id")


def failure_of(error: BaseException, language: str) -> Failure:
    """What to say of an error, in the user's language where that is known."""
    match error:
        case CommandError():
            return _failure(error.code, error.code.name, text(error.key, language, **error.values))
        case Refused():
            return _failure(ExitCode.REFUSED, error.code, _refused(error, language), error.members)
        case Unreachable():
            cause = error.__cause__ if isinstance(error.__cause__, TransportError | Refused) else error
            return _unreachable(cause, language)
        case TransportError():
            return _unreachable(error, language)
        case NotGenuine():
            return _failure(ExitCode.NOT_GENUINE, "NOT_GENUINE", sentence(error, language))
        case ConfigurationError():
            code = getattr(error, "code", "CONFIGURATION")
            return _failure(ExitCode.MISUSED, code, sentence(error, language))
        case EntitlementMissing():
            return _failure(ExitCode.REFUSED, "ENTITLEMENT_MISSING", sentence(error, language))
        case KeyboardInterrupt():
            return _failure(ExitCode.INTERRUPTED, "INTERRUPTED", text("failure.interrupted", language))
        case OSError(filename=str() as file):
            said = text("failure.file", language, file=file, why=system_words(error))
            return _failure(ExitCode.FAILED, "FILE", said)
    what = f"{type(error).__name__}: {error}"
    return _failure(ExitCode.FAILED, "FAILED", text("failure.unexpected", language, what=what))


def _failure(exit_code: ExitCode, code: str, detail: str, members: Mapping[str, object] | None = None) -> Failure:
    return Failure(exit_code=exit_code, code=code, detail=detail, members=members or {})


def _unreachable(error: SeatkeeperError, language: str) -> Failure:
    why = sentence(error, language).rstrip(".。")
    return _failure(ExitCode.UNREACHABLE, "UNREACHABLE", text("failure.unreachable", language, why=why))


def taken(used: object, limit: object, language: str) -> str:
    """How many seats are taken, where that is known."""
    known = used is not None and limit is not None
    return text("failure.counts", language, used=used, limit=limit) if known else ""


def _refused(error: Refused, language: str) -> str:
    """The server's own advice, and where there is more to say for this command, that."""
    counts = taken(error.members.get("used"), error.members.get("limit"), language)
    if until := error.members.get("until"):
        counts += text("failure.until", language, until=until)
    advice = text(f"next.{error.code}", language) if f"next.{error.code}" in TABLES["en"] else ""
    return " ".join(part for part in (f"{error} ({error.code})", counts, advice) if part)

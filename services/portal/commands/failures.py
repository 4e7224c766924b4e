"""What went wrong, as one line that says what to do. No line holds a secret.

The database's own refusals are known by their SQLSTATE, since its driver lives in `shared.ledger`.
"""

from shared.batching import OverloadedError
from shared.ledger.catalog import CatalogError
from shared.ledger.connections import UnavailableError
from shared.ledger.ledger import LicenseNotFoundError, OutcomeUnknownError
from shared.ledger.migrate import MigrationError
from shared.licensing.codes import Code
from shared.runtime.redaction import redact_text
from shared.signing.keyring import BrokenSealError


class CommandError(Exception):
    """The command cannot be done; the text is the line to print."""


_OWN_WORDS = (CommandError, CatalogError, MigrationError)

_SAID: dict[type[Exception], str] = {
    UnavailableError: "Postgres is out of reach: see that it runs and that SEATKEEPER_POSTGRES_DSN leads to it",
    OutcomeUnknownError: "Postgres went away at the commit: the change was made or not; running this again is safe",
    OverloadedError: "Postgres is too slow just now and nothing was changed: try again",
    LicenseNotFoundError: "no such license in this account: `license list` shows those there are",
}

_REFUSED: dict[Code, str] = {
    Code.LICENSE_REVOKED: "the license is revoked for good: create another one",
    Code.DEVICE_NOT_FOUND: "no such device under this license: `device list` shows those there are",
    Code.DEVICE_BLOCKED: "the device is blocked: `device unblock` it first",
    Code.OFFLINE_HELD: "an offline file for the device lives: `device release --force` frees its seat all the same",
}

_BY_SQLSTATE = {
    "28": "see that the DSN has the right user and password, and that `migrate` has made the roles",
    "3D": "create the database, or name the right one in the DSN",
    "42501": "connect as seatkeeper_operator, and for `migrate` as the schema's owner, who needs CREATEROLE",
    "42P01": "run `migrate` first",
}


def line_of(error: Exception) -> str:
    """What to print on stderr for any failure of a command."""
    return one_line(_text(error))


def one_line(text: str) -> str:
    return redact_text(" ".join(text.split()))


def refusal(code: Code) -> CommandError:
    """The failure for what the ledger refused."""
    return CommandError(_REFUSED.get(code, f"refused: {code}"))


def _text(error: Exception) -> str:
    if isinstance(error, _OWN_WORDS):
        return str(error)
    if isinstance(error, UnavailableError) and (line := _refused_entry(error.__cause__)) is not None:
        return line
    if type(error) in _SAID:
        return _SAID[type(error)]
    if isinstance(error, BrokenSealError):
        return f"{error}: set SEATKEEPER_SECRETS_KEYS to this installation's master secrets"
    if sqlstate := getattr(error, "sqlstate", None):
        return f"the database refuses: {error}{_advice(str(sqlstate))}"
    return f"this failed unexpectedly ({type(error).__name__}: {error}); log.level=debug shows where"


def _refused_entry(cause: BaseException | None) -> str | None:
    """A wrong user, password or database is no outage to whoever can mend the DSN."""
    sqlstate = str(getattr(cause, "sqlstate", None))
    return f"the database refuses: {cause}{_advice(sqlstate)}" if sqlstate[:2] in ("28", "3D") else None


def _advice(sqlstate: str) -> str:
    advice = _BY_SQLSTATE.get(sqlstate) or _BY_SQLSTATE.get(sqlstate[:2])
    return f": {advice}" if advice else ""

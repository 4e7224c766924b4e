"""Arguments and options that several commands share, and how their texts are read."""

import sys
from collections.abc import Callable
from typing import Annotated, Any, TypeVar
from uuid import UUID

import typer

from services.portal.commands.failures import CommandError
from services.portal.durations import duration_s, expiry
from shared.licensing.vendor_rules import MAX_SEATS

Value = TypeVar("Value")


def _read_by(read: Callable[[str], Value]) -> Callable[[str | Value], Value]:
    """A parser for typer, which shows the text of a BadParameter but not that of a ValueError, and parses defaults."""

    def parse(given: str | Value) -> Value:
        try:
            return read(given) if isinstance(given, str) else given
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None

    return parse


AccountId = Annotated[UUID, typer.Argument(metavar="ACCOUNT", help="The account's id; `account list` shows it.")]
LicenseId = Annotated[UUID, typer.Argument(metavar="LICENSE_ID", help="The license's id; `license list` shows it.")]
DeviceId = Annotated[UUID, typer.Argument(metavar="DEVICE_ID", help="The device's id; `device list` shows it.")]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")]
After = Annotated[UUID, typer.Option(metavar="ID", help="Only those after this id.", show_default=False)]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask on a terminal.")]


def duration(help: str, *names: str, default: str = "") -> Any:
    """An option such as `90d`, as whole seconds. `default` says in words what the parameter's default is."""
    return typer.Option(
        *names, parser=_read_by(duration_s), metavar="DURATION", help=help, show_default=default or False
    )


def moment(help: str) -> Any:
    """An option such as `2027-01-31`, as a time in UTC."""
    return typer.Option(parser=_read_by(expiry), metavar="DATE", help=help, show_default=False)


def seats_option(help: str) -> Any:
    return typer.Option(min=0, max=MAX_SEATS, help=help, show_default=False)


def confirm(question: str, *, yes: bool) -> None:
    """Ask whoever sits at a terminal; a script means what it says."""
    if not yes and sys.stdin.isatty() and not typer.confirm(question, err=True):
        raise CommandError("nothing was changed")


def example(line: str) -> str:
    """The end of a command's help; the backspace keeps the line whole."""
    return f"\b\nExample:\n  python -m services.portal.admin {line}"

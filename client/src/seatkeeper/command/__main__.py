"""`seatkeeper VERB …`: a license from a shell. `seatkeeper.command.failures` lists the exit codes."""

import os
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Annotated

import typer

from seatkeeper.command import activation, configuration, devices, offline
from seatkeeper.command.bundle import bundle
from seatkeeper.command.doctor import doctor
from seatkeeper.command.failures import ExitCode, Failure, failure_of
from seatkeeper.command.languages import language_of_line, translated
from seatkeeper.command.output import can_print, document, printable, speak_as_streams_can
from seatkeeper.command.reset import reset
from seatkeeper.command.session import verb
from seatkeeper.command.status import status
from seatkeeper.command.validation import validate
from seatkeeper.texts import text

PROG = "seatkeeper"

app = typer.Typer(pretty_exceptions_enable=False)
app.command("activate", help="verb.activate")(verb(activation.activate))
app.command("status", help="verb.status")(verb(status))
app.command("heartbeat", help="verb.heartbeat")(verb(activation.heartbeat))
app.command("validate", help="verb.validate")(verb(validate))
app.command("deactivate", help="verb.deactivate")(verb(activation.deactivate))
app.add_typer(devices.app, name="devices", help="verb.devices")
app.add_typer(offline.app, name="offline", help="verb.offline")
app.command("reset", help="verb.reset")(verb(reset))
app.command("doctor", help="verb.doctor")(doctor)
app.command("bundle", help="verb.bundle")(bundle)
app.add_typer(configuration.app, name="config", help="verb.config")


@app.callback(help="verb.seatkeeper", epilog="epilog.seatkeeper", invoke_without_command=True)
def begin(
    ctx: typer.Context,
    language: Annotated[str | None, typer.Option(metavar="en|zh", help="option.language")] = None,
    version: Annotated[bool, typer.Option("--version", help="option.version")] = False,
) -> None:
    """All else is said by the verbs."""
    if version:
        print(f"{PROG} {_version()}")
    elif ctx.invoked_subcommand is None:
        print(ctx.get_help())


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the process's exit code."""
    speak_as_streams_can()
    line = sys.argv[1:] if argv is None else list(argv)
    as_json = "--json" in line
    language = language_of_line(line, os.environ)
    if not as_json and not can_print(language):
        language = "en"
    command = translated(typer.main.get_command(app), language)
    try:
        return int(command.main(line, prog_name=PROG, standalone_mode=False, obj=language) or 0)
    except typer.TyperException as error:
        failure = _misused(error, language)
    except typer.Abort:
        failure = failure_of(KeyboardInterrupt(), language)
    except (Exception, KeyboardInterrupt) as error:
        failure = failure_of(error, language)
    _tell(failure, as_json=as_json)
    return failure.exit_code


def _misused(error: typer.TyperException, language: str) -> Failure:
    """The parser's own words, which are English, and where the right ones stand."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else PROG
    what = error.format_message().rstrip(".") + "."
    said = text("failure.usage", language, what=what, command=command)
    return Failure(exit_code=ExitCode.MISUSED, code="USAGE", detail=said)


def _version() -> str:
    try:
        return metadata.version(PROG)
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _tell(failure: Failure, *, as_json: bool) -> None:
    if as_json:
        print(document(failure.document(), indent=2))
    for said in failure.detail.splitlines():
        print(printable(f"{PROG}: {said}"), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())

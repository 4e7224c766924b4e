"""`python -m services.portal.admin NOUN VERB …`: what a vendor's operator does from a shell.

It ends with 0 when done, 1 when it cannot be done (one line on stderr says why and what to do), and 2 when the
command line or the settings are at fault. `--config` and `--json` may stand anywhere on the line.
"""

import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated

import structlog
import typer

from services.portal.commands import (
    account,
    audit,
    broker,
    device,
    license,
    management_token,
    master_secret,
    policy,
    product,
    reaper,
    token,
)
from services.portal.commands.arguments import example
from services.portal.commands.failures import line_of, one_line
from services.portal.commands.output import note
from services.portal.commands.reconcile import reconcile_licenses
from services.portal.commands.schema import migrate_database
from services.portal.commands.session import PROG, Session, quiet
from shared.runtime.sections import Log

EXIT_FAILED = 1
EXIT_MISUSED = 2

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
app.add_typer(master_secret.app, name="secrets")
app.command("migrate", epilog=example("migrate --check"))(migrate_database)
app.command("reconcile", epilog=example("reconcile --dry-run"))(reconcile_licenses)
app.add_typer(account.app, name="account")
app.add_typer(product.app, name="product")
app.add_typer(policy.app, name="policy")
app.add_typer(license.app, name="license")
app.add_typer(device.app, name="device")
app.add_typer(token.app, name="token")
app.add_typer(management_token.app, name="management-token")
app.add_typer(reaper.app, name="reaper")
app.add_typer(audit.app, name="audit")
app.command("restored", epilog=example("restored --for 90d"))(reaper.restored)
app.add_typer(broker.facts, name="facts")
app.add_typer(broker.letters, name="dead-letters")


@app.callback(epilog=example("account list --config seatkeeper.toml --json"))
def begin(
    ctx: typer.Context,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Settings in TOML or YAML.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Seatkeeper's administration: accounts, products, policies, licenses, devices, tokens and the database."""
    ctx.obj = Session(config=config, as_json=json)


def main(argv: Sequence[str]) -> int:
    """Run one command; returns the process's exit code."""
    quiet(Log())
    try:
        return int(app(global_first(argv), prog_name=f"python -m {PROG}", standalone_mode=False) or 0)
    except typer.TyperException as error:
        note(f"{PROG}: {one_line(error.format_message())} (--help tells more)")
        return EXIT_MISUSED
    except typer.Abort:
        note(f"{PROG}: nothing was changed")
    except Exception as error:
        note(f"{PROG}: {line_of(error)}")
        structlog.get_logger().debug("admin.failed", exc_info=error)
    return EXIT_FAILED


def global_first(argv: Sequence[str]) -> list[str]:
    """The arguments with the global options moved to the front, where the parser wants them."""
    words = iter(argv)
    front: list[str] = []
    rest: list[str] = []
    for word in words:
        if word == "--":
            rest += [word, *words]
        elif word == "--json" or word.startswith("--config="):
            front.append(word)
        elif word == "--config":
            front += [word, *islice(words, 1)]
        else:
            rest.append(word)
    return front + rest


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

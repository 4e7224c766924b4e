"""`audit`: whether the trail is what it was when it was sealed."""

import re
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from services.portal.commands.arguments import example
from services.portal.commands.output import Record, note
from services.portal.commands.session import Portal, run, tell
from shared.ledger.verifying import LISTED, Report
from shared.ledger.verifying import verify as compare

app = typer.Typer(help="The trail of all accounts, which is sealed as it is written.")

_HEAD = re.compile(r"(\d{1,18}):([0-9a-f]{64})")

WHAT_TO_DO = (
    "the trail is not what it was: keep this output and a copy of the database before anything is mended; "
    'docs/operating.md, "The trail, sealed", says what each fault means'
)


@app.command(
    epilog=example("audit verify --head 4711:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")
)
def verify(
    ctx: typer.Context,
    head: Annotated[
        str,
        typer.Option(
            metavar="SEAL:HASH",
            help="A head printed or logged before; without it a trail that was cut off at its end may go unnoticed.",
        ),
    ] = "",
) -> None:
    """Compare the whole trail with its seals, its licenses and the outbox; exit 1 if anything is wrong.

    It finds rows that were changed, deleted, added or put elsewhere, seals that were changed or made without the master
    secret, and a trail that was cut. It prints the head: keep it where nobody who writes the database can reach it.
    """
    seen = _seen(head) if head else None

    async def work(portal: Portal) -> Report:
        with _progress() as progress:
            bar = progress.add_task("rows", total=None)
            return await compare(
                portal.resources.pool,
                portal.resources.trail_stamp,
                seen=seen,
                progress=lambda done, of: progress.update(bar, completed=done, total=of),
            )

    report = run(ctx, work)
    tell(ctx, _shown(report))
    if report.findings:
        more = sum(report.counts.values()) - len(report.findings)
        note(WHAT_TO_DO if not more else f"{WHAT_TO_DO}. {more} more are not listed: {LISTED} of each kind are")
        raise typer.Exit(1)


def _seen(text: str) -> tuple[int, bytes]:
    found = _HEAD.fullmatch(text.strip())
    if found is None:
        raise typer.BadParameter("a head is the number of a seal, a colon and 64 hexadecimal digits")
    return int(found[1]), bytes.fromhex(found[2])


def _shown(report: Report) -> Record:
    return {
        "head": report.head.head if report.head else None,
        "seals": report.seals,
        "rows": report.rows,
        "unsealed": report.unsealed,
        "licenses": report.licenses,
        "monthsDropped": tuple(f"{month:%Y-%m}" for month in report.dropped),
        "faults": [{"fault": one.fault, "seal": one.seal, "text": one.text} for one in report.findings],
    }


def _progress() -> Progress:
    """On a terminal, on stderr, and gone when it is done."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())

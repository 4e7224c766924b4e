"""`reconcile`: Redis compared with Postgres now, every license, as fast as both answer."""

import asyncio
import sys
from contextlib import suppress
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from services.portal.commands.failures import CommandError
from services.portal.commands.session import Portal, run, tell
from shared.ledger.reconciling import count
from shared.runtime.reconciliation import Found, Round
from shared.seats.drift import Kind
from shared.seats.inspection import AwayError, Inspection

AWAY = "Redis is out of reach: see that it runs and that SEATKEEPER_REDIS_URL leads to it, and run this again"
PATIENCE_S = 5


def reconcile_licenses(
    ctx: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only look; change nothing.")] = False,
) -> None:
    """Compare what Redis holds of each license with Postgres, and put right what differs.

    A difference counts when it is still there after five seconds. The heartbeat service does the same all the time,
    slowly; what Redis does not know at all is no difference: it is filled in when it is asked for.
    """
    found = run(ctx, lambda portal: _whole_round(portal, repair=not dry_run))
    tell(
        ctx,
        {
            "licenses": found.looked_at,
            "missing": found.missing,
            "drifted": {kind.value: found.drifted[kind] for kind in Kind},
            "repaired": found.repaired,
            "outdatedKeys": found.outdated,
        },
    )


async def _whole_round(portal: Portal, *, repair: bool) -> Found:
    r = portal.resources
    round = Round(r.pool, Inspection(r.redis, lambda: r.clock.epoch), r.projection, repair=repair)
    total = Found()
    with _progress() as progress:
        bar = progress.add_task("licenses", total=await count(r.pool))
        while (found := await _step(round)) is not None:
            total.add(found)
            progress.update(bar, completed=total.looked_at)
    return total


async def _step(round: Round) -> Found | None:
    """The next step; a Redis that is away for a moment is waited for."""
    for _ in range(PATIENCE_S):
        with suppress(AwayError):
            return await round.step()
        await asyncio.sleep(1)
    raise CommandError(AWAY)


def _progress() -> Progress:
    """On a terminal, on stderr, and gone when it is done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())

"""`reaper` and `restored`: whether leases of a day or more are freed, and what has to be done for it to go on.

Leases under a day are freed in any case.
"""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import typer

from services.portal.commands.arguments import Yes, confirm, duration, example
from services.portal.commands.failures import CommandError
from services.portal.commands.output import Record, note
from services.portal.commands.session import Portal, run, tell
from services.portal.durations import expiry, written
from shared.ledger import halts
from shared.ledger.contact_counts import last_contacts
from shared.ledger.halts import ALL, Standing
from shared.ledger.reaping import ended
from shared.licensing.leases import DAY_S

app = typer.Typer(help="Whether leases of a day or more are freed.")

HOLD_S = 90 * DAY_S
NOW = "now"


@app.command(epilog=example("reaper status --json"))
def status(ctx: typer.Context) -> None:
    """Whether the reaper is halted or held, and the figures that it judges by."""
    tell(ctx, run(ctx, _status))


@app.command(epilog=example("reaper resume --account 0190aaaa-0000-7000-8000-000000000001"))
def resume(
    ctx: typer.Context,
    account: Annotated[UUID | None, typer.Option(metavar="ACCOUNT", help="End the halt of this account alone.")] = None,
    yes: Yes = False,
) -> None:
    """End a halt. The breaker that had tripped does not trip again for a day."""
    confirm("See `reaper status` first. Free the leases that are past their end again?", yes=yes)

    async def work(portal: Portal) -> bool:
        return await halts.resume(portal.resources.pool, account or ALL)

    tell(ctx, {"resumed": run(ctx, work), "account": account or "all"})


@app.command(epilog=example("reaper hold --until 2027-01-31"))
def hold(
    ctx: typer.Context,
    until: Annotated[
        str, typer.Option(metavar="DATE", help=f"2027-01-31 or 2027-01-31T12:00:00Z; `{NOW}` lifts a hold.")
    ],
) -> None:
    """End no lease of a day or more before a date."""
    not_before = None if until == NOW else _moment(until)

    async def work(portal: Portal) -> None:
        await halts.hold(portal.resources.pool, not_before)

    run(ctx, work)
    tell(ctx, {"notBefore": not_before})


def restored(
    ctx: typer.Context,
    hold_s: Annotated[int, duration("How long no lease of a day or more ends.", "--for", default="90d")] = HOLD_S,
    yes: Yes = False,
) -> None:
    """After a restore of Postgres and before services start: hold the reaper, and let nothing in Redis count."""
    confirm("Was Postgres restored from a backup? Everything in Redis will count as missing.", yes=yes)

    async def work(portal: Portal) -> tuple[datetime, int]:
        return await halts.begin_after_restore(portal.resources.pool, hold_s=hold_s)

    not_before, longest_lease_s = run(ctx, work)
    if longest_lease_s > hold_s:
        note(f"a policy has leases of {written(longest_lease_s)}: with --for {written(longest_lease_s)} all are safe")
    tell(ctx, {"notBefore": not_before})


async def _status(portal: Portal) -> Record:
    pool = portal.resources.pool
    look, found, last = await halts.look(pool), await ended(pool), await last_contacts(pool)
    return {
        "halted": look.all.halted,
        **_halt(look.all),
        "notBefore": look.all.not_before,
        "contactsLastHour": look.contacts,
        "contactsWeekBefore": look.contacts_week_before,
        "lastHourWithContacts": last and last[0],
        "shortLeasesEnded": found.short,
        "longLeasesEnded": found.long,
        "due": found.due,
        "accountsHalted": [{"account": account, **_halt(one)} for account, one in look.halted_accounts.items()],
    }


def _halt(standing: Standing) -> Record:
    return {"cause": standing.cause, "detail": standing.detail, "since": standing.halted_at}


def _moment(text: str) -> datetime:
    try:
        return expiry(text)
    except ValueError as error:
        raise CommandError(str(error)) from None

"""`license`: what customers hold. The ledger alone changes it, and each change stands in its trail."""

import getpass
import sys
from datetime import datetime
from typing import Annotated

import typer

from services.portal.commands.arguments import (
    AccountId,
    After,
    LicenseId,
    Limit,
    Yes,
    confirm,
    example,
    moment,
    seats_option,
)
from services.portal.commands.changes import change_license
from services.portal.commands.output import note
from services.portal.commands.session import run, tell, tell_page
from services.portal.commands.views import license_detail, license_line, trail_line
from shared.ledger.catalog import FIRST
from shared.licensing.license_key import LONGEST
from shared.licensing.model import Reinstate, Revoke, Suspend
from shared.licensing.vendor_rules import MAX_SEATS

app = typer.Typer(help="What customers hold: granted under a policy, with a secret key.")

_KEY_HELP = "A key issued elsewhere, at least 16 characters; `-` reads it from stdin and so keeps it out of histories."


@app.command(epilog=example("license create ACCOUNT Studio --seats 5 --expires 2027-01-31 --customer 'Ada Ltd'"))
def create(
    ctx: typer.Context,
    account: AccountId,
    policy: Annotated[str, typer.Argument(metavar="POLICY", help="The policy's name.")],
    seats: Annotated[int | None, seats_option("How many seats, if not the policy's number.")] = None,
    expires: Annotated[
        datetime | None, moment("Its end: a day, which counts in full (UTC), or an RFC 3339 time.")
    ] = None,
    customer: Annotated[str, typer.Option(help="Whose license it is, for lists.", show_default=False)] = "",
    key: Annotated[str | None, typer.Option(help=_KEY_HELP, show_default=False)] = None,
) -> None:
    """Grant a license; prints its id and its new key, which cannot be shown again."""
    imported = _from_stdin() if key == "-" else key
    made = run(
        ctx,
        lambda portal: portal.licenses.create(
            account, policy=policy, seats=seats, expires_at=expires, customer=customer, imported_key=imported
        ),
        account=account,
    )
    shown = {"licenseKey": made.key} if imported is None else {}
    tell(ctx, {"id": made.id, **shown, "policy": policy, "customer": customer, "expiresAt": expires})


@app.command("list", epilog=example("license list ACCOUNT"))
def list_licenses(ctx: typer.Context, account: AccountId, limit: Limit = 100, after: After = FIRST) -> None:
    """The account's licenses, oldest first; of a key only its beginning is known."""
    found = run(ctx, lambda portal: portal.lookups.licenses(account, limit=limit + 1, after=after), account=account)
    tell_page(ctx, [license_line(row) for row in found], limit=limit, cursor="id")


@app.command("show", epilog=example("license show ACCOUNT LICENSE_ID"))
def show_license(ctx: typer.Context, account: AccountId, license_id: LicenseId) -> None:
    """How a license stands: its terms and counts, its devices (up to 100), the newest 20 entries of its trail."""
    detail = run(ctx, lambda portal: portal.lookups.license((account, license_id)), account=account)
    tell(ctx, license_detail(detail))


@app.command(epilog=example("license suspend ACCOUNT LICENSE_ID"))
def suspend(ctx: typer.Context, account: AccountId, license_id: LicenseId) -> None:
    """Refuse its devices until it is reinstated; they keep their seats."""
    change_license(ctx, account, license_id, lambda licenses, ref: licenses.set_status(ref, Suspend))


@app.command(epilog=example("license reinstate ACCOUNT LICENSE_ID"))
def reinstate(ctx: typer.Context, account: AccountId, license_id: LicenseId) -> None:
    """End a suspension."""
    change_license(ctx, account, license_id, lambda licenses, ref: licenses.set_status(ref, Reinstate))


@app.command(epilog=example("license revoke ACCOUNT LICENSE_ID --yes"))
def revoke(ctx: typer.Context, account: AccountId, license_id: LicenseId, yes: Yes = False) -> None:
    """End a license for good. Asks first on a terminal."""
    confirm(f"Revoke license {license_id}? That cannot be undone.", yes=yes)
    change_license(ctx, account, license_id, lambda licenses, ref: licenses.set_status(ref, Revoke))


@app.command(epilog=example("license resize ACCOUNT LICENSE_ID 10"))
def resize(
    ctx: typer.Context,
    account: AccountId,
    license_id: LicenseId,
    seats: Annotated[
        int, typer.Argument(metavar="SEATS", min=0, max=MAX_SEATS, help="The number of seats from now on.")
    ],
) -> None:
    """Set the number of seats. Below what is in use, devices keep their seats and freed ones are not given again."""
    change_license(ctx, account, license_id, lambda licenses, ref: licenses.resize(ref, seats))


@app.command(epilog=example("license trail ACCOUNT LICENSE_ID --after 100"))
def trail(
    ctx: typer.Context,
    account: AccountId,
    license_id: LicenseId,
    limit: Limit = 100,
    after: Annotated[int, typer.Option(min=0, help="Only entries after this version.", show_default=False)] = 0,
) -> None:
    """Every change the license has seen, oldest first: when, by whom, why, and the seats after it.

    What is past the trail's retention is gone; then this says from which version it is kept.
    """
    found = run(
        ctx,
        lambda portal: portal.lookups.trail((account, license_id), limit=limit + 1, after_version=after),
        account=account,
    )
    if found.kept_from > after + 1:
        note(f"the trail is kept from version {found.kept_from}: what came before is past its retention")
    tell_page(ctx, [trail_line(entry) for entry in found.entries], limit=limit, cursor="version")


def _from_stdin() -> str:
    """The key that is typed unseen, or piped in; more than a key could hold is enough to have it refused."""
    return getpass.getpass("License key: ") if sys.stdin.isatty() else sys.stdin.read(LONGEST * 2)

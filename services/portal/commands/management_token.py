"""`management-token`: bearer tokens for the management API."""

from typing import Annotated

import typer

from services.portal.accounts import SCOPES
from services.portal.commands.arguments import AccountId, duration, example
from services.portal.commands.session import run, tell
from shared.licensing.leases import DAY_S

app = typer.Typer(help="Bearer tokens for the management API.")

READING = tuple(scope for scope in SCOPES if scope.endswith(":read"))


@app.command(epilog=example("management-token create ACCOUNT crm --scope licenses:write --ttl 90d"))
def create(
    ctx: typer.Context,
    account: AccountId,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is for.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(help=f"What it may do; may be repeated. One of {', '.join(SCOPES)}; without any, only reading."),
    ] = None,
    ttl: Annotated[int, duration("How long it is good for.", default="365d")] = 365 * DAY_S,
) -> None:
    """Issue a token; it is printed now and cannot be shown again."""
    scopes = scope or list(READING)
    token = run(
        ctx,
        lambda portal: portal.accounts.add_management_token(account, name=name, scopes=scopes, ttl_s=ttl),
        account=account,
    )
    tell(ctx, {"name": name, "token": token, "scopes": tuple(scopes), "ttlS": ttl})

"""`account`: vendors, the tenants of this installation."""

from typing import Annotated

import typer

from services.portal.commands.arguments import AccountId, After, Limit, example
from services.portal.commands.session import run, tell, tell_page
from shared.ledger.catalog import FIRST

app = typer.Typer(help="Vendors, the tenants of this installation.")


@app.command(epilog=example("account create 'Acme Ltd'"))
def create(ctx: typer.Context, name: Annotated[str, typer.Argument(metavar="NAME", help="The vendor's name.")]) -> None:
    """Make an account with its signing keys; prints its id and the root key (a public JWK) that clients pin."""
    account = run(ctx, lambda portal: portal.accounts.create(name))
    tell(ctx, {"id": account.id, "name": name, "rootKey": account.root_key})


@app.command("root-key", epilog=example("account root-key ACCOUNT"))
def root_key(ctx: typer.Context, account: AccountId) -> None:
    """Print the root key again: as the JWK, and as the short text that clients take too."""
    key = run(ctx, lambda portal: portal.lookups.root_key(account), account=account)
    tell(ctx, {"id": account, "rootKey": key, "rootKeyText": key["x"]})


@app.command("list", epilog=example("account list --json"))
def list_accounts(ctx: typer.Context, limit: Limit = 100, after: After = FIRST) -> None:
    """The accounts there are, oldest first."""
    found = run(ctx, lambda portal: portal.lookups.accounts(limit=limit + 1, after=after))
    rows = [{"id": id, "name": name, "createdAt": created_at} for id, name, created_at in found]
    tell_page(ctx, rows, limit=limit, cursor="id")

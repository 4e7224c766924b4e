"""`product`: what an account sells."""

from typing import Annotated

import typer

from services.portal.commands.arguments import AccountId, example
from services.portal.commands.session import run, tell

app = typer.Typer(help="What an account sells.")


@app.command(epilog=example("product create ACCOUNT paint-pro 'Paint Pro'"))
def create(
    ctx: typer.Context,
    account: AccountId,
    code: Annotated[
        str, typer.Argument(metavar="CODE", help="A short name of a-z, 0-9, '.', '_' and '-'; leases carry it.")
    ],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name that people read.")],
) -> None:
    """Add a product."""
    id = run(ctx, lambda portal: portal.accounts.add_product(account, code=code, name=name), account=account)
    tell(ctx, {"id": id, "code": code, "name": name})

"""`token`: activation tokens, which stand in for a license key in an application's hands."""

from typing import Annotated
from uuid import UUID

import typer

from services.portal.commands.arguments import AccountId, LicenseId, duration, example
from services.portal.commands.session import run, tell
from shared.licensing.leases import DAY_S

app = typer.Typer(help="Activation tokens, which stand in for a license's key.")

MAX_USES = 2_000_000_000


@app.command(epilog=example("token create ACCOUNT LICENSE_ID --ttl 12h --uses 3"))
def create(
    ctx: typer.Context,
    account: AccountId,
    license_id: LicenseId,
    ttl: Annotated[int, duration("How long it is good for.", default="7d")] = 7 * DAY_S,
    uses: Annotated[int, typer.Option(min=1, max=MAX_USES, help="How many seats it may take.")] = 1,
) -> None:
    """Issue a token; it is printed now and cannot be shown again."""
    made = run(
        ctx,
        lambda portal: portal.licenses.add_token((account, license_id), ttl_s=ttl, max_uses=uses),
        account=account,
    )
    tell(ctx, {"id": made.id, "token": made.token, "uses": uses, "expiresAt": made.expires_at})


@app.command(epilog=example("token revoke ACCOUNT TOKEN_ID"))
def revoke(
    ctx: typer.Context,
    account: AccountId,
    token_id: Annotated[UUID, typer.Argument(metavar="TOKEN_ID", help="The id printed when it was created.")],
) -> None:
    """Withdraw a token. Seats taken with it stay."""
    run(ctx, lambda portal: portal.licenses.revoke_token(account, token_id), account=account)
    tell(ctx, {"id": token_id, "revoked": True})

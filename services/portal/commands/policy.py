"""`policy`: the rules under which licenses of a product are granted."""

from enum import StrEnum
from typing import Annotated

import typer

from services.portal.accounts import terms
from services.portal.commands.arguments import AccountId, duration, example, seats_option
from services.portal.commands.failures import CommandError
from services.portal.commands.session import run, tell
from shared.licensing.model import Approval, Kind

app = typer.Typer(help="The rules under which licenses are granted.")


class KindName(StrEnum):
    NODE_LOCKED = "node-locked"
    FLOATING = "floating"


class ApprovalName(StrEnum):
    AUTOMATIC = "automatic"
    ALLOW_LIST = "allow-list"


@app.command(epilog=example("policy create ACCOUNT paint-pro Studio --kind floating --seats 20 --lease 10m"))
def create(
    ctx: typer.Context,
    account: AccountId,
    product: Annotated[str, typer.Argument(metavar="PRODUCT", help="The product's code.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The policy's name, by which licenses are granted.")],
    kind: Annotated[KindName, typer.Option(help="Whether seats stay with devices or go from hand to hand.")],
    seats: Annotated[int, seats_option("How many devices a license may hold at a time.")],
    lease: Annotated[int | None, duration("How long a silent device keeps its seat: 90d; floating 10m.")] = None,
    offline_grace: Annotated[
        int | None, duration("How long a device may run out of reach: 7d; floating as the lease.")
    ] = None,
    heartbeat: Annotated[int | None, duration("How often devices report: 1h, or a third of the lease.")] = None,
    approval: Annotated[
        ApprovalName, typer.Option(help="Whether new devices wait until they are approved.")
    ] = ApprovalName.AUTOMATIC,
) -> None:
    """Add a policy for a product. DURATION is a number with s, m, h or d; a bare number is seconds."""
    if kind is KindName.FLOATING and offline_grace is not None:
        raise CommandError("a floating license's offline grace is its lease: leave out --offline-grace")
    rules = terms(
        kind=Kind[kind.name],
        product_code=product,
        lease_s=lease,
        offline_grace_s=offline_grace,
        heartbeat_interval_s=heartbeat,
        approval=Approval[approval.name],
    )
    id = run(
        ctx, lambda portal: portal.accounts.add_policy(account, name=name, seats=seats, terms=rules), account=account
    )
    tell(
        ctx,
        {
            "id": id,
            "name": name,
            "product": product,
            "kind": rules.kind,
            "seats": seats,
            "leaseS": rules.lease_s,
            "offlineGraceS": rules.offline_grace_s,
            "heartbeatIntervalS": rules.heartbeat_interval_s,
            "approval": rules.approval,
        },
    )

"""`policy`: the rules under which licenses of a product are granted."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

from services.portal.accounts import terms
from services.portal.commands.arguments import AccountId, duration, example, moment, seats_option
from services.portal.commands.failures import CommandError
from services.portal.commands.session import run, tell
from services.portal.commands.views import terms_lines
from shared.licensing.model import Approval, Kind, OfflineAlgorithm, OnClone, OnExpiry, Overage, Rules

app = typer.Typer(help="The rules under which licenses are granted.")


class KindName(StrEnum):
    NODE_LOCKED = "node-locked"
    FLOATING = "floating"


class ApprovalName(StrEnum):
    AUTOMATIC = "automatic"
    ALLOW_LIST = "allow-list"


class OverageName(StrEnum):
    NONE = "none"
    UNLIMITED = "unlimited"


class OnExpiryName(StrEnum):
    REFUSE_ALL = "refuse-all"
    REFUSE_NEW = "refuse-new"
    WARN = "warn"


class OfflineAlgorithmName(StrEnum):
    RSA = "rsa"
    ED25519 = "ed25519"


class OnCloneName(StrEnum):
    MARK = "mark"
    REFUSE = "refuse"


def _option(help: str) -> Any:
    return typer.Option(help=help, show_default=False)


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
    overage: Annotated[
        OverageName, typer.Option(help="Whether devices beyond the seats are refused, or served and marked.")
    ] = OverageName.NONE,
    expires: Annotated[datetime | None, moment("The day, or RFC 3339 time, on which its licenses end.")] = None,
    valid_for: Annotated[int | None, duration("How long a license lasts from its first activation.")] = None,
    on_expiry: Annotated[OnExpiryName, typer.Option(help="What the end of a license means.")] = OnExpiryName.REFUSE_ALL,
    trial: Annotated[bool, typer.Option("--trial", help="Its licenses are trials; they have to end.")] = False,
    min_version: Annotated[str | None, _option("The first application version that is served: 2.3.")] = None,
    max_version: Annotated[str | None, _option("The last one: 2 takes in every 2.x.")] = None,
    activations_per_hour: Annotated[int | None, _option("New seats of a license in an hour.")] = None,
    releases_per_year: Annotated[int | None, _option("Seats of a license given back in a year, but by you.")] = None,
    offline_days: Annotated[int, typer.Option(help="How long an offline file may last; 0 allows none.")] = 0,
    offline_algorithm: Annotated[
        OfflineAlgorithmName, typer.Option(help="By what an offline file is signed.")
    ] = OfflineAlgorithmName.RSA,
    entitlement: Annotated[list[str] | None, _option("A feature, with a limit or without: export, seats3d=5.")] = None,
    on_clone: Annotated[
        OnCloneName, typer.Option(help="What a device meets whose activation was copied.")
    ] = OnCloneName.MARK,
    show_holders: Annotated[
        bool, typer.Option("--show-holders", help="Tell a device without a seat who holds them.")
    ] = False,
) -> None:
    """Add a policy for a product. DURATION is a number with s, m, h or d; a bare number is seconds."""
    if kind is KindName.FLOATING and offline_grace is not None:
        raise CommandError("a floating license's offline grace is its lease: leave out --offline-grace")
    rules = Rules(
        overage=Overage[overage.name],
        expires_at=expires,
        valid_s=valid_for,
        on_expiry=OnExpiry[on_expiry.name],
        trial=trial,
        min_version=min_version,
        max_version=max_version,
        activations_per_hour=activations_per_hour,
        releases_per_year=releases_per_year,
        offline_max_days=offline_days,
        offline_algorithm=OfflineAlgorithm[offline_algorithm.name],
        entitlements=dict(map(_entitlement, entitlement or [])),
        on_clone=OnClone[on_clone.name],
        show_holders=show_holders,
    )
    granted = terms(
        kind=Kind[kind.name],
        product_code=product,
        lease_s=lease,
        offline_grace_s=offline_grace,
        heartbeat_interval_s=heartbeat,
        approval=Approval[approval.name],
        rules=rules,
    )
    id = run(
        ctx, lambda portal: portal.accounts.add_policy(account, name=name, seats=seats, terms=granted), account=account
    )
    tell(ctx, {"id": id, "name": name, "seats": seats, **terms_lines(granted)})


def _entitlement(text: str) -> tuple[str, int | None]:
    code, sign, limit = text.partition("=")
    if sign and not limit.isdecimal():
        raise CommandError(f"{text!r} is no entitlement: write a code, or a code and its limit as in seats3d=5")
    return code, int(limit) if sign else None

"""`secrets`: the installation's master secrets, from which every pepper and sealing key derives."""

import base64
import os
from typing import Annotated

import typer

from services.portal.commands.arguments import example
from services.portal.commands.failures import CommandError
from services.portal.commands.session import tell_variables
from shared.signing.secrets import SECRET_BYTES, MasterSecrets

app = typer.Typer(help="The installation's master secrets.")


@app.command(epilog=example("secrets new >> seatkeeper.env"))
def new(
    ctx: typer.Context,
    id: Annotated[str, typer.Option(help="Its short name: 1 to 8 of a-z and 0-9.")] = "k1",
) -> None:
    """Print a fresh master secret as the settings that hold it. Keep it: without it every license key is void."""
    secret = os.urandom(SECRET_BYTES)
    try:
        MasterSecrets({id: secret}, id)
    except ValueError as error:
        raise CommandError(str(error)) from None
    tell_variables(
        ctx,
        {
            "SEATKEEPER_SECRETS_KEYS": f"{id}:{base64.b64encode(secret).decode()}",
            "SEATKEEPER_SECRETS_CURRENT": id,
        },
    )

"""`facts` and `dead-letters`: what facts travel through, and those that a consumer gave up after five tries.

Like `migrate` they need one setting alone, `SEATKEEPER_RABBITMQ_URL`, and run before or beside the services.
"""

import asyncio
import os
from collections.abc import Awaitable
from typing import Annotated, TypeVar

import msgspec
import typer

from services.portal.commands.arguments import Yes, confirm, example
from services.portal.commands.failures import CommandError
from services.portal.commands.session import PROG, tell, tell_page
from shared.facts import dead_letters, topology
from shared.facts.connection import BrokerError
from shared.facts.topology import SUBSCRIBERS, Subscriber, TopologyError
from shared.runtime.sections import RabbitMQ
from shared.runtime.settings import load_settings

facts = typer.Typer(help="What facts travel through.")
letters = typer.Typer(help="Facts that a consumer gave up after five tries.")

Answer = TypeVar("Answer")

Consumer = Annotated[
    str, typer.Argument(metavar="CONSUMER", help=f"One of {', '.join(one.queue for one in SUBSCRIBERS)}.")
]
Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Ids from the list; all without.")]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    rabbitmq: RabbitMQ


@facts.command(epilog=example("facts declare"))
def declare(ctx: typer.Context) -> None:
    """Declare the exchanges and queues that are missing in RabbitMQ; services start only after that."""
    _ask(topology.declare(_url()))
    tell(ctx, {"declared": tuple(one.queue for one in SUBSCRIBERS)})


@letters.command("list", epilog=example("dead-letters list seatkeeper.projector"))
def list_letters(ctx: typer.Context, consumer: Consumer) -> None:
    """The oldest dead letters of a consumer, and the facts in each."""
    found = _ask(dead_letters.letters(_url(), _subscriber(consumer)))
    tell_page(
        ctx,
        [
            {
                "id": one.id,
                "reason": one.reason,
                "diedAt": one.died_at,
                "facts": ", ".join(f"{line.type} {line.license_id} v{line.version}" for line in one.facts),
                "unreadable": len(one.unreadable),
            }
            for one in found
        ],
        limit=len(found),
        cursor="id",
    )


@letters.command(epilog=example("dead-letters replay seatkeeper.projector"))
def replay(ctx: typer.Context, consumer: Consumer, ids: Ids = None) -> None:
    """Send dead letters to their consumer again."""
    tell(ctx, {"replayed": _ask(dead_letters.replay(_url(), _subscriber(consumer), ids or None))})


@letters.command(epilog=example("dead-letters drop seatkeeper.projector ID --yes"))
def drop(
    ctx: typer.Context,
    consumer: Consumer,
    ids: Ids = None,
    yes: Yes = False,
) -> None:
    """Throw dead letters away."""
    confirm("Throw these dead letters away for good?", yes=yes)
    tell(ctx, {"dropped": _ask(dead_letters.drop(_url(), _subscriber(consumer), ids or None))})


def _url() -> str:
    return load_settings(Settings, None, os.environ, PROG).rabbitmq.url.reveal()


def _subscriber(name: str) -> Subscriber:
    for one in SUBSCRIBERS:
        if one.queue == name:
            return one
    raise CommandError(f"no such consumer: it is one of {', '.join(one.queue for one in SUBSCRIBERS)}")


def _ask(work: Awaitable[Answer]) -> Answer:
    async def ask() -> Answer:
        return await work

    try:
        return asyncio.run(ask())
    except TopologyError as error:
        raise CommandError(f"{error} (`facts declare`)") from error
    except BrokerError as error:
        raise CommandError(
            f"RabbitMQ is out of reach: see that SEATKEEPER_RABBITMQ_URL leads to it ({error})"
        ) from error

"""One service as a process: settings, log, resources, routes, probes; the same few steps for all."""

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import TypeVar

from aiohttp import web

from shared.runtime import lifecycle, logging
from shared.runtime.background import Work, background
from shared.runtime.facts import Subscription, facts_flowing
from shared.runtime.resources import Resources, Settings, open_resources
from shared.runtime.settings import load_or_exit
from shared.web.chaos import chaotic
from shared.web.endpoints import add_routes
from shared.web.health import health_app
from shared.web.openapi import documented
from shared.web.routes import Route

AnySettings = TypeVar("AnySettings", bound=Settings)


def main(
    name: str,
    settings_type: type[AnySettings],
    routes: Callable[[Resources], list[Route]],
    wanted: Callable[[Resources], Sequence[Subscription]] = lambda _: (),
    beside: Callable[[Resources, AnySettings], Sequence[Work]] = lambda _, __: (),
    relays: bool = True,
) -> int:
    """Run the service until it is told to stop; returns the process's exit code (2 for faulty settings).

    `wanted` are the facts that it wants to hear of, and who receives them; `beside` is work beside the requests.
    One that does not relay (`relays`) leaves its facts to the other services.
    """
    settings = load_or_exit(settings_type, sys.argv[1:], os.environ, f"services.{name}")
    logging.configure(settings.log)

    async def serve(stop: asyncio.Event) -> None:
        committed = asyncio.Event()
        application = f"seatkeeper-{name}"
        async with (
            open_resources(settings, application=application, on_commit=committed.set) as resources,
            facts_flowing(settings, resources, committed, name=application, wanted=wanted(resources), relays=relays),
            AsyncExitStack() as stack,
        ):
            for work in beside(resources, settings):
                await stack.enter_async_context(background(work))
            app = web.Application()
            add_routes(app, resources.metrics, chaotic(documented(routes(resources)), settings.testing.chaos))
            await lifecycle.serve(app, settings.server, probes(resources), stop)

    return lifecycle.run(serve)


def probes(resources: Resources) -> web.Application:
    """Health, readiness and metrics.

    Ready is who has once found Postgres there and migrated. An outage later is no reason to take every replica away at
    once: heartbeats go on, and what cannot be decided is answered 503. Redis is no condition at all.
    """
    found = False

    async def check_postgres() -> str | None:
        nonlocal found
        lack = None if found else await resources.check_postgres()
        found = lack is None
        return lack

    return health_app(resources.metrics, {"postgres": check_postgres}, lifecycle.Readiness())

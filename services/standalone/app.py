"""The wiring of the standalone: every service's routes and workers on one set of resources.

It uses the same outbox and relay as the separate services, and swaps only the transport: facts stay in the process.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
from aiohttp import web

from services.activation.app import routes as activation_routes
from services.heartbeat.app import projector, reconcilers
from services.heartbeat.app import routes as heartbeat_routes
from services.portal.app import routes as portal_routes
from services.reaper.app import floating, reap, sealing, worker
from services.reaper.reap import Reap
from services.standalone.settings import Settings
from shared.facts.relay import Relay
from shared.facts.transport import InProcess, Receive
from shared.ledger.outbox import BATCH, clear_sent, relay_once
from shared.runtime.background import background
from shared.runtime.resources import Resources, open_resources
from shared.web.chaos import chaotic
from shared.web.endpoints import add_routes
from shared.web.openapi import documented
from shared.web.routes import Route


class Standalone(msgspec.Struct, frozen=True, kw_only=True):
    """Running services: the application to serve, what they stand on, and a pass of the reaper on demand."""

    app: web.Application
    resources: Resources
    reap: Reap
    relay: Relay


def routes(resources: Resources) -> list[Route]:
    """The whole API, and its document."""
    services = (activation_routes, heartbeat_routes, portal_routes)
    return documented([route for routes in services for route in routes(resources)])


@asynccontextmanager
async def open_standalone(settings: Settings, *, receivers: Sequence[Receive] = ()) -> AsyncIterator[Standalone]:
    """Open all services. `receivers` get every fact besides the projector."""
    committed = asyncio.Event()
    async with AsyncExitStack() as stack:
        resources = await stack.enter_async_context(
            open_resources(settings, application="seatkeeper-standalone", on_commit=committed.set)
        )
        leases = floating(resources)
        relay = Relay(
            take=lambda publish: relay_once(resources.pool, publish),
            full=BATCH,
            transport=InProcess([projector(resources), leases, *receivers]),
            clear=lambda: clear_sent(resources.pool),
            woken=committed,
        )
        await stack.enter_async_context(background(relay.run))
        await stack.enter_async_context(background(leases.run))
        await stack.enter_async_context(background(worker(resources, settings).run))
        await stack.enter_async_context(background(sealing(resources).run))
        for work in reconcilers(resources, settings.reconciliation):
            await stack.enter_async_context(background(work))
        app = web.Application()
        add_routes(app, resources.metrics, chaotic(routes(resources), settings.testing.chaos))
        yield Standalone(app=app, resources=resources, reap=reap(resources, settings.reaper), relay=relay)

"""What tests of the client share: an application that one of a vendor's customers runs, over the real services.

Test modules say `pytest_plugins = ["tests.platform"]`, and ask for `applications`.

With CHAOS in the environment (`make test-chaos`) the server breaks a twentieth of the calls in each way that it knows.
Tests marked `calm` find it whole also then: they break calls or themselves, exactly as often as they say, or say why.
"""

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import seatkeeper
from seatkeeper import api, retry
from services.standalone.app import routes
from shared.web.chaos import chaotic
from shared.web.endpoints import add_routes
from tests.client.chaotic import SOME
from tests.platform import PRODUCT, Grant, Platform, Vendor, served

CHAOS = "CHAOS" in os.environ
MORE_TRIES = 3


def tried(made: int, times: int) -> bool:
    """Whether a call was sent so many times; a server that breaks calls has some sent more often."""
    return made >= times if CHAOS else made == times


@dataclass(frozen=True, kw_only=True)
class Application:
    """The application on the devices of one customer. Each fingerprint has a folder of its own."""

    url: str
    platform: Platform
    vendor: Vendor
    grant: Grant
    folder: Path

    def options(self, fingerprint: str = "laptop", **changes: Any) -> dict[str, Any]:
        """What `Client` and `SyncClient` are made with."""
        usual = {
            "url": self.url,
            "product": PRODUCT,
            "root_key": json.dumps(self.vendor.root_key),
            "license_key": self.grant.key,
            "fingerprint": fingerprint,
            "directory": self.folder / fingerprint,
            "language": "en",
        }
        return usual | changes

    def client(self, fingerprint: str = "laptop", **changes: Any) -> seatkeeper.Client:
        return seatkeeper.Client(**self.options(fingerprint, **changes))

    async def seats_used(self) -> int:
        return await self.platform.seats_used(self.grant)


@pytest.fixture
async def server_url(
    request: pytest.FixtureRequest, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[str]:
    """Where applications find the server.

    Under chaos a call has three tries more, so that what is tested is how troubles are resolved and not how often
    three of them come in a row.
    """
    if not CHAOS or request.node.get_closest_marker("calm"):
        yield platform.api.url
        return

    async def patiently(once: Any, *, attempts: int | None = None, **options: Any) -> Any:
        return await retry.repeated(once, attempts=attempts and attempts + MORE_TRIES, **options)

    monkeypatch.setattr(api, "repeated", patiently)
    resources = platform.resources
    app = web.Application()
    add_routes(app, resources.metrics, chaotic(routes(resources), SOME))
    async with served(app) as url:
        yield url


@pytest.fixture
def applications(platform: Platform, server_url: str, tmp_path: Path) -> Callable[..., Awaitable[Application]]:
    """Makes a license with these options, and the application that it is for."""

    async def make(**options: Any) -> Application:
        vendor = await platform.vendor()
        return Application(
            url=server_url,
            platform=platform,
            vendor=vendor,
            grant=await vendor.license(**options),
            folder=tmp_path / "state",
        )

    return make

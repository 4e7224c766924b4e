"""What tests of the client share: an application that one of a vendor's customers runs, over the real services.

Test modules say `pytest_plugins = ["tests.platform"]`, and ask for `applications`.
"""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import seatkeeper
from tests.platform import PRODUCT, Grant, Platform, Vendor


@dataclass(frozen=True, kw_only=True)
class Application:
    """The application on the devices of one customer. Each fingerprint has a folder of its own."""

    platform: Platform
    vendor: Vendor
    grant: Grant
    folder: Path

    def options(self, fingerprint: str = "laptop", **changes: Any) -> dict[str, Any]:
        """What `Client` and `SyncClient` are made with."""
        usual = {
            "url": self.platform.api.url,
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
def applications(platform: Platform, tmp_path: Path) -> Callable[..., Awaitable[Application]]:
    """Makes a license with these options, and the application that it is for."""

    async def make(**options: Any) -> Application:
        vendor = await platform.vendor()
        return Application(
            platform=platform, vendor=vendor, grant=await vendor.license(**options), folder=tmp_path / "state"
        )

    return make

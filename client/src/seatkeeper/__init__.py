"""Seatkeeper's client: keeps a seat of a license for an application, and never costs its user a working day.

    async with seatkeeper.Client(url, license_key=key, product="photo-editor", root_key=ROOT) as license:
        if license.state.usable:
            seatkeeper.require("export")

`SyncClient` is the same for programs without an event loop.
"""

import logging

from seatkeeper.client import Client
from seatkeeper.errors import (
    ConfigurationError,
    EntitlementMissing,
    NotGenuine,
    Refused,
    SeatkeeperError,
    TransportError,
    Unreachable,
)
from seatkeeper.features import require
from seatkeeper.lease import Lease
from seatkeeper.state import Name, State
from seatkeeper.threaded import SyncClient

__all__ = [
    "Client",
    "ConfigurationError",
    "EntitlementMissing",
    "Lease",
    "Name",
    "NotGenuine",
    "Refused",
    "SeatkeeperError",
    "State",
    "SyncClient",
    "TransportError",
    "Unreachable",
    "require",
]

logging.getLogger("seatkeeper").addHandler(logging.NullHandler())

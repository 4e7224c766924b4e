"""The document of the whole API: `python -m tests.openapi` writes docs/openapi.json, which a test holds current."""

from pathlib import Path
from typing import Any
from unittest.mock import Mock

from services.standalone.app import routes
from shared.web.openapi import document, encode
from shared.web.routes import Operation

FILE = Path(__file__).resolve().parents[1] / "docs" / "openapi.json"


def operations() -> list[Operation]:
    """Every operation of every service."""
    return [route.operation for route in routes(Mock())]


def whole() -> dict[str, Any]:
    return document(operations())


if __name__ == "__main__":
    FILE.write_bytes(encode(whole()))

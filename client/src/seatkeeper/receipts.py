"""The receipts that a device has given, one for each device id, the newest last: they outlive what they gave back.

A receipt that is kept is what refuses its generation, and all before it, for ever.
"""

from pathlib import Path
from typing import Any

import msgspec

from seatkeeper import private_files
from seatkeeper.offline_documents import Receipt


class _Shape(msgspec.Struct, frozen=True):
    device: str
    generation: int


class Receipts:
    def __init__(self, path: Path) -> None:
        self._path = path

    def newest(self) -> Receipt | None:
        kept = self._read()
        return Receipt(kept[-1]) if kept else None

    def of(self, device_id: str) -> Receipt | None:
        return next((Receipt(kept) for kept in self._read() if kept["device"] == device_id), None)

    def add(self, receipt: Receipt) -> None:
        others = [kept for kept in self._read() if kept["device"] != receipt.members["device"]]
        private_files.write(self._path, msgspec.json.encode([*others, receipt.members]))

    def cover(self, device_id: str, generation: int) -> bool:
        """Whether this generation of the device was given back."""
        return any(kept["device"] == device_id and generation <= kept["generation"] for kept in self._read())

    def _read(self) -> list[dict[str, Any]]:
        """What cannot be read is set aside."""
        written = private_files.read(self._path)
        if written is None:
            return []
        try:
            kept = msgspec.json.decode(written, type=list[dict[str, Any]])
            msgspec.convert(kept, list[_Shape])
        except ValueError:
            private_files.set_aside(self._path)
            return []
        return kept

"""The two small JSON files that go from a device to the server by hand, both signed by the device's own key.

`signature` is a detached JWS (`EdDSA`, `kid` the RFC 7638 thumbprint of the key) over the RFC 8785 form of the rest.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from seatkeeper import qr
from seatkeeper.device_key import DeviceKey
from seatkeeper.license_file import LicenseFile

REQUEST_FORM: Final = "seatkeeper-offline-request/1"
RECEIPT_FORM: Final = "seatkeeper-offline-receipt/1"
REQUEST_TYP: Final = "seatkeeper-offline-request+jws"
RECEIPT_TYP: Final = "seatkeeper-offline-receipt+jws"


class Document:
    """`data` is the file as it is handed over, `members` what it says."""

    def __init__(self, members: Mapping[str, Any]) -> None:
        self.members = dict(members)

    @property
    def data(self) -> bytes:
        return json.dumps(self.members, indent=2, ensure_ascii=False).encode() + b"\n"

    def qr(self) -> qr.QrCodes:
        return qr.encode(self.data)


class OfflineRequest(Document):
    """Asks for a license file for this device, at `POST /v1/offline/activate` or on the page `/offline`."""


class Receipt(Document):
    """Gives the seat behind a license file back, at `POST /v1/offline/return` or on the page `/offline`."""


def make_request(
    key: DeviceKey,
    *,
    product: str,
    fingerprint: str,
    id: str,
    created: datetime,
    name: str | None,
    version: str | None,
    days: int | None,
    receipt: Receipt | None,
) -> OfflineRequest:
    members = {
        "form": REQUEST_FORM,
        "product": product,
        "fingerprint": fingerprint,
        "deviceKey": key.jwk,
        "id": id,
        "created": _written(created),
        "name": name,
        "version": version,
        "days": days,
        "receipt": receipt and receipt.members,
    }
    given = {member: value for member, value in members.items() if value is not None}
    return OfflineRequest(key.signed(REQUEST_TYP, given))


def make_receipt(key: DeviceKey, file: LicenseFile, created: datetime) -> Receipt:
    members = {
        "form": RECEIPT_FORM,
        "account": file.account,
        "license": file.license_id,
        "device": file.device_id,
        "generation": file.generation,
        "created": _written(created),
    }
    return Receipt(key.signed(RECEIPT_TYP, members))


def _written(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"

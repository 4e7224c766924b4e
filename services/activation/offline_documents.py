"""What a holder hands in for a device without a network, read strictly: its signed request, its signed receipt."""

import msgspec

from services.activation.messages import OfflineReceipt, OfflineRequest
from shared.licensing.codes import Code
from shared.signing import offline_documents
from shared.web.bodies import T, decode_json
from shared.web.problems import ProblemError
from shared.web.texts import Fault

_REQUEST = msgspec.json.Decoder(OfflineRequest)
_RECEIPT = msgspec.json.Decoder(OfflineReceipt)


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request that the holder of `key` has signed; `digest` is what it is known by.

    `receipt` is the one within it, whose own signature is still to be verified.
    """

    said: OfflineRequest
    key: bytes
    digest: bytes
    receipt: "Receipt | None" = None


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """A receipt whose signature is still to be verified, by the key that the device has shown before."""

    said: OfflineReceipt
    signed: bytes
    signature: str

    def is_signed_by(self, key: bytes) -> bool:
        return offline_documents.is_signed(self.signed, self.signature, key, offline_documents.RECEIPT_TYP)


def read_request(document: bytes) -> Request:
    """Raises `ProblemError` (REQUEST_INVALID)."""
    said, signed, signature = _read(document, _REQUEST, "request")
    key = offline_documents.device_key(said.device_key.x)
    if key is None or not offline_documents.is_signed(signed, signature, key, offline_documents.REQUEST_TYP):
        raise ProblemError(Code.REQUEST_INVALID, fault=Fault.OFFLINE_SIGNATURE, field="request")
    sent = bytes(said.receipt)
    receipt = read_receipt(sent) if sent else None
    return Request(said=said, key=key, digest=offline_documents.digest(signed), receipt=receipt)


def read_receipt(document: bytes) -> Receipt:
    """Raises `ProblemError` (REQUEST_INVALID)."""
    said, signed, signature = _read(document, _RECEIPT, "receipt")
    return Receipt(said=said, signed=signed, signature=signature)


def _read(document: bytes, decoder: msgspec.json.Decoder[T], name: str) -> tuple[T, bytes, str]:
    parts = offline_documents.read(document)
    if parts is None:
        raise ProblemError(Code.REQUEST_INVALID, fault=Fault.OFFLINE_DOCUMENT, field=name)
    try:
        return decode_json(parts[0], decoder), *parts
    except ProblemError as error:
        error.members["field"] = ".".join(filter(None, (name, str(error.members.get("field", "")))))
        raise

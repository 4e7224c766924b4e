"""The operations of activation: who may call each, what it reads, and what it may answer."""

from uuid import UUID

import msgspec

from services.activation.messages import (
    ActivateBody,
    ActivatedAnswer,
    DevicesAnswer,
    DevicesQuery,
    KeySetAnswer,
    LicenseFileAnswer,
    OfflineActivateBody,
    OfflineReceiptFile,
    OfflineRequestFile,
    OfflineReturnBody,
    PendingAnswer,
    ReleaseBody,
    ReleasedAnswer,
    ResetAnswer,
    ValidAnswer,
    ValidateBody,
)
from shared.licensing.codes import Code
from shared.web.routes import Body, Caller, Operation, Query

ACTIVATE_BODY = Body(ActivateBody)
VALIDATE_BODY = Body(ValidateBody)
RELEASE_BODY = Body(ReleaseBody)
DEVICES_QUERY = Query(DevicesQuery)
OFFLINE_ACTIVATE_BODY = Body(OfflineActivateBody)
OFFLINE_RETURN_BODY = Body(OfflineReturnBody)

_KEPT = (Code.LICENSE_KEY_INVALID, Code.DEVICE_NOT_FOUND, Code.OFFLINE_HELD, Code.RELEASE_LIMIT_EXCEEDED)

ACTIVATE = Operation(
    "POST",
    "/v1/activate",
    "activate",
    "Ask for a seat. The same request again gets the same seat.",
    caller=Caller.KEY_OR_TOKEN,
    body=ACTIVATE_BODY,
    answers={200: ActivatedAnswer, 201: ActivatedAnswer, 202: PendingAnswer},
    refusals=(
        Code.LICENSE_KEY_INVALID,
        Code.TOKEN_INVALID,
        Code.TOKEN_EXPIRED,
        Code.TOKEN_EXHAUSTED,
        Code.TOKEN_REVOKED,
        Code.TIMESTAMP_SKEWED,
        Code.REPLAYED,
        Code.LICENSE_SUSPENDED,
        Code.LICENSE_EXPIRED,
        Code.LICENSE_REVOKED,
        Code.VERSION_NOT_SUPPORTED,
        Code.ENTITLEMENT_MISSING,
        Code.TOO_MANY_REQUESTS,
        Code.DEVICE_LIMIT_EXCEEDED,
        Code.DEVICE_NOT_ALLOWED,
        Code.DEVICE_BLOCKED,
    ),
)

VALIDATE = Operation(
    "POST",
    "/v1/validate",
    "validate",
    "Ask whether a key is good; with a fingerprint, whether that device holds or could take a seat.",
    caller=Caller.KEY,
    body=VALIDATE_BODY,
    answers={200: ValidAnswer},
    refusals=(
        Code.LICENSE_KEY_INVALID,
        Code.DEVICE_LIMIT_EXCEEDED,
        Code.DEVICE_BLOCKED,
        Code.VERSION_NOT_SUPPORTED,
        Code.ENTITLEMENT_MISSING,
    ),
)

DEACTIVATE = Operation(
    "POST",
    "/v1/deactivate",
    "deactivate",
    "Give a device's seat back.",
    caller=Caller.KEY,
    body=RELEASE_BODY,
    answers={200: ReleasedAnswer},
    refusals=_KEPT,
)

API_DEACTIVATE = msgspec.structs.replace(DEACTIVATE, path="/api/deactivate")

RESET = Operation(
    "POST",
    "/v1/reset",
    "reset",
    "Give a device's seat back and note when its state was cleared.",
    caller=Caller.KEY,
    body=RELEASE_BODY,
    answers={200: ResetAnswer},
    refusals=_KEPT,
)

OFFLINE_ACTIVATE = Operation(
    "POST",
    "/v1/offline/activate",
    "offline_activate",
    "Turn the request of a device without a network into a license file. The same request again gets the same file.",
    caller=Caller.KEY,
    body=OFFLINE_ACTIVATE_BODY,
    answers={200: LicenseFileAnswer, 201: LicenseFileAnswer},
    refusals=(
        Code.LICENSE_KEY_INVALID,
        Code.REPLAYED,
        Code.LICENSE_SUSPENDED,
        Code.LICENSE_EXPIRED,
        Code.LICENSE_REVOKED,
        Code.VERSION_NOT_SUPPORTED,
        Code.DEVICE_LIMIT_EXCEEDED,
        Code.DEVICE_NOT_ALLOWED,
        Code.DEVICE_BLOCKED,
        Code.LEASE_LOST,
        Code.OFFLINE_HELD,
        Code.OFFLINE_NOT_ALLOWED,
    ),
    parts=(OfflineRequestFile,),
)

OFFLINE_RETURN = Operation(
    "POST",
    "/v1/offline/return",
    "offline_return",
    "Give the seat behind an offline license file back, by the device's own receipt.",
    caller=Caller.RECEIPT,
    body=OFFLINE_RETURN_BODY,
    answers={200: ReleasedAnswer},
    refusals=(Code.DEVICE_NOT_FOUND, Code.RELEASE_LIMIT_EXCEEDED),
    parts=(OfflineReceiptFile,),
)

OFFLINE_PAGE = Operation(
    "GET",
    "/offline",
    "offline_page",
    "The page on which a holder does both by hand.",
    answers={200: str},
    content="text/html",
)

LIST_DEVICES = Operation(
    "GET",
    "/v1/devices",
    "list_devices",
    "See the devices of a license, a page at a time.",
    caller=Caller.KEY_HEADER,
    query=DEVICES_QUERY,
    answers={200: DevicesAnswer},
    refusals=(Code.LICENSE_KEY_INVALID,),
)

DELETE_DEVICE = Operation(
    "DELETE",
    "/v1/devices/{device_id}",
    "delete_device",
    "Give a device's seat back.",
    caller=Caller.KEY_HEADER,
    in_path={"device_id": UUID},
    answers={200: ReleasedAnswer},
    refusals=_KEPT,
)

ACCOUNT_KEYS = Operation(
    "GET",
    "/v1/accounts/{account_id}/jwks.json",
    "account_keys",
    "The public keys that verify what an account signed.",
    in_path={"account_id": UUID},
    answers={200: KeySetAnswer},
    refusals=(Code.NOT_FOUND,),
)

ALL_KEYS = Operation(
    "GET",
    "/.well-known/jwks.json",
    "all_keys",
    "The public keys of all accounts; whoever verifies with them has to check `iss`.",
    answers={200: KeySetAnswer},
)

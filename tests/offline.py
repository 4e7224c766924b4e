"""A device without a network, written anew from docs/api.md with another library (joserfc): it asks, and gives back."""

import base64
import json
import secrets
from datetime import UTC, datetime
from typing import Any

import rfc8785
from joserfc import jws
from joserfc.jwk import OKPKey

from tests.platform import PRODUCT

REQUEST_TYP, RECEIPT_TYP = "seatkeeper-offline-request+jws", "seatkeeper-offline-receipt+jws"
_REGISTRY = jws.JWSRegistry(algorithms=["EdDSA"], strict_check_header=False)


class Device:
    """One key pair, one fingerprint."""

    def __init__(self, fingerprint: str = "laptop") -> None:
        self.fingerprint = fingerprint
        self.key = OKPKey.generate_key("Ed25519")

    @property
    def public(self) -> dict[str, str]:
        public = self.key.as_dict(private=False)
        return {name: str(public[name]) for name in ("kty", "crv", "x")}

    def request(self, **members: Any) -> dict[str, Any]:
        """A signed request; members that are None are left out."""
        return self.signed(
            REQUEST_TYP,
            {
                "form": "seatkeeper-offline-request/1",
                "product": PRODUCT,
                "fingerprint": self.fingerprint,
                "deviceKey": self.public,
                "id": base64.urlsafe_b64encode(secrets.token_bytes(16)).rstrip(b"=").decode(),
                "created": now(),
                **members,
            },
        )

    def receipt(self, file: dict[str, Any], **members: Any) -> dict[str, Any]:
        """A signed receipt for a license file."""
        return self.signed(
            RECEIPT_TYP,
            {
                "form": "seatkeeper-offline-receipt/1",
                "account": file["iss"],
                "license": file["license"],
                "device": file["device"],
                "generation": file["generation"],
                "created": now(),
                **members,
            },
        )

    def signed(self, typ: str, members: dict[str, Any]) -> dict[str, Any]:
        members = {name: value for name, value in members.items() if value is not None}
        header = {"alg": "EdDSA", "kid": self.key.thumbprint(), "typ": typ}
        whole = jws.serialize_compact(header, rfc8785.dumps(members), self.key, registry=_REGISTRY)
        head, _, signature = whole.split(".")
        return {**members, "signature": f"{head}..{signature}"}


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def spelled(document: dict[str, Any]) -> dict[str, Any]:
    """The same in another order of members."""
    shuffled: dict[str, Any] = json.loads(json.dumps(dict(reversed(document.items()))))
    return shuffled

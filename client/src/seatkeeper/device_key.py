"""The key pair of a device that works offline: it signs the request, and the receipt that gives the seat back.

The private half is made on the device, stays there in a file of its owner (PKCS #8), and is in no repr. A key that is
lost cannot be had again: the server takes a receipt from no other.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import rfc8785
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from seatkeeper import base64url, private_files, signatures
from seatkeeper.errors import ConfigurationError
from seatkeeper.offline_faults import OfflineFault
from seatkeeper.public_keys import thumbprint


class DeviceKey:
    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key().public_bytes_raw()

    def __repr__(self) -> str:
        return f"DeviceKey(kid={thumbprint(self.public)!r})"

    @property
    def jwk(self) -> dict[str, str]:
        """The public half (RFC 8037)."""
        return {"kty": "OKP", "crv": "Ed25519", "x": base64url.encode(self.public)}

    def signed(self, typ: str, members: Mapping[str, Any]) -> dict[str, Any]:
        """The members and their `signature`: a detached JWS of kind `typ` over their RFC 8785 form."""
        return {**members, "signature": signatures.sign_detached(self._private, typ, rfc8785.dumps(dict(members)))}


def load(path: Path) -> DeviceKey | None:
    """The key in a file, or None where there is none. A file that holds no key is set aside: ConfigurationError."""
    pem = private_files.read(path)
    if pem is None:
        return None
    try:
        private = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError):
        private = None
    if not isinstance(private, Ed25519PrivateKey):
        private_files.set_aside(path)
        raise ConfigurationError(OfflineFault.KEY_DAMAGED)
    return DeviceKey(private)


def create(path: Path) -> DeviceKey:
    """A fresh key in a file that is not there yet. If several ask at the same time, all have the one that is kept."""
    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    private_files.create(path, pem)
    return load(path) or DeviceKey(private)

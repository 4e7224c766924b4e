"""JSON that carries its own signature: a member `signature`, a detached JWS over the RFC 8785 form of all the others.

So whitespace, the order of members and the spelling of text and numbers do not matter, and everything else does.
Refused: a member named twice at any depth, anything but whitespace around the object, text that is not UTF-8, numbers
that RFC 8785 cannot write. What is read is read from the signed form, not from the text.
"""

import json
from collections.abc import Mapping
from typing import Any

import rfc8785

from shared.signing import jws
from shared.signing.keys import RsaSigningKey, SigningKey


def sign(key: SigningKey | RsaSigningKey, typ: str, members: Mapping[str, Any]) -> bytes:
    """The document of these members, as people can read it."""
    signature = jws.sign_detached(key, typ, rfc8785.dumps(dict(members)))
    return json.dumps({**members, "signature": signature}, indent=2, ensure_ascii=False).encode() + b"\n"


def read(document: bytes, *, longest: int) -> tuple[bytes, str] | None:
    """The bytes that are signed, and the signature, which is not verified yet; None where there are none."""
    if len(document) > longest:
        return None
    try:
        members = json.loads(document.decode(), object_pairs_hook=jws.each_once, parse_constant=_refuse)
        signature = members.pop("signature")
        signed = rfc8785.dumps(members)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return (signed, signature) if isinstance(signature, str) else None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")

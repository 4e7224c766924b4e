"""An account's public keys as a JWK set (RFC 7517), for anyone who verifies what it signed."""

from collections.abc import Iterable

from shared.signing.keys import PublicJwk, public_jwk


def key_set(public_keys: Iterable[bytes]) -> dict[str, list[PublicJwk]]:
    """The set of raw public keys, in order, each once."""
    return {"keys": [public_jwk(public) for public in dict.fromkeys(public_keys)]}

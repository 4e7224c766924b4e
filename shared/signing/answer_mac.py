"""The MAC of a heartbeat's answer: a device that keeps its token secret knows by it who answered, and what.

- HMAC-SHA-256 under the text of the device token, base64url without padding: who cannot read the token cannot answer.
- Over lines joined by a line feed, an empty one for what is absent. Only the last, the request's nonce, may hold a line
  feed itself, so one text has one meaning.
- With a fresh nonce in each request, no answer can be given again.
"""

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC

from shared.signing import base64url

FORM = "seatkeeper-heartbeat/1"

_SHA256 = hashes.SHA256()


def answer_mac(
    token: str,
    *,
    outcome: str,
    device_id: str,
    generation: int,
    lease_expires_at: str = "",
    valid_until: str | None = None,
    next_heartbeat_in: int | str = "",
    server_time: str,
    nonce: str | None,
) -> str:
    """The MAC over what an answer says, each as it is written there. `outcome` is its `code`, or else its `state`."""
    mac = HMAC(token.encode(), _SHA256)
    mac.update(
        f"{FORM}\n{outcome}\n{device_id}\n{generation}\n{lease_expires_at}\n{valid_until or ''}\n{next_heartbeat_in}\n"
        f"{server_time}\n{nonce or ''}".encode()
    )
    return base64url.encode(mac.finalize()).decode()

"""The MAC of a heartbeat's answer, computed a second time as an integrator would from docs/api.md."""

import base64
import hashlib
import hmac
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.signing.answer_mac import answer_mac

DOCS = Path(__file__).resolve().parents[2] / "docs" / "api.md"
TOKEN = "skd1.azEAAAAAAAAAAAAAAAAAAAAAAAAAAAABAAAAAAAAAAAAAAAAAAAAAgAAAAAAAAAAAAAAAAAAAAMAAAAEcsJIihgYALGN-lZRrdiVDg6q"
SAID: dict[str, Any] = {
    "outcome": "active",
    "device_id": "00000000-0000-0000-0000-000000000003",
    "generation": 4,
    "lease_expires_at": "2027-02-20T10:06:06Z",
    "valid_until": "2026-11-29T10:06:06Z",
    "next_heartbeat_in": 3417,
    "server_time": "2026-11-22T10:06:06Z",
    "nonce": "n-1",
}
SIGNED = ("deviceId", "generation", "leaseExpiresAt", "validUntil", "nextHeartbeatIn", "serverTime", "nonce")


def by_the_book(token: str, answer: dict[str, Any]) -> str:
    lines = ["seatkeeper-heartbeat/1", answer.get("code") or answer["state"]]
    lines += [str(answer.get(member, "")) for member in SIGNED]
    digest = hmac.new(token.encode(), "\n".join(lines).encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def test_the_examples_in_the_documentation_are_genuine() -> None:
    text = DOCS.read_text().partition("### Is the answer genuine?")[2].partition("\n### ")[0]
    (token,) = re.findall(r"`(skd1\.[\w-]+)`", text)
    answers = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL)]
    assert token == TOKEN
    assert [answer["mac"] for answer in answers] == [by_the_book(token, answer) for answer in answers]
    assert [answer.get("code") for answer in answers] == [None, "LEASE_LOST"]
    refusal = {"outcome": "LEASE_LOST", "device_id": SAID["device_id"], "generation": 4, "nonce": None}
    assert [answer_mac(token, **SAID), answer_mac(token, **refusal, server_time=SAID["server_time"])] == [
        answer["mac"] for answer in answers
    ]


@given(
    token=st.text(st.characters(codec="ascii"), min_size=1, max_size=120),
    state=st.sampled_from(["active", "released", "LICENSE_SUSPENDED"]),
    generation=st.integers(0, 2**31),
    valid_until=st.none() | st.just("2026-11-29T10:06:06Z"),
    next_heartbeat_in=st.integers(1, 86_400),
    nonce=st.none() | st.text(st.characters(codec="utf-8"), max_size=64),
)
def test_an_integrator_computes_the_same(
    token: str, state: str, generation: int, valid_until: str | None, next_heartbeat_in: int, nonce: str | None
) -> None:
    said = SAID | {"outcome": state, "generation": generation, "valid_until": valid_until}
    said |= {"next_heartbeat_in": next_heartbeat_in, "nonce": nonce}
    answer = dict(zip(SIGNED, list(said.values())[1:], strict=True)) | {"state": state}
    answer = {name: value for name, value in answer.items() if value is not None}
    assert answer_mac(token, **said) == by_the_book(token, answer)


@pytest.mark.parametrize("member", SAID)
def test_no_member_can_be_changed_or_taken_away(member: str) -> None:
    value = SAID[member]
    changed = [value + 1] if isinstance(value, int) else [f"{value}x", value[:-1], value.swapcase() + " ", ""]
    genuine = answer_mac(TOKEN, **SAID)
    assert all(answer_mac(TOKEN, **(SAID | {member: other})) != genuine for other in changed)


def test_another_token_makes_another_mac() -> None:
    assert answer_mac(TOKEN[:-1] + "r", **SAID) != answer_mac(TOKEN, **SAID)

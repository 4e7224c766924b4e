"""Requests and answers used a second time: elsewhere, later, under another account. No state changes, and of another
account's nothing is told.

Two vendors with two licenses each. Every request that is replayed was good once; what was recorded is what was sent.
"""

import base64
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from shared.licensing.model import Kind
from tests.abuse.conftest import WHOLE, Table
from tests.platform import Answer, Grant, Platform, Vendor, license_header, snapshot
from tests.unit.test_signing_answer_mac import by_the_book

pytest_plugins = ["tests.platform"]

ROUNDS = 20 if WHOLE else 2
POSTS = ["/v1/activate", "/v1/validate", "/v1/deactivate", "/api/deactivate", "/v1/reset", "/v1/heartbeat"]
RELEASES = ["/v1/deactivate", "/api/deactivate", "/v1/reset"]


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A request as it was sent, and whose it is."""

    path: str
    body: dict[str, Any]
    license: "Held"


@dataclass(frozen=True, kw_only=True)
class Held:
    """A license of a vendor with a device on it, activated a second time after it had given its seat back."""

    vendor: Vendor
    grant: Grant
    fingerprint: str
    old: dict[str, Any]
    seat: dict[str, Any]
    sent: list[Sent]

    @property
    def device(self) -> str:
        return str(self.seat["deviceId"])

    @property
    def secrets(self) -> list[str]:
        """What nobody without this license's key may be told."""
        return [self.grant.key, str(self.grant.id), str(self.grant.account), self.fingerprint, self.device, self.name]

    @property
    def name(self) -> str:
        return f"machine of {self.fingerprint}"


@dataclass(frozen=True, kw_only=True)
class Stage:
    platform: Platform
    licenses: list[Held]
    """Two of one vendor, then two of another."""

    async def attack(self, requests: Sequence["Try"]) -> list[tuple["Try", Answer]]:
        """Those that got through: the state changed, or something foreign was told."""
        through = []
        before = await snapshot(self.platform.database)
        for one in requests:
            answer = await self.send(one)
            after = await snapshot(self.platform.database)
            if after != before or self.is_told_too_much(one, answer) or not one.accepts(answer):
                through.append((one, answer))
            before = after
        return through

    async def send(self, one: "Try") -> Answer:
        return await self.platform.api.ask(one.method, one.path, one.body, headers=one.headers)

    def is_told_too_much(self, one: "Try", answer: Answer) -> bool:
        said = answer.body.decode()
        sent = repr((one.path, one.body, one.headers))
        foreign = [secret for held in self.licenses if held is not one.by for secret in held.secrets]
        return any(secret in said and secret not in sent for secret in foreign)


@dataclass(frozen=True, kw_only=True)
class Try:
    """A replay by one who has the license `by`, if any; `statuses` are the answers that it may have."""

    path: str
    body: dict[str, Any] | None
    statuses: frozenset[int]
    by: Held | None = None
    method: str = "POST"
    headers: dict[str, str] | None = None
    code: str | None = None

    def accepts(self, answer: Answer) -> bool:
        return answer.status in self.statuses and self.code in (None, answer.json.get("code"))


@pytest.fixture(scope="module")
async def stage(platform: Platform) -> Stage:
    licenses = []
    for _ in range(2):
        vendor = await platform.vendor()
        licenses += [await hold(platform, vendor, kind) for kind in Kind]
    return Stage(platform=platform, licenses=licenses)


async def hold(platform: Platform, vendor: Vendor, kind: Kind) -> Held:
    grant = await vendor.license(kind=kind, seats=5)
    fingerprint = f"fingerprint-{uuid4()}"
    sent: list[Sent] = []
    held = Held(vendor=vendor, grant=grant, fingerprint=fingerprint, old={}, seat={}, sent=sent)
    token = await vendor.token(grant, max_uses=2)

    async def ask(path: str, status: int, **body: Any) -> dict[str, Any]:
        sent.append(Sent(path=path, body=body, license=held))
        return (await platform.api.post(path, body)).ok(status)

    device = {"fingerprint": fingerprint, "name": held.name}
    key, now = {"licenseKey": grant.key}, {"timestamp": int(time.time())}
    held.old.update(await ask("/v1/activate", 201, **key, **device, **now, nonce="first"))
    id = str(held.old["deviceId"])
    await ask("/v1/heartbeat", 200, deviceToken=held.old["deviceToken"], nonce="h", leave=True)
    await ask("/v1/activate", 201, token=token.token, **device, **now, nonce="second")
    await ask("/v1/validate", 200, key=grant.key, fingerprint=fingerprint)
    await ask("/v1/deactivate", 200, **key, deviceId=id, generation=2)
    await ask("/v1/activate", 201, **key, **device, **now, nonce="third")
    await ask("/v1/reset", 200, **key, deviceId=id, generation=3)
    held.seat.update(await ask("/v1/activate", 201, **key, **device, **now, nonce="fourth"))
    assert (held.old["generation"], held.seat["generation"]) == (1, 4)
    return held


async def tell(table: Table, stage: Stage, attack: str, tries: Iterable[Try]) -> None:
    listed = list(tries)
    through = await stage.attack(listed)
    note = f"first: {through[0][0].path} answered {through[0][1].status}" if through else ""
    table.row(f"replays: {attack}", tried=len(listed), got_through=len(through), note=note)


def sent_by(stage: Stage) -> list[Sent]:
    return [one for held in stage.licenses for one in held.sent]


def same_operation(path: str, other: str) -> bool:
    return path == other or {path, other} <= set(RELEASES)


# --- Elsewhere --------------------------------------------------------------------------------------------------


async def test_a_request_does_nothing_at_another_endpoint(table: Table, stage: Stage) -> None:
    tries = [
        Try(path=path, body=one.body, by=one.license, statuses=frozenset({400, 401}))
        for one in sent_by(stage)
        for path in [*POSTS, "/v1/heartbeats"]
        if not same_operation(path, one.path)
    ]
    await tell(table, stage, "at another endpoint", tries)


async def test_a_secret_is_taken_for_no_secret_of_another_kind(table: Table, stage: Stage) -> None:
    """Keys, activation tokens, device tokens and leases, each in the place of the others."""
    held = stage.licenses[0]
    tokens = [one.body["token"] for one in held.sent if "token" in one.body]
    activation = {"fingerprint": held.fingerprint, "timestamp": int(time.time())}
    others = [held.seat["deviceToken"], held.seat["lease"]]
    bodies: list[tuple[str, dict[str, Any]]] = [("/v1/heartbeat", {"deviceToken": text}) for text in tokens]
    bodies += [("/v1/activate", activation | {"token": text}) for text in [held.grant.key, *others]]
    for text in [*others, *tokens]:
        bodies.append(("/v1/activate", activation | {"licenseKey": text}))
        bodies.append(("/v1/validate", {"key": text, "fingerprint": held.fingerprint}))
        bodies.append(("/v1/reset", {"licenseKey": text, "deviceId": held.device}))
    denied = frozenset({400, 401})
    tries = [Try(path=path, body=body, statuses=denied) for path, body in bodies]
    tries += [
        Try(path="/v1/devices", body=None, method="GET", statuses=denied, headers=license_header(text))
        for text in [*others, *tokens]
    ]
    await tell(table, stage, "a secret in the place of another", tries)


# --- Under another license or account ---------------------------------------------------------------------------


async def test_nothing_is_done_to_a_device_with_another_license_s_key(table: Table, stage: Stage) -> None:
    tries: list[Try] = []
    for thief in stage.licenses:
        for held in stage.licenses:
            if held is thief:
                continue
            for generation in ({}, {"generation": 1}, {"generation": 4}):
                body = {"licenseKey": thief.grant.key, "deviceId": held.device, **generation}
                tries += [
                    Try(path=path, body=body, by=thief, statuses=frozenset({404}), code="DEVICE_NOT_FOUND")
                    for path in RELEASES
                ]
            tries.append(
                Try(
                    path=f"/v1/devices/{held.device}",
                    body=None,
                    by=thief,
                    method="DELETE",
                    headers=license_header(thief.grant.key),
                    statuses=frozenset({404}),
                    code="DEVICE_NOT_FOUND",
                )
            )
    await tell(table, stage, "another license's device", tries)


async def test_lists_and_validations_tell_of_their_own_license_only(table: Table, stage: Stage) -> None:
    tries: list[Try] = []
    for thief in stage.licenses:
        for held in stage.licenses:
            if held is thief:
                continue
            for query in (f"?after={held.device}", "?state=active&state=released&state=pending&state=blocked", ""):
                header = license_header(thief.grant.key)
                path = f"/v1/devices{query}"
                tries.append(
                    Try(path=path, body=None, by=thief, method="GET", headers=header, statuses=frozenset({200}))
                )
            body = {"key": thief.grant.key, "fingerprint": held.fingerprint}
            tries.append(
                Try(path="/v1/validate", body=body, by=thief, statuses=frozenset({200}), code="DEVICE_NOT_ACTIVATED")
            )
    await tell(table, stage, "lists and validations of others", tries)


async def test_an_activation_under_another_license_s_name_is_refused(table: Table, stage: Stage) -> None:
    """A recorded activation with the key and the token of two licenses, or with the token's claims changed."""
    tries: list[Try] = []
    for one in sent_by(stage):
        if "token" not in one.body:
            continue
        for other in stage.licenses:
            both = one.body | {"licenseKey": other.grant.key}
            tries.append(Try(path="/v1/activate", body=both, by=one.license, statuses=frozenset({400})))
        head, _, signature = one.body["token"].split(".")
        for foreign in (two.body["token"] for two in sent_by(stage) if "token" in two.body and two is not one):
            mixed = one.body | {"token": f"{head}.{foreign.split('.')[1]}.{signature}"}
            tries.append(
                Try(path="/v1/activate", body=mixed, by=one.license, statuses=frozenset({401}), code="TOKEN_INVALID")
            )
    await tell(table, stage, "tokens of two licenses mixed", tries)


# --- Again and later --------------------------------------------------------------------------------------------


async def test_the_activation_of_a_generation_that_ended_makes_no_other(table: Table, stage: Stage) -> None:
    """While a later seat is held they are a contact of it; they take no seat, and nothing else changes."""
    ended = [one for held in stage.licenses for one in held.sent if one.path == "/v1/activate"]
    ended = [one for one in ended if one.body["nonce"] != "fourth"]
    assert len(ended) == 3 * len(stage.licenses)
    got_through = 0
    for one in ended * ROUNDS:
        before = await facts_of(stage)
        answer = await stage.platform.api.post(one.path, one.body)
        is_same_seat = answer.status == 200 and answer.json["generation"] == 4
        got_through += await facts_of(stage) != before or not (is_same_seat or answer.status == 409)
    table.row("replays: activations of ended generations", tried=len(ended * ROUNDS), got_through=got_through)


async def facts_of(stage: Stage) -> list[tuple[Any, ...]]:
    """What was committed but for contacts: an audit and an outbox row stand for each change of a seat."""
    seats = "SELECT id::text, status, seats_used, version, 0 AS rows FROM license"
    devices = "SELECT id::text, state, generation, (ended_at IS NULL)::int, 0 FROM device"
    told = "SELECT 'audit', '', count(*), 0, 0 FROM audit UNION ALL SELECT 'outbox', '', count(*), 0, 0 FROM outbox"
    found = await stage.platform.rows(f"{seats} UNION ALL {devices} UNION ALL {told} ORDER BY 1, 2")
    return [tuple(row.values()) for row in found]


@pytest.mark.parametrize("kind", Kind)
async def test_an_activation_that_made_a_seat_makes_none_once_that_was_given_back(
    table: Table, platform: Platform, kind: Kind
) -> None:
    vendor = await platform.vendor()
    sent = []
    for _ in range(2 * ROUNDS):
        grant = await vendor.license(kind=kind)
        now = int(time.time())
        body = {"licenseKey": grant.key, "fingerprint": "laptop", "timestamp": now, "nonce": "n"}
        seat = (await platform.api.post("/v1/activate", body)).ok(201)
        (await platform.api.deactivate(grant.key, seat["deviceId"])).ok()
        sent.append(body)
    before = await snapshot(platform.database)
    answers = [await platform.api.post("/v1/activate", body) for body in sent]
    through = [answer for answer in answers if answer.refusal != (409, "REPLAYED")]
    assert await snapshot(platform.database) == before
    table.row(f"replays: activations of seats given back ({kind})", tried=len(sent), got_through=len(through))


async def test_a_nonce_with_another_body_is_refused(table: Table, stage: Stage) -> None:
    tries: list[Try] = []
    for held in stage.licenses:
        last = held.sent[-1].body
        changes: list[dict[str, Any]] = [
            {"fingerprint": f"{held.fingerprint}-2"},
            {"fingerprint": held.fingerprint.upper()},
            {"name": "another"},
            {"timestamp": last["timestamp"] + 1},
            {"timestamp": last["timestamp"] - 100},
            {"version": "1.0"},
            {"entitlements": ["export"]},
        ]
        tries += [
            Try(path="/v1/activate", body=last | one, by=held, statuses=frozenset({409}), code="REPLAYED")
            for one in changes
            for _ in range(ROUNDS)
        ]
    await tell(table, stage, "a nonce with another body", tries)


async def test_a_request_outside_the_window_is_refused(table: Table, stage: Stage) -> None:
    now = int(time.time())
    stale: list[object] = [now - 310, now + 330, now - 86_400, now + 86_400, 0, (now - 310) * 1000, 253_402_300_799]
    stale += [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)) for at in (now - 310, now + 330)]
    tries = [
        Try(path="/v1/activate", body=body, by=held, statuses=frozenset({401}), code="TIMESTAMP_SKEWED")
        for held in stage.licenses
        for at in stale
        for body in (
            held.sent[-1].body | {"timestamp": at},
            held.sent[-1].body | {"timestamp": at, "nonce": "new", "fingerprint": f"{held.fingerprint}-{at}"},
        )
    ]
    await tell(table, stage, "a stale timestamp", tries)


async def test_an_old_generation_s_token_neither_keeps_nor_gives_back_the_seat(table: Table, stage: Stage) -> None:
    tries: list[Try] = []
    for held in stage.licenses:
        bodies: list[dict[str, Any]] = [{}, {"counter": 4_000_000_000}, {"validUntil": held.seat["validUntil"]}]
        leaving: list[dict[str, Any]] = [{"leave": True}, {"leave": True, "nonce": "h"}, {"leave": True, "counter": 1}]
        for more in bodies * ROUNDS:
            body = held_by_old_token(held) | more
            lost = frozenset({410})
            tries.append(Try(path="/v1/heartbeat", body=body, by=held, statuses=lost, code="LEASE_LOST"))
        for more in leaving * ROUNDS:
            body = held_by_old_token(held) | more
            tries.append(Try(path="/v1/heartbeat", body=body, by=held, statuses=frozenset({200, 410})))
        fleet = [held_by_old_token(held) | more for more in (bodies + leaving) * ROUNDS]
        tries.append(Try(path="/v1/heartbeats", body={"heartbeats": fleet}, by=held, statuses=frozenset({200})))
    await tell(table, stage, "an old generation's token", tries)


def held_by_old_token(held: Held) -> dict[str, Any]:
    return {"deviceToken": held.old["deviceToken"]}


async def test_a_release_is_of_its_generation(table: Table, stage: Stage) -> None:
    """Recorded releases, sent again after the device had its seat anew, to every endpoint that releases."""
    tries = [
        Try(path=path, body=one.body, by=held, statuses=frozenset({200}))
        for held in stage.licenses
        for one in held.sent
        if one.path in RELEASES
        for path in RELEASES
        for _ in range(ROUNDS)
    ]
    tries += [
        Try(
            path=path,
            body={"licenseKey": held.grant.key, "deviceId": held.device, "generation": generation},
            by=held,
            statuses=frozenset({404}),
        )
        for held in stage.licenses
        for path in RELEASES
        for generation in (5, 2**31 - 1)
    ]
    await tell(table, stage, "releases of ended generations", tries)


# --- Answers ----------------------------------------------------------------------------------------------------


async def test_an_answer_is_genuine_for_its_own_request_only(table: Table, stage: Stage) -> None:
    """Every recorded answer, offered for every other request: of another nonce, another token, another device."""
    answers: list[tuple[str, dict[str, Any]]] = []
    for held in stage.licenses:
        for generation in (held.old, held.seat):
            for nonce in [f"n-{at}" for at in range(3 * ROUNDS)] + [""]:
                answer = await stage.platform.api.heartbeat(generation["deviceToken"], nonce=nonce)
                answers.append((generation["deviceToken"], answer.json))
    assert all(answer["mac"] == by_the_book(token, answer) for token, answer in answers)
    believed = [
        answer["mac"] == by_the_book(token, answer | {"nonce": asked["nonce"]})
        for _, answer in answers
        for token, asked in answers
        if answer is not asked
    ]
    table.row("replays: an answer for another request", tried=len(believed), got_through=sum(believed))


async def test_an_answer_says_what_was_signed(table: Table, stage: Stage) -> None:
    """Each signed member changed, left out, or taken from another answer."""
    token = stage.licenses[0].seat["deviceToken"]
    lost = (await stage.platform.api.heartbeat(stage.licenses[0].old["deviceToken"], nonce="n")).json
    until = stage.licenses[0].seat["validUntil"]
    alive = (await stage.platform.api.heartbeat(token, nonce="n", validUntil=until)).json
    later = (await stage.platform.api.heartbeat(token, nonce="n-2", validUntil=until)).json
    assert [by_the_book(token, one) == one["mac"] for one in (alive, later)] == [True, True]
    changed = [
        alive | {"state": "released"},
        alive | {"code": "LEASE_LOST"},
        alive | {"deviceId": stage.licenses[1].device},
        alive | {"generation": alive["generation"] + 1},
        alive | {"leaseExpiresAt": "2099-01-01T00:00:00Z"},
        alive | {"validUntil": "2099-01-01T00:00:00Z"},
        alive | {"nextHeartbeatIn": alive["nextHeartbeatIn"] + 1},
        alive | {"serverTime": "2099-01-01T00:00:00Z"},
        alive | {"nonce": "n\n"},
        *({name: value for name, value in alive.items() if name != one} for one in alive.keys() - {"mac", "lease"}),
        *(lost | {"state": "active", "code": None, "mac": one["mac"]} for one in (alive, later, lost)),
        alive | {"mac": later["mac"]},
        later | {"mac": alive["mac"]},
    ]  # fmt: skip
    believed = [by_the_book(token, one) == one["mac"] for one in changed if one.keys() & {"state", "code"}]
    table.row("replays: an answer altered", tried=len(believed), got_through=sum(believed))


async def test_a_lease_of_an_ended_generation_says_so(stage: Stage) -> None:
    """A signed lease cannot be called back; what it may be used for is bounded by what it says."""
    for held in stage.licenses:
        claims = [msgspec.json.decode(decoded(one["lease"])) for one in (held.old, held.seat)]
        assert [one["gen"] for one in claims] == [1, 4]
        assert {(one["sub"], one["iss"], one["lic"]) for one in claims} == {
            (held.device, str(held.grant.account), str(held.grant.id))
        }


def decoded(token: str) -> bytes:
    payload = token.split(".")[1]
    return base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))

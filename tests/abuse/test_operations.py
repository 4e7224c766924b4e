"""Every operation of the API under requests that nobody would send, made from the OpenAPI document by schemathesis.

The services run as processes; the requests know keys, tokens and ids of licenses in every state, so that they get past
the door. Whatever is sent, the answer is no 5xx, and is one that the document shows: its status, content type, headers,
members (none but those) and code. What the document forbids is refused. SEED repeats a run.
"""

import asyncio
import json
import os
import secrets
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from math import ceil
from random import Random
from typing import Any

import aiohttp
import hypothesis
import jsonschema_rs
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from shared.licensing.model import Approval, Kind, OnClone, Revoke, Rules, Suspend, device_id
from tests.abuse.conftest import WHOLE, Table
from tests.offline import Device
from tests.platform import Answer, Api, Grant, Service, Services, Vendor, open_api

pytest_plugins = ["tests.platform"]

CASES = 50_000 if WHOLE else 800
ROUND = 250
SEED = int(os.environ.get("SEED", secrets.randbits(32) if WHOLE else 5))
SHARES = {"/v1/activate": 6, "/v1/heartbeat": 5, "/v1/heartbeats": 5, "/v1/validate": 4, "/v1/devices": 3}
SHARES |= {"/v1/offline/activate": 4, "/v1/offline/return": 4}
MOST_FAULTS = 20
BODIES = {
    "/v1/activate": "ActivateBody",
    "/v1/validate": "ValidateBody",
    "/v1/deactivate": "ReleaseBody",
    "/api/deactivate": "ReleaseBody",
    "/v1/reset": "ReleaseBody",
    "/v1/offline/activate": "OfflineActivateBody",
    "/v1/offline/return": "OfflineReturnBody",
    "/v1/heartbeat": "HeartbeatBody",
    "/v1/heartbeats": "FleetItem",
}
DEEP = {"DEVICE_NOT_FOUND", "LEASE_LOST", "LICENSE_KEY_INVALID", "LICENSE_SUSPENDED", "REQUEST_INVALID", "VALID"}
"""What nobody is told who got no further than the door."""
HINDRANCES = {"entitlements", "generation", "validUntil", "counter", "nonce", "days"}
"""Members with which a request gets less far, as they are made up."""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY", "GROWL")
HTTP_METHODS = set(METHODS) - {"GROWL"}


@dataclass(frozen=True, kw_only=True)
class Persona:
    """What somebody who asks may know; the names are those of members and parameters."""

    knows: dict[str, Any]
    authorizations: tuple[str, ...]
    may_leave: bool
    """One of them, or soon nobody would hold a seat."""
    has_file: bool


@dataclass(kw_only=True)
class Attack:
    """One operation, and what was found."""

    name: str
    operation: Any
    url: str
    body: jsonschema_rs.Draft202012Validator | None
    share: int
    can_be_wrong: bool
    members: set[str]
    tried: int = 0
    faults: list[str] = field(default_factory=list)
    answers: Counter[tuple[int, str]] = field(default_factory=Counter)


async def test_every_operation_keeps_to_its_document_whatever_is_sent(
    services: Services, vendor: Vendor, table: Table
) -> None:
    running = [await start(services, name) for name in ("heartbeat", "activation", "portal")]
    async with open_api(running[1].url) as api:
        personas = await known_to_us(vendor, api)
    attacks = [attack for service in running for attack in await attacks_on(service)]
    total = sum(attack.share for attack in attacks)
    for attack in attacks:
        await asyncio.to_thread(run, attack, ceil(CASES * attack.share / total), personas)

    for service in running:
        assert service.process.poll() is None
        assert not [line for line in service.log() if line["event"] == "request failed"]
    faults = [fault for attack in attacks for fault in attack.faults]
    if faults:
        print(f"SEED={SEED}", *faults[:20], sep="\n\n")
    for attack in attacks:
        note = f"{len(attack.answers)} kinds of answers, SEED={SEED}"
        table.row(attack.name, tried=attack.tried, got_through=len(attack.faults), note=note)
    assert {code for attack in attacks for _, code in attack.answers} >= DEEP
    idle = [attack.name for attack in attacks if min(attack.answers)[0] >= 300]
    assert not idle, f"never let do its work: {idle}"


async def test_no_path_takes_a_method_that_the_document_does_not_show(services: Services, table: Table) -> None:
    tried, faults = 0, []
    for name in ("activation", "heartbeat", "portal"):
        service = await start(services, name)
        document = await served(service)
        async with open_api(service.url) as api:
            for path, operations in document["paths"].items():
                shown = {method.upper() for method in operations}
                allowed = {*shown, "OPTIONS", *(["HEAD"] if "GET" in shown else [])}
                for method in set(METHODS) - allowed:
                    answer = await api.ask(method, path.replace("{", "").replace("}", ""))
                    tried += 1
                    if not is_method_refused(method, answer, allowed):
                        faults.append(f"{name} {method} {path}: {answer}")
    print(*faults, sep="\n")
    table.row("methods that no document shows", tried=tried, got_through=len(faults))


def is_method_refused(method: str, answer: Answer, allowed: set[str]) -> bool:
    if method not in HTTP_METHODS:
        return answer.refusal == (400, "REQUEST_INVALID")
    told = answer.status == 405 and set(answer.headers["Allow"].split(", ")) == allowed
    return told and (method == "HEAD" or answer.refusal == (405, "METHOD_NOT_ALLOWED"))


@pytest.mark.parametrize("expected", ["100-continue", "100-Continue", "200-ok", "a pony", ""])
async def test_an_expectation_costs_nobody_an_answer(services: Services, expected: str) -> None:
    service = await start(services, "activation")
    async with open_api(service.url) as api:
        answer = await api.post("/v1/validate", {"key": "no key at all, or is it?"}, headers={"Expect": expected})
        assert answer.refusal == (401, "LICENSE_KEY_INVALID")
        assert (await api.ask("GET", "/nowhere", headers={"Expect": expected})).refusal == (404, "NOT_FOUND")


# --- What is attacked -------------------------------------------------------------------------------------------


async def start(services: Services, name: str) -> Service:
    return await services.start(name, changes={"log": {"level": "warning"}}).ready()


async def served(service: Service) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session, session.get(service.url + "/openapi.json") as answer:
        assert answer.status == 200
        document: dict[str, Any] = await answer.json()
        return document


async def attacks_on(service: Service) -> list[Attack]:
    document = await served(service)
    loaded = schemathesis.openapi.from_dict(strict(document))
    return [
        Attack(
            name=f"{service.name}: {method.upper()} {path}",
            operation=loaded[path][method.upper()],
            url=service.url,
            body=body_of(document, operation),
            share=SHARES.get(path, 2 if can_be_wrong(operation) else 1),
            can_be_wrong=can_be_wrong(operation),
            members=members_of(document, path),
        )
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]


def strict(document: dict[str, Any]) -> dict[str, Any]:
    """The same, where answers have no members but those that are shown."""
    told: dict[str, Any] = json.loads(json.dumps(document))
    for name, schema in told["components"]["schemas"].items():
        if name.endswith("Answer") or name in ("Problem", "Holder"):
            schema["additionalProperties"] = False
    return told


def can_be_wrong(operation: dict[str, Any]) -> bool:
    return "requestBody" in operation or "parameters" in operation


def members_of(document: dict[str, Any], path: str) -> set[str]:
    """The members of the body, or of its items."""
    name = BODIES.get(path)
    return set(document["components"]["schemas"][name]["properties"]) if name else set()


def body_of(document: dict[str, Any], operation: dict[str, Any]) -> jsonschema_rs.Draft202012Validator | None:
    """What a body has to be, but for the items of a fleet: each is judged by itself."""
    if "requestBody" not in operation:
        return None
    components = json.loads(json.dumps(document["components"]))
    components["schemas"].get("FleetBody", {"properties": {"heartbeats": {}}})["properties"]["heartbeats"]["items"] = {}
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    return jsonschema_rs.Draft202012Validator({**schema, "components": components})


# --- Who attacks ------------------------------------------------------------------------------------------------


async def known_to_us(vendor: Vendor, api: Api) -> list[Persona]:
    """Licenses in every state, each with devices and activation tokens."""
    soon = datetime.now(UTC) + timedelta(seconds=3)
    grants = {
        "plain": await vendor.license(seats=50),
        "full": await vendor.license(seats=1),
        "floating": await vendor.license(
            seats=1, kind=Kind.FLOATING, lease_s=1, rules=Rules(show_holders=True, on_clone=OnClone.REFUSE)
        ),
        "asked": await vendor.license(approval=Approval.ALLOW_LIST),
        "versions": await vendor.license(seats=50, rules=Rules(min_version="1.0", max_version="2.0")),
        "rationed": await vendor.license(rules=Rules(activations_per_hour=1, releases_per_year=1)),
        "suspended": await vendor.license(),
        "revoked": await vendor.license(),
        "ended": await vendor.license(expires_at=soon),
        "blocked": await vendor.license(),
        "offline": await vendor.license(seats=50, rules=Rules(offline_max_days=30)),
    }
    personas = [await persona(vendor, api, name, grant) for name, grant in grants.items()]
    await vendor.licenses.set_status(grants["suspended"].ref, Suspend)
    await vendor.licenses.set_status(grants["revoked"].ref, Revoke)
    blocked = grants["blocked"]
    await vendor.licenses.set_blocked(blocked.ref, device_id(blocked.id, "blocked"), blocked=True)
    return personas


async def persona(vendor: Vendor, api: Api, name: str, grant: Grant) -> Persona:
    seat = (await api.activate(grant.key, name, version="1.5")).json
    token = await vendor.token(grant, ttl_s=1 if name == "full" else 3600, max_uses=1 if name == "rationed" else 100)
    if name == "versions":
        await vendor.licenses.revoke_token(grant.account, token.id)
    device_token = seat.get("deviceToken", "skd1.")
    device = Device(name)
    file = (await api.post("/v1/offline/activate", {"licenseKey": grant.key, "request": device.request()})).json
    unfiled = {"iss": str(grant.account), "license": str(grant.id), "device": seat["deviceId"], "generation": 1}
    return Persona(
        knows={
            "licenseKey": grant.key,
            "key": grant.key,
            "token": token.token,
            "deviceToken": device_token,
            "deviceId": seat["deviceId"],
            "accountId": str(grant.account),
            "fingerprint": name,
            "version": "1.5",
            "request": device.request(),
            "receipt": device.receipt(file if "device" in file else unfiled),
        },
        authorizations=(f"License {grant.key}", f"Bearer {device_token}"),
        may_leave=name == "full",
        has_file="device" in file,
    )


# --- The attack -------------------------------------------------------------------------------------------------


def run(attack: Attack, cases: int, personas: list[Persona]) -> None:
    """Rounds of requests, half of them such as the document allows, until there were so many or no more differ."""
    modes = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE] if attack.can_be_wrong else [GenerationMode.POSITIVE]
    with requests.Session() as session:
        for mode in modes:
            left = ceil(cases / len(modes))
            for number in count():
                before, size = attack.tried, min(ROUND, left)
                one_round(attack, mode, size, personas, session, SEED + number)
                left -= attack.tried - before
                if left <= 0 or attack.tried - before < size or len(attack.faults) > MOST_FAULTS:
                    break


def one_round(
    attack: Attack, mode: GenerationMode, size: int, personas: list[Persona], session: requests.Session, seed: int
) -> None:
    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=size,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(
        case=attack.operation.as_strategy(generation_mode=mode),
        persona=st.sampled_from(fitting(attack, personas)),
        choose=st.randoms(use_true_random=False),
    )
    def attempt(case: Case[Any], persona: Persona, choose: Random) -> None:
        disguise(attack, case, persona, choose)
        attack.tried += 1
        try:
            answer = case.call(base_url=attack.url, session=session)
            case.validate_response(answer, checks=CHECKS)
            judge(attack, case, answer)
            code = answer.json().get("code", "") if answer.content.startswith(b"{") else ""
            attack.answers[answer.status_code, code] += 1
        except (AssertionError, FailureGroup, requests.RequestException) as error:
            attack.faults.append(f"{attack.name}: {error!s:.1500}\n{case.as_curl_command()[:1500]}")

    attempt()


def fitting(attack: Attack, personas: list[Persona]) -> list[Persona]:
    """All, and half of the time those who have something to say of offline files, where it is about them."""
    filed = [persona for persona in personas if persona.has_file] if attack.members & {"request", "receipt"} else []
    return personas + filed * len(personas)


def disguise(attack: Attack, case: Case[Any], persona: Persona, choose: Random) -> None:
    """Put what the persona knows in the place of most of what was made up."""
    for name in (case.path_parameters or {}).keys() & persona.knows.keys():
        if choose.random() < 0.7:
            case.path_parameters[name] = persona.knows[name]
    if isinstance(case.body, dict):
        items = case.body.get("heartbeats")
        for place in (case.body, *(items if isinstance(items, list) else [])):
            if isinstance(place, dict):
                disguise_members(place, attack.members, persona, choose)
    if choose.random() < 0.7:
        case.headers["Authorization"] = choose.choice(persona.authorizations)
    if choose.random() < 0.2:
        case.headers["Accept-Language"] = choose.choice(["zh", "zh-Hant;q=0.5, en;q=0", "*", ";;;q=,", "de"])


def disguise_members(place: dict[str, Any], members: set[str], persona: Persona, choose: Random) -> None:
    for name in sorted(members & persona.knows.keys()):
        if choose.random() < 0.7:
            place[name] = persona.knows[name]
    if "timestamp" in members and choose.random() < 0.8:
        place["timestamp"] = time.time() * choose.choice([1, 1, 1000])
    if "token" in members and choose.random() < 0.9:
        place[choose.choice(["licenseKey", "token"])] = None
    if not persona.may_leave:
        place.pop("leave", None)
    for name in HINDRANCES & place.keys():
        if choose.random() < 0.5:
            del place[name]


def judge(attack: Attack, case: Case[Any], answer: schemathesis.Response) -> None:
    """What a schema of answers does not say: a forbidden body is refused, a refusal is one by its own members."""
    if answer.status_code >= 400:
        document = answer.json()
        assert document["status"] == answer.status_code
        assert document["type"] == f"urn:seatkeeper:problem:{document['code'].lower().replace('_', '-')}"
        assert document["title"]
        assert document["detail"]
        assert "{" not in document["detail"]
    elif attack.body is not None and case.media_type == "application/json":
        assert attack.body.is_valid(case.body), "a body that the document forbids was taken"

"""Who may do what: every route, under every role, with the things of one account as its target.

The routes are those that are registered, on the public port and the health port; one that nobody listed here fails. A
role is a credential, shown wherever a route takes one. What is refused changes nothing, and is answered as if its
target did not exist; what is granted to somebody else concerns his own things alone. No answer to others tells of ours.
"""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from aiohttp import web

from services.portal.accounts import SCOPES
from shared.licensing.model import Rules
from shared.runtime.lifecycle import READINESS
from shared.web.service import probes
from tests.abuse.conftest import Table
from tests.offline import Device
from tests.platform import Answer, Api, Grant, Platform, Vendor, open_api, served, snapshot

pytest_plugins = ["tests.platform"]

OUR_SEATS, SIBLINGS_SEATS, THEIR_SEATS = 71, 72, 73


class Role(StrEnum):
    NOBODY = "nobody"
    HOLDER = "holder of the license key"
    DEVICE = "the device"
    TOKEN = "holder of an activation token"
    EXPIRED_TOKEN = "holder of an expired activation token"
    REVOKED_TOKEN = "holder of a revoked activation token"
    MANAGER = "holder of a management token"
    SIBLING = "holder of another license of the account"
    SIBLING_DEVICE = "device of another license of the account"
    FOREIGNER = "holder of another account's license"
    FOREIGN_DEVICE = "device of another account"
    FOREIGN_TOKEN = "holder of another account's activation token"
    FOREIGN_MANAGER = "holder of another account's management token"


OTHERS = {Role.SIBLING, Role.SIBLING_DEVICE, Role.FOREIGNER, Role.FOREIGN_DEVICE, Role.FOREIGN_TOKEN}
STRANGERS = {*OTHERS, Role.NOBODY, Role.FOREIGN_MANAGER}
"""Who must not learn anything of ours."""


class Effect(StrEnum):
    PUBLIC = "the same for everybody"
    OURS = "done, with ours"
    THEIRS = "done, with their own"
    REFUSED = "refused"


@dataclass(frozen=True)
class Outcome:
    effect: Effect
    status: int
    code: str = ""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a request is about: ours, or what does not exist."""

    account: str
    license: str
    device: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class World:
    target: Target
    credentials: Mapping[Role, str]
    ours: tuple[str, ...]
    """By what rows and answers would tell of ours: ids, names, the key, the count of seats."""


Ask = Callable[[Api, str, Target], Any]
"""A request that shows a credential: where none is shown, an empty text."""

OUR_NEW_SEAT = Outcome(Effect.OURS, 201)
OURS, PUBLIC = Outcome(Effect.OURS, 200), Outcome(Effect.PUBLIC, 200)
THEIRS, THEIR_NEW_SEAT = Outcome(Effect.THEIRS, 200), Outcome(Effect.THEIRS, 201)
NO_KEY = Outcome(Effect.REFUSED, 401, "LICENSE_KEY_INVALID")
NO_TOKEN = Outcome(Effect.REFUSED, 401, "TOKEN_INVALID")
NO_BODY = Outcome(Effect.REFUSED, 400, "REQUEST_INVALID")
NO_DEVICE = Outcome(Effect.REFUSED, 404, "DEVICE_NOT_FOUND")
NO_ROUTE = Outcome(Effect.REFUSED, 404, "NOT_FOUND")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A request to a route. `others` is the outcome of every role that `roles` leaves out."""

    ask: Ask
    others: Outcome
    roles: Mapping[Role, Outcome]

    def outcome(self, role: Role) -> Outcome:
        return self.roles.get(role, self.others)


def activating(api: Api, shown: str, target: Target) -> Any:
    by = "token" if shown.startswith(("skd1.", "skm_", "ey")) else "licenseKey"
    body = {"fingerprint": target.fingerprint, "timestamp": int(time.time())} | ({by: shown} if shown else {})
    return api.post("/v1/activate", body, headers=bearer(shown))


def validating(api: Api, shown: str, target: Target) -> Any:
    return api.post("/v1/validate", {"fingerprint": target.fingerprint} | ({"key": shown} if shown else {}))


def releasing(path: str) -> Ask:
    def ask(api: Api, shown: str, target: Target) -> Any:
        body = {"deviceId": target.device} | ({"licenseKey": shown} if shown else {})
        return api.post(path, body, headers=bearer(shown))

    return ask


def listing(api: Api, shown: str, _target: Target) -> Any:
    return api.ask("GET", "/v1/devices", headers=license(shown))


def deleting(api: Api, shown: str, target: Target) -> Any:
    return api.ask("DELETE", f"/v1/devices/{target.device}", headers=license(shown))


def beating(**members: Any) -> Ask:
    def ask(api: Api, shown: str, _target: Target) -> Any:
        return api.post("/v1/heartbeat", members, headers=bearer(shown))

    return ask


async def beating_together(api: Api, shown: str, _target: Target) -> Answer:
    """The one answer in the many, as if it had come alone."""
    answer = await api.post("/v1/heartbeats", {"heartbeats": [{"deviceToken": shown} if shown else {}]})
    (told,) = answer.ok()["answers"]
    kind = "application/json" if told["status"] < 400 else "application/problem+json"
    return replace(answer, status=told["status"], body=_json(told), headers={**answer.headers, "Content-Type": kind})


def asking_for_a_file(api: Api, shown: str, _target: Target) -> Any:
    """For a machine of one's own."""
    body = {"request": Device(f"a machine of {shown}"[:30]).request()} | ({"licenseKey": shown} if shown else {})
    return api.post("/v1/offline/activate", body, headers=bearer(shown))


def returning(api: Api, shown: str, target: Target) -> Any:
    """With a receipt that is signed, by somebody."""
    file = {"iss": target.account, "license": target.license, "device": target.device, "generation": 1}
    return api.post("/v1/offline/return", {"receipt": Device().receipt(file)}, headers=bearer(shown))


def getting(path: str) -> Ask:
    return lambda api, shown, target: api.ask("GET", path.format(account=target.account), headers=bearer(shown))


def anywhere(api: Api, shown: str, target: Target) -> Any:
    return api.post(f"/v1/licenses/{target.account}", {"key": shown}, headers=bearer(shown))


def bearer(shown: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {shown}"} if shown else {}


def license(shown: str) -> dict[str, str]:
    return {"Authorization": f"License {shown}"} if shown else {}


def _json(told: object) -> bytes:
    return msgspec.json.encode(told)


TOKENS = (Role.TOKEN, Role.EXPIRED_TOKEN, Role.REVOKED_TOKEN, Role.FOREIGN_TOKEN)
HOLDING = {Role.HOLDER: OURS, Role.SIBLING: NO_DEVICE, Role.FOREIGNER: NO_DEVICE}
RELEASING = {**HOLDING, Role.NOBODY: NO_BODY, **dict.fromkeys(TOKENS, NO_BODY)}
"""Activation tokens are longer than any key."""
BEATING = {Role.DEVICE: OURS, Role.SIBLING_DEVICE: THEIRS, Role.FOREIGN_DEVICE: THEIRS}

CASES: dict[tuple[str, str], list[Case]] = {
    ("POST", "/v1/activate"): [
        Case(
            ask=activating,
            others=NO_TOKEN,
            roles={
                Role.NOBODY: NO_BODY,
                Role.HOLDER: OURS,
                Role.TOKEN: OURS,
                Role.EXPIRED_TOKEN: Outcome(Effect.REFUSED, 401, "TOKEN_EXPIRED"),
                Role.REVOKED_TOKEN: Outcome(Effect.REFUSED, 401, "TOKEN_REVOKED"),
                Role.SIBLING: THEIR_NEW_SEAT,
                Role.FOREIGNER: THEIR_NEW_SEAT,
                Role.FOREIGN_TOKEN: THEIRS,  # the foreigner's seat, of just before
            },
        )
    ],
    ("POST", "/v1/validate"): [
        Case(
            ask=validating,
            others=NO_KEY,
            roles={Role.NOBODY: NO_BODY, Role.HOLDER: OURS, Role.SIBLING: THEIRS, Role.FOREIGNER: THEIRS},
        )
    ],
    ("POST", "/v1/deactivate"): [Case(ask=releasing("/v1/deactivate"), others=NO_KEY, roles=RELEASING)],
    ("POST", "/api/deactivate"): [Case(ask=releasing("/api/deactivate"), others=NO_KEY, roles=RELEASING)],
    ("POST", "/v1/reset"): [Case(ask=releasing("/v1/reset"), others=NO_KEY, roles=RELEASING)],
    ("POST", "/v1/offline/activate"): [
        Case(
            ask=asking_for_a_file,
            others=NO_KEY,
            roles={
                Role.NOBODY: NO_BODY,
                **dict.fromkeys(TOKENS, NO_BODY),
                Role.HOLDER: OUR_NEW_SEAT,
                Role.SIBLING: THEIR_NEW_SEAT,
                Role.FOREIGNER: THEIR_NEW_SEAT,
            },
        )
    ],
    ("POST", "/v1/offline/return"): [Case(ask=returning, others=NO_DEVICE, roles={})],
    ("GET", "/offline"): [Case(ask=getting("/offline"), others=PUBLIC, roles={})],
    ("GET", "/v1/devices"): [
        Case(ask=listing, others=NO_KEY, roles={Role.HOLDER: OURS, Role.SIBLING: THEIRS, Role.FOREIGNER: THEIRS})
    ],
    ("DELETE", "/v1/devices/{device_id}"): [Case(ask=deleting, others=NO_KEY, roles=HOLDING)],
    ("POST", "/v1/heartbeat"): [
        Case(ask=beating(), others=NO_TOKEN, roles=BEATING),
        Case(ask=beating(leave=True), others=NO_TOKEN, roles=BEATING),
    ],
    ("POST", "/v1/heartbeats"): [Case(ask=beating_together, others=NO_TOKEN, roles={**BEATING, Role.NOBODY: NO_BODY})],
    ("GET", "/v1/accounts/{account_id}/jwks.json"): [
        Case(ask=getting("/v1/accounts/{account}/jwks.json"), others=PUBLIC, roles={})
    ],
    ("GET", "/.well-known/jwks.json"): [Case(ask=getting("/.well-known/jwks.json"), others=PUBLIC, roles={})],
    ("GET", "/openapi.json"): [Case(ask=getting("/openapi.json"), others=PUBLIC, roles={})],
    ("*", "/{tail}"): [
        Case(ask=anywhere, others=NO_ROUTE, roles={}),
        Case(ask=getting("/v1/accounts/{account}"), others=NO_ROUTE, roles={}),
        Case(ask=getting("/metrics"), others=NO_ROUTE, roles={}),
    ],
}
HEALTH: dict[tuple[str, str], list[Case]] = {
    ("GET", path): [Case(ask=getting(path), others=PUBLIC, roles={})] for path in ("/healthz", "/readyz", "/metrics")
}
NAMES = [f"{method} {path}" for method, path in (*CASES, *HEALTH)]


def registered(app: web.Application) -> set[tuple[str, str]]:
    """The routes of an application. HEAD comes with each GET; `test_head_tells_no_more_than_get` asks it."""
    found = {(route.method, route.resource.canonical) for route in app.router.routes() if route.resource is not None}
    return {(method, path) for method, path in found if method != "HEAD"}


# --- The world --------------------------------------------------------------------------------------------------


async def make_world(platform: Platform) -> World:
    us, them, rules = await platform.vendor(), await platform.vendor(), Rules(offline_max_days=30)
    ours = await us.license(seats=OUR_SEATS, customer="Ours, Inc.", rules=rules)
    sibling = await us.license(seats=SIBLINGS_SEATS, rules=rules)
    theirs = await them.license(seats=THEIR_SEATS, rules=rules)
    fingerprint = f"fingerprint-{uuid4().hex}"
    seat = (await platform.api.activate(ours.key, fingerprint, name="Ada's secret laptop")).ok(201)
    tokens = {
        Role.TOKEN: await us.token(ours),
        Role.EXPIRED_TOKEN: await us.token(ours, ttl_s=0.001),
        Role.REVOKED_TOKEN: await us.token(ours),
        Role.FOREIGN_TOKEN: await them.token(theirs),
    }
    await us.licenses.revoke_token(us.account, tokens[Role.REVOKED_TOKEN].id)
    return World(
        target=Target(account=str(us.account), license=str(ours.id), device=seat["deviceId"], fingerprint=fingerprint),
        credentials={
            Role.NOBODY: "",
            Role.HOLDER: ours.key,
            Role.DEVICE: seat["deviceToken"],
            **{role: token.token for role, token in tokens.items()},
            Role.MANAGER: await manager(us),
            Role.SIBLING: sibling.key,
            Role.SIBLING_DEVICE: await device_token(platform, sibling),
            Role.FOREIGNER: theirs.key,
            Role.FOREIGN_DEVICE: await device_token(platform, theirs),
            Role.FOREIGN_MANAGER: await manager(them),
        },
        ours=(str(ours.id), seat["deviceId"], fingerprint, "Ada's secret laptop", "Ours, Inc.", ours.key),
    )


async def manager(vendor: Vendor) -> str:
    return await vendor.accounts.add_management_token(vendor.account, name="all", scopes=list(SCOPES), ttl_s=3600)


async def device_token(platform: Platform, grant: Grant) -> str:
    token: str = (await platform.api.activate(grant.key, "a device of their own")).ok(201)["deviceToken"]
    return token


@pytest.fixture(scope="module")
async def health(platform: Platform) -> AsyncIterator[Api]:
    async with AsyncExitStack() as stack:
        app = probes(platform.resources)
        app[READINESS].phase = "serving"
        url = await stack.enter_async_context(served(app))
        yield await stack.enter_async_context(open_api(url))


# --- The tests --------------------------------------------------------------------------------------------------


async def test_every_registered_route_is_listed(platform: Platform) -> None:
    assert registered(platform.standalone.app) == set(CASES)
    assert registered(probes(platform.resources)) == set(HEALTH)


@pytest.mark.parametrize("name", NAMES)
async def test_each_role_gets_what_it_may(platform: Platform, health: Api, table: Table, name: str) -> None:
    method, path = name.split(" ")
    cases, api = (HEALTH[method, path], health) if (method, path) in HEALTH else (CASES[method, path], platform.api)
    faults, tried, onlooker = [], 0, Onlooker(platform)
    for case in cases:
        world = await make_world(platform)
        await onlooker.changes()
        for role in sorted(Role, key=lambda role: case.outcome(role).effect is Effect.OURS):
            fault = await wrong(onlooker, api, case, role, world)
            if case.outcome(role).effect is Effect.OURS:
                world = await make_world(platform)
                await onlooker.changes()
            tried += 1
            faults += [f"{name} as {role}: {fault}"] if fault else []
    print(*faults, sep="\n")
    table.row(f"access to {name}", tried=tried, got_through=len(faults))


class Onlooker:
    """Sees what changes in the database."""

    def __init__(self, platform: Platform) -> None:
        self._database = platform.database
        self._seen: set[tuple[str, str]] = set()

    async def changes(self) -> list[tuple[str, str]]:
        """Rows that are new or otherwise since it looked last. Delivered facts go from the outbox by themselves."""
        before, self._seen = self._seen, set(await snapshot(self._database))
        gone = {row for row in before - self._seen if row[0] != "outbox"}
        return sorted((self._seen - before) | gone)


async def wrong(onlooker: Onlooker, api: Api, case: Case, role: Role, world: World) -> str | None:
    """What is wrong with the answer to a role, if anything is."""
    expected, shown = case.outcome(role), world.credentials[role]
    answer: Answer = await case.ask(api, shown, world.target)
    changed = await onlooker.changes()
    if answer.status != expected.status or (expected.code and answer.refusal[1] != expected.code):
        return f"answered {answer.status} {answer.body[:200]!r}"
    if role in STRANGERS and (told := [text for text in world.ours if text in text_of(answer)]):
        return f"told of {told}"
    if changed and expected.effect in (Effect.REFUSED, Effect.PUBLIC):
        return f"changed {changed}"
    if expected.effect is Effect.THEIRS:
        return not_theirs(answer, changed, world)
    return await told_apart(api, case, shown, world, answer) if expected.effect is Effect.REFUSED else None


def text_of(answer: Answer) -> str:
    return f"{answer.headers} {answer.body.decode()}"


def not_theirs(answer: Answer, changed: list[tuple[str, str]], world: World) -> str | None:
    """What was done concerns the asker's own license: no row of ours, and no count of ours."""
    if ours := [row for row in changed if any(text in row[1] for text in world.ours[:2])]:
        return f"changed {ours}"
    if answer.json.get("limit", THEIR_SEATS) not in (THEIR_SEATS, SIBLINGS_SEATS):
        return f"told of our seats: {answer.body!r}"
    return None


async def told_apart(api: Api, case: Case, shown: str, world: World, answer: Answer) -> str | None:
    """What does not exist is answered the same, to the byte."""
    nothing = Target(account=str(uuid4()), license=str(uuid4()), device=str(uuid4()), fingerprint=uuid4().hex)
    other: Answer = await case.ask(api, shown, nothing)
    if (other.status, other.body) != (answer.status, answer.body):
        return f"what does not exist is {other.status} {other.body[:200]!r}, ours is {answer.body[:200]!r}"
    return None


async def test_a_validation_of_another_accounts_device_tells_nothing_of_it(platform: Platform) -> None:
    world = await make_world(platform)
    for role in (Role.SIBLING, Role.FOREIGNER):
        key = world.credentials[role]
        ours = await platform.api.validate(key, world.target.fingerprint)
        nothing = await platform.api.validate(key, uuid4().hex)
        assert ours.json == nothing.json
        assert ours.json["code"] == "DEVICE_NOT_ACTIVATED"


async def test_a_list_pages_through_nothing_but_its_own_license(platform: Platform) -> None:
    world = await make_world(platform)
    for after in ("00000000-0000-0000-0000-000000000000", world.target.device):
        page = await platform.api.devices(world.credentials[Role.FOREIGNER], f"?limit=500&after={after}")
        assert world.target.device not in page.body.decode()
        assert page.json["limit"] == THEIR_SEATS


async def test_an_unknown_credential_is_answered_as_any_other(platform: Platform) -> None:
    """Nobody learns from a refusal whether a token or key is another installation's, or almost right."""
    world = await make_world(platform)
    device = world.credentials[Role.DEVICE]
    refused = [
        (await platform.api.heartbeat(token)).body
        for token in (device[:-1] + ("A" if device[-1] != "A" else "B"), "skd1." + "A" * 80, "", "x" * 5000)
    ]
    assert len(set(refused)) == 1


async def test_head_tells_no_more_than_get(platform: Platform) -> None:
    world = await make_world(platform)
    for method, path in CASES:
        if method != "GET":
            continue
        place = path.replace("{account_id}", world.target.account)
        for headers in ({}, license(world.credentials[Role.HOLDER])):
            got, head = [await platform.api.ask(method, place, headers=headers) for method in ("GET", "HEAD")]
            assert head.status == got.status
            assert head.body == b""

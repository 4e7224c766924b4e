"""A gateway's heartbeats for its fleet: one answer for each, and one that fails takes nothing from the others."""

import asyncio
import json
from typing import Any
from uuid import uuid4

import pytest

from services.heartbeat.messages import MAX_FLEET_BYTES, MOST_AT_ONCE
from shared.batching import OverloadedError
from shared.ledger.ledger import Ledger
from shared.ledger.transaction import OutcomeUnknownError
from shared.licensing.model import Command, Decision, Kind
from shared.signing.device_token import DeviceClaims
from tests.platform import Answer, Grant, Platform
from tests.unit.test_signing_answer_mac import by_the_book

pytest_plugins = ["tests.platform"]

Item = dict[str, Any]


async def send(platform: Platform, items: list[Any], **options: Any) -> list[dict[str, Any]]:
    answer = await platform.api.post("/v1/heartbeats", {"heartbeats": items}, **options)
    answers: list[dict[str, Any]] = answer.ok()["answers"]
    assert len(answers) == len(items)
    return answers


async def fleet(platform: Platform, grant: Grant, size: int) -> list[dict[str, Any]]:
    seats = await asyncio.gather(*(platform.api.activate(grant.key, f"device-{n}") for n in range(size)))
    return [seat.ok(201) for seat in seats]


async def test_a_thousand_are_answered_in_their_order(platform: Platform) -> None:
    vendor = await platform.vendor()
    seats = [
        seat
        for kind in Kind
        for seat in await fleet(platform, await vendor.license(seats=500, kind=kind), MOST_AT_ONCE // 2)
    ]

    answers = await send(
        platform, [{"deviceToken": seat["deviceToken"], "nonce": f"n-{n}"} for n, seat in enumerate(seats)]
    )

    for number, (seat, answer) in enumerate(zip(seats, answers, strict=True)):
        assert (answer["status"], answer["deviceId"], answer["state"]) == (200, seat["deviceId"], "active")
        assert answer["nonce"] == f"n-{number}"
        assert answer["mac"] == by_the_book(seat["deviceToken"], answer)


async def test_each_is_answered_as_it_would_be_alone(platform: Platform) -> None:
    vendor = await platform.vendor()
    grant, floating = await vendor.license(), await vendor.license(kind=Kind.FLOATING)
    kept, left, lost = await fleet(platform, grant, 3)
    (short,) = await fleet(platform, floating, 1)
    (await platform.api.deactivate(grant.key, lost["deviceId"])).ok()
    foreign = platform.resources.device_tokens.issue(
        DeviceClaims(account=uuid4(), license=uuid4(), device=uuid4(), generation=1)
    )
    items: list[Item] = [
        {"deviceToken": kept["deviceToken"]},
        {"deviceToken": kept["deviceToken"], "validUntil": 0},
        {"deviceToken": lost["deviceToken"], "nonce": "n"},
        {"deviceToken": short["deviceToken"], "counter": 7, "version": "1.2"},
        {"deviceToken": "skd1.forged"},
        {"deviceToken": foreign},
        {"deviceToken": left["deviceToken"], "leave": True},
    ]
    alone = [await platform.api.heartbeat(**_named(item)) for item in items[:-1]]

    together = await send(platform, items)

    for one, of_many in zip(alone, together[:-1], strict=True):
        assert of_many["status"] == one.status
        assert without_time(of_many) == without_time(one.json)
    assert (together[-1]["status"], together[-1]["state"]) == (200, "released")
    assert await platform.seats_used(grant) == 1


def _named(item: Item) -> dict[str, Any]:
    return {("token" if name == "deviceToken" else name): value for name, value in item.items()}


def without_time(answer: dict[str, Any]) -> dict[str, Any]:
    moving = ("status", "mac", "serverTime", "nextHeartbeatIn", "leaseExpiresAt", "validUntil", "lease")
    return {name: value if name not in moving else "…" for name, value in answer.items() if name != "status"}


BAD: list[tuple[Any, str]] = [
    ({}, "deviceToken"),
    ({"deviceToken": None}, "deviceToken"),
    ({"deviceToken": 7}, "deviceToken"),
    ({"deviceToken": "skd1.x", "counter": 0}, "counter"),
    ({"deviceToken": "skd1.x", "leave": "yes"}, "leave"),
    ({"deviceToken": "skd1.x", "validUntil": "tomorrow"}, "validUntil"),
    ({"deviceToken": "skd1.x", "nonce": "x" * 65}, "nonce"),
    ({"deviceToken": "skd1.x", "version": ""}, "version"),
    ([], ""),
    ("skd1.x", ""),
    (None, ""),
    (7, ""),
]


async def test_one_that_cannot_be_read_fails_alone_and_says_what_is_wrong(platform: Platform) -> None:
    (seat,) = await fleet(platform, await (await platform.vendor()).license(), 1)
    good = {"deviceToken": seat["deviceToken"]}

    answers = await send(platform, [good, *(item for bad, _ in BAD for item in (bad, good))])

    assert [answer["status"] for answer in answers] == [200, *[400, 200] * len(BAD)]
    for (_, field), answer in zip(BAD, answers[1::2], strict=True):
        assert (answer["code"], answer["retryable"]) == ("REQUEST_INVALID", False)
        assert answer["title"]
        assert f"`{field}`" in answer["detail"] if field else "object" in answer["detail"]


REPEATED = [
    '{"deviceToken": TOKEN, "deviceToken": TOKEN}',
    '{"deviceToken": TOKEN, "nonce": "a:b", "nonce": "c"}',
    '{"deviceToken": TOKEN, "nonce": "\\u003a", "nonce": "\\u003a"}',
    '{"deviceToken": TOKEN, "unknown": 1, "unknown": "a:b"}',
]


@pytest.mark.parametrize("repeated", REPEATED)
async def test_one_in_which_a_member_stands_twice_fails_alone(platform: Platform, repeated: str) -> None:
    (seat,) = await fleet(platform, await (await platform.vendor()).license(), 1)
    until = '{"deviceToken": TOKEN, "validUntil": "2100-01-01T00:00:00Z", "nonce": "a:b"}'
    data = f'{{"heartbeats": [{until}, {repeated}, {until}]}}'.replace("TOKEN", json.dumps(seat["deviceToken"]))

    answers = (await platform.api.post("/v1/heartbeats", data=data.encode())).ok()["answers"]

    assert [answer["status"] for answer in answers] == [200, 400, 200]
    assert answers[1]["code"] == "REQUEST_INVALID"
    assert [answers[at]["nonce"] for at in (0, 2)] == ["a:b", "a:b"]


async def test_the_header_speaks_for_none_of_a_fleet(platform: Platform) -> None:
    (seat,) = await fleet(platform, await (await platform.vendor()).license(), 1)

    (answer,) = await send(platform, [{}], headers={"Authorization": f"Bearer {seat['deviceToken']}"})

    assert answer["code"] == "REQUEST_INVALID"


async def test_problems_are_written_in_the_language_that_was_asked_for(platform: Platform) -> None:
    items = [{"deviceToken": "skd1.forged"}, {}]

    english = await send(platform, items)
    chinese = await send(platform, items, headers={"Accept-Language": "zh-CN"})

    assert [answer["code"] for answer in chinese] == [answer["code"] for answer in english]
    assert english[0]["title"] == "Token not recognised"
    assert chinese[0]["title"] == "无法识别令牌"
    assert "deviceToken" in chinese[1]["detail"]
    assert english[1]["detail"] != chinese[1]["detail"]


# --- The whole --------------------------------------------------------------------------------------------------


async def refused(platform: Platform, data: bytes) -> Answer:
    return await platform.api.post("/v1/heartbeats", data=data)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b"7", b'{"heartbeats": 7}', b'{"heartbeats": [{]}', b'{"heartbeats": [], "x": "\xff"}']
)
async def test_a_body_that_cannot_be_read_is_refused_whole(platform: Platform, data: bytes) -> None:
    assert (await refused(platform, data)).refusal == (400, "REQUEST_INVALID")


async def test_nobody_is_nothing_to_answer(platform: Platform) -> None:
    assert await send(platform, []) == []


async def test_a_thousand_are_taken_and_not_one_more(platform: Platform) -> None:
    assert len(await send(platform, [{}] * MOST_AT_ONCE)) == MOST_AT_ONCE
    answer = await platform.api.post("/v1/heartbeats", {"heartbeats": [{}] * (MOST_AT_ONCE + 1)})
    assert answer.refusal == (400, "REQUEST_INVALID")
    assert "`heartbeats`" in answer.json["detail"]


@pytest.mark.parametrize("more", [0, 1])
async def test_half_a_mebibyte_is_read_and_not_a_byte_more(platform: Platform, more: int) -> None:
    body = json.dumps({"heartbeats": [{"deviceToken": "x" * 1000}] * 500, "padding": ""})
    data = body.replace('""}', '"' + "x" * (MAX_FLEET_BYTES - len(body) + more) + '"}').encode()
    assert len(data) == MAX_FLEET_BYTES + more

    answer = await refused(platform, data)

    if more:
        assert answer.refusal == (413, "REQUEST_TOO_LARGE")
        assert str(MAX_FLEET_BYTES) in answer.json["detail"]
    else:
        assert {one["code"] for one in answer.ok()["answers"]} == {"TOKEN_INVALID"}


async def test_elsewhere_no_more_is_read_than_before(platform: Platform) -> None:
    assert (await platform.api.heartbeat("x" * 70_000)).refusal == (413, "REQUEST_TOO_LARGE")


# --- Trouble ----------------------------------------------------------------------------------------------------


async def test_those_that_need_postgres_are_asked_again_while_it_is_away_and_the_others_go_on(
    gated_platform: Platform,
) -> None:
    platform = gated_platform
    assert platform.gates is not None
    vendor = await platform.vendor()
    (kept,) = await fleet(platform, await vendor.license(), 1)
    (short,) = await fleet(platform, await vendor.license(kind=Kind.FLOATING), 1)
    await platform.gates.postgres.shut()

    items = [{"deviceToken": seat["deviceToken"]} for seat in (kept, short, kept)] + [{}]
    answers = await send(platform, items)

    assert [answer["status"] for answer in answers] == [200, 503, 200, 400]
    assert (answers[1]["code"], answers[1]["retryable"], answers[1]["retryAfter"]) == ("OVERLOADED", True, 1)
    await platform.gates.postgres.open()
    assert [answer["status"] for answer in await send(platform, items)] == [200, 200, 200, 400]


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (OverloadedError(), (503, "OVERLOADED")),
        (OutcomeUnknownError(), (503, "OUTCOME_UNKNOWN")),
        (ZeroDivisionError(), (500, "INTERNAL")),
    ],
)
async def test_one_that_fails_in_the_server_fails_alone(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, failure: Exception, expected: tuple[int, str]
) -> None:
    vendor = await platform.vendor()
    unlucky, lucky = await vendor.license(kind=Kind.FLOATING), await vendor.license(kind=Kind.FLOATING)
    seats = [*await fleet(platform, unlucky, 1), *await fleet(platform, lucky, 1)]
    submit = Ledger.submit

    async def fail_for_one(ledger: Ledger, command: Command) -> Decision:
        if command.license_id == unlucky.id:
            raise failure
        return await submit(ledger, command)

    monkeypatch.setattr(Ledger, "submit", fail_for_one)

    failed, fine = await send(platform, [{"deviceToken": seat["deviceToken"]} for seat in seats])

    assert (failed["status"], failed["code"]) == expected
    assert ("id" in failed) is (expected[0] == 500)
    assert fine["status"] == 200

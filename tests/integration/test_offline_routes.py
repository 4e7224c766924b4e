"""Offline license files over HTTP, on real servers: one file a request, one key a generation, one seat for both."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from shared.ledger.offline import clear_files
from shared.licensing.model import Approval, Block, Kind, OfflineAlgorithm, Reason, Release, Rules, Suspend, device_id
from shared.signing import base64url
from shared.signing.license_file import FileFault, LicenseFile, verify
from tests.invariants import check_invariants
from tests.offline import Device, now, spelled
from tests.platform import PRODUCT, Answer, Grant, Platform, Vendor, mistyped

pytest_plugins = ["tests.platform"]

DAY = timedelta(days=1)


async def granted(platform: Platform, vendor: Vendor | None = None, *, seats: int = 2, **rules: Any) -> Grant:
    vendor = vendor or await platform.vendor()
    return await vendor.license(seats=seats, rules=Rules(**{"offline_max_days": 30, **rules}))


async def ask(platform: Platform, grant: Grant, request: object, **members: Any) -> Answer:
    body = {"licenseKey": grant.key, "request": request, **members}
    return await platform.api.post("/v1/offline/activate", body)


async def give_back(platform: Platform, receipt: object, **members: Any) -> Answer:
    return await platform.api.post("/v1/offline/return", {"receipt": receipt, **members})


async def submit(platform: Platform, command: Any, grant: Grant, fingerprint: str = "laptop", **members: Any) -> None:
    if issubclass(command, Block | Release):
        members["device_id"] = device_id(grant.id, fingerprint)
    await platform.resources.ledger.submit(
        command(account_id=grant.account, license_id=grant.id, actor="admin", **members)
    )


def lasts(file: dict[str, Any]) -> timedelta:
    return datetime.fromisoformat(file["expiry"]) - datetime.fromisoformat(file["issued"])


# --- A file ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", OfflineAlgorithm)
async def test_a_request_becomes_a_file_that_proves_itself_by_the_root_key_alone(
    platform: Platform, algorithm: OfflineAlgorithm
) -> None:
    vendor = await platform.vendor()
    grant = await granted(platform, vendor, offline_algorithm=algorithm, entitlements={"export": 5}, trial=False)
    answer = await ask(platform, grant, Device().request(name="Ada's laptop"))
    assert answer.headers["Content-Disposition"] == 'attachment; filename="seatkeeper-license.json"'
    file = answer.ok(201)
    root = base64url.decode(vendor.root_key["x"].encode())
    assert root is not None
    read = verify(answer.body, root, PRODUCT, datetime.now(UTC))
    assert isinstance(read, LicenseFile)
    assert (read.fingerprint, read.license, read.entitlements) == ("laptop", grant.id, {"export": 5})
    assert lasts(file) == 30 * DAY
    assert len(file["signature"]) > 400 if algorithm is OfflineAlgorithm.RSA else len(file["signature"]) < 250
    assert verify(answer.body, root, "other", datetime.now(UTC)) is FileFault.OTHER_PRODUCT
    device = await platform.device(file["device"])
    assert (device["state"], device["name"], device["generation"]) == ("active", "Ada's laptop", 1)
    assert device["offline_until"] == datetime.fromisoformat(file["expiry"])


async def test_the_same_request_gets_the_same_file_byte_for_byte_however_often_and_at_once(platform: Platform) -> None:
    grant, device = await granted(platform), Device()
    request = device.request()
    answers = await asyncio.gather(*(ask(platform, grant, request) for _ in range(8)))
    assert {answer.body for answer in answers} == {answers[0].body}
    assert sorted(answer.status for answer in answers) == [200] * 7 + [201]
    again = await ask(platform, grant, spelled(request), days=3)
    assert (again.status, again.body) == (200, answers[0].body)
    assert await platform.seats_used(grant) == 1
    await check_invariants(platform.database)


async def test_replicas_that_sign_for_the_first_time_at_once_give_files_that_all_prove_themselves(
    platform: Platform,
) -> None:
    vendor = await platform.vendor()
    grant = await granted(platform, vendor, seats=4)
    answers = await asyncio.gather(*(ask(platform, grant, Device(f"device {n}").request()) for n in range(4)))
    root = base64url.decode(vendor.root_key["x"].encode())
    assert root is not None
    assert all(isinstance(verify(one.body, root, PRODUCT, datetime.now(UTC)), LicenseFile) for one in answers)
    keys = (await platform.api.ask("GET", f"/v1/accounts/{grant.account}/jwks.json")).ok()["keys"]
    assert [key["alg"] for key in keys] == ["PS256", "EdDSA"]


@pytest.mark.parametrize(("in_request", "in_body", "days"), [(None, None, 30), (7, None, 7), (7, 3, 3), (None, 30, 30)])
async def test_a_file_lasts_as_long_as_asked_or_as_the_policy_allows(
    platform: Platform, in_request: int | None, in_body: int | None, days: int
) -> None:
    grant = await granted(platform)
    members = {} if in_body is None else {"days": in_body}
    file = (await ask(platform, grant, Device().request(days=in_request), **members)).ok(201)
    assert lasts(file) == days * DAY


async def test_a_file_ends_with_its_license(platform: Platform) -> None:
    vendor = await platform.vendor()
    ends = (datetime.now(UTC) + 10 * DAY).replace(microsecond=0)
    grant = await vendor.license(rules=Rules(offline_max_days=30), expires_at=ends)
    file = (await ask(platform, grant, Device().request())).ok(201)
    assert datetime.fromisoformat(file["expiry"]) == ends


# --- What is refused, and takes no seat -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "request_members", "members", "refusal", "says"),
    [
        ({}, {"days": 31}, {}, (403, "OFFLINE_NOT_ALLOWED"), "shorter"),
        ({}, {}, {"days": 31}, (403, "OFFLINE_NOT_ALLOWED"), "shorter"),
        ({"offline_max_days": 0}, {}, {}, (403, "OFFLINE_NOT_ALLOWED"), "allows no offline"),
        ({}, {"product": "other"}, {}, (400, "REQUEST_INVALID"), "another product"),
        ({}, {"created": "2020-01-01T00:00:00Z"}, {}, (400, "REQUEST_INVALID"), "more than a year"),
        ({"min_version": "2"}, {"version": "1.9"}, {}, (403, "VERSION_NOT_SUPPORTED"), "version"),
        ({}, {"days": 0}, {}, (400, "REQUEST_INVALID"), "`request.days`"),
        ({}, {"created": None}, {}, (400, "REQUEST_INVALID"), "`request.created`"),
        ({}, {"id": "too-short"}, {}, (400, "REQUEST_INVALID"), "`request.id`"),
        ({}, {"form": "seatkeeper-offline-request/2"}, {}, (400, "REQUEST_INVALID"), "`request.form`"),
        ({}, {"fingerprint": "a\x00b"}, {}, (400, "REQUEST_INVALID"), "`request.fingerprint`"),
    ],
)
async def test_what_cannot_be_answered_takes_no_seat(
    platform: Platform,
    rules: dict[str, Any],
    request_members: dict[str, Any],
    members: dict[str, Any],
    refusal: tuple[int, str],
    says: str,
) -> None:
    grant = await granted(platform, **rules)
    answer = await ask(platform, grant, Device().request(**request_members), **members)
    assert answer.refusal == refusal
    assert says in answer.json["detail"]
    assert await platform.seats_used(grant) == 0


def altered(request: dict[str, Any]) -> dict[str, dict[str, Any] | str]:
    other = Device()
    head, _, signature = request["signature"].split(".")
    return {
        "another fingerprint": request | {"fingerprint": "desktop"},
        "another key": request | {"deviceKey": other.public},
        "one member more": request | {"days": 3},
        "another's signature": request | {"signature": other.request()["signature"]},
        "a receipt's signature": request | {"signature": other.receipt(RECEIPTED)["signature"]},
        "the payload in it": request | {"signature": f"{head}.e30.{signature}"},
        "no signature": {name: value for name, value in request.items() if name != "signature"},
        "no text as signature": request | {"signature": 1},
        "no object": "request",
        "a point of small order": request | {"deviceKey": other.public | {"x": "A" * 43}},
    }


RECEIPTED = {"iss": str(uuid4()), "license": str(uuid4()), "device": str(uuid4()), "generation": 1}


@pytest.mark.parametrize("what", altered(Device().request()))
async def test_a_request_that_its_key_has_not_signed_is_refused(platform: Platform, what: str) -> None:
    grant = await granted(platform)
    answer = await ask(platform, grant, altered(Device().request())[what])
    assert answer.refusal == (400, "REQUEST_INVALID")
    assert "`request" in answer.json["detail"]
    assert await platform.seats_used(grant) == 0


async def test_a_request_with_a_member_twice_is_refused_at_any_depth(platform: Platform) -> None:
    grant = await granted(platform)
    text = json.dumps(Device().request())
    for twice in (text.replace('"created"', '"created": "x", "created"'), text.replace('"kty"', '"kty": "OKP", "kty"')):
        body = f'{{"licenseKey": "{grant.key}", "request": {twice}}}'.encode()
        assert (await platform.api.post("/v1/offline/activate", data=body)).refusal == (400, "REQUEST_INVALID")


async def test_a_full_license_gives_no_file_and_says_how_full_it_is(platform: Platform) -> None:
    grant = await granted(platform, seats=1)
    (await platform.api.activate(grant.key, "desktop")).ok(201)
    answer = await ask(platform, grant, Device().request())
    assert answer.refusal == (403, "DEVICE_LIMIT_EXCEEDED")
    assert (answer.json["limit"], answer.json["used"]) == (1, 1)


async def test_a_key_that_opens_nothing_gets_no_file(platform: Platform) -> None:
    grant = await granted(platform)
    body = {"licenseKey": mistyped(grant.key), "request": Device().request()}
    assert (await platform.api.post("/v1/offline/activate", body)).refusal == (401, "LICENSE_KEY_INVALID")


async def test_a_suspended_license_and_a_blocked_device_get_no_file(platform: Platform) -> None:
    grant, device = await granted(platform), Device()
    (await platform.api.activate(grant.key, "laptop")).ok(201)
    await submit(platform, Block, grant)
    assert (await ask(platform, grant, device.request())).refusal == (403, "DEVICE_BLOCKED")
    await submit(platform, Suspend, grant)
    assert (await ask(platform, grant, Device("desktop").request())).refusal == (403, "LICENSE_SUSPENDED")


async def test_a_device_that_waits_for_approval_gets_its_file_by_the_same_request_afterwards(
    platform: Platform,
) -> None:
    vendor = await platform.vendor()
    grant = await vendor.license(approval=Approval.ALLOW_LIST, rules=Rules(offline_max_days=30))
    request = Device().request()
    answer = await ask(platform, grant, request)
    assert answer.refusal == (403, "DEVICE_NOT_ALLOWED")
    assert "approve" in answer.json["detail"]
    await vendor.licenses.approve(grant.ref, "laptop")
    (await ask(platform, grant, request)).ok(201)


# --- One key a generation, one license a request ----------------------------------------------------------------


async def test_a_device_that_is_active_goes_offline_in_the_seat_it_has(platform: Platform) -> None:
    grant = await granted(platform)
    active = (await platform.api.activate(grant.key, "laptop")).ok(201)
    file = (await ask(platform, grant, Device().request())).ok(201)
    assert (file["device"], file["generation"]) == (active["deviceId"], 1)
    assert await platform.seats_used(grant) == 1
    kept = await platform.api.deactivate(grant.key, active["deviceId"])
    assert kept.refusal == (409, "OFFLINE_HELD")
    assert kept.json["until"] == file["expiry"]


async def test_another_key_is_not_answered_while_the_first_ones_generation_lasts(platform: Platform) -> None:
    grant, device = await granted(platform), Device()
    file = (await ask(platform, grant, device.request())).ok(201)
    answer = await ask(platform, grant, Device().request())
    assert answer.refusal == (409, "OFFLINE_HELD")
    assert answer.json["until"] == file["expiry"]
    longer = (await ask(platform, grant, device.request())).ok(201)
    assert longer["generation"] == file["generation"]
    (await give_back(platform, device.receipt(file))).ok()
    (await ask(platform, grant, Device().request())).ok(201)


async def test_of_two_keys_that_come_at_once_one_is_answered(platform: Platform) -> None:
    for _ in range(5):
        grant = await granted(platform)
        answers = await asyncio.gather(*(ask(platform, grant, Device().request()) for _ in range(4)))
        assert sorted(answer.status for answer in answers) == [201, 409, 409, 409]
        keys = await platform.rows("SELECT * FROM offline_device WHERE license_id = $1", grant.id)
        assert len(keys) == 1


async def test_a_request_that_was_answered_under_one_license_is_not_under_another(platform: Platform) -> None:
    vendor = await platform.vendor()
    one, other = await granted(platform, vendor), await granted(platform, vendor)
    request = Device().request()
    (await ask(platform, one, request)).ok(201)
    answer = await ask(platform, other, request)
    assert answer.refusal == (409, "REPLAYED")
    assert await platform.seats_used(other) == 0


async def test_a_request_whose_seat_has_ended_unanswered_makes_no_other(platform: Platform) -> None:
    """As when the answer was lost before it was kept, and a vendor freed the seat meanwhile."""
    grant, device = await granted(platform), Device()
    request = device.request()
    (await ask(platform, grant, request)).ok(201)
    await platform.rows("DELETE FROM offline_file WHERE license_id = $1", grant.id)
    await submit(platform, Release, grant, reason=Reason.FORCED)
    answer = await ask(platform, grant, request)
    assert answer.refusal == (409, "REPLAYED")
    assert "new request" in answer.json["detail"]
    assert await platform.seats_used(grant) == 0


# --- Giving back ------------------------------------------------------------------------------------------------


async def test_a_receipt_frees_the_seat_before_the_file_ends_also_when_it_is_repeated(platform: Platform) -> None:
    grant, device = await granted(platform, seats=1), Device()
    file = (await ask(platform, grant, device.request())).ok(201)
    receipt = device.receipt(file)
    assert (await give_back(platform, receipt)).ok() == {"success": True}
    assert await platform.seats_used(grant) == 0
    assert (await give_back(platform, spelled(receipt))).ok() == {"success": True}
    (await platform.api.activate(grant.key, "desktop")).ok(201)
    (await give_back(platform, receipt)).ok()
    assert await platform.seats_used(grant) == 1
    await check_invariants(platform.database)


async def test_an_old_receipt_frees_no_later_generation(platform: Platform) -> None:
    grant, device = await granted(platform), Device()
    first = (await ask(platform, grant, device.request())).ok(201)
    receipt = device.receipt(first)
    (await give_back(platform, receipt)).ok()
    second = (await ask(platform, grant, device.request())).ok(201)
    assert second["generation"] == first["generation"] + 1
    (await give_back(platform, receipt)).ok()
    assert await platform.seats_used(grant) == 1
    assert (await give_back(platform, device.receipt(first, generation=9))).refusal == (404, "DEVICE_NOT_FOUND")


async def test_a_device_that_gives_a_file_back_and_keeps_its_seat_begins_a_new_generation_in_it(
    fresh_platform: Platform,
) -> None:
    platform = fresh_platform
    grant, device = await granted(platform, seats=1, releases_per_year=0), Device()
    first = (await ask(platform, grant, device.request())).ok(201)
    receipt = device.receipt(first)
    for _ in range(2):
        (await give_back(platform, receipt, keepSeat=True)).ok()
    row = await platform.device(first["device"])
    assert (row["state"], row["generation"], row["offline_until"]) == ("active", 2, None)
    assert await platform.seats_used(grant) == 1
    (await give_back(platform, receipt)).ok()
    assert await platform.seats_used(grant) == 1
    again = (await platform.api.activate(grant.key, "laptop")).ok(200)
    assert again["generation"] == 2
    await check_invariants(platform.database)


async def test_a_request_brings_the_receipt_along_and_its_file_is_of_the_next_generation(platform: Platform) -> None:
    grant, device = await granted(platform, seats=1), Device()
    first = (await ask(platform, grant, device.request())).ok(201)
    request = device.request(receipt=device.receipt(first))
    second = (await ask(platform, grant, request)).ok(201)
    assert (second["device"], second["generation"]) == (first["device"], 2)
    assert (await ask(platform, grant, request)).ok(200) == second
    assert await platform.seats_used(grant) == 1


@pytest.mark.parametrize("signed_by_another", [True, False])
async def test_a_receipt_that_cannot_be_believed_stands_in_no_requests_way(
    platform: Platform, signed_by_another: bool
) -> None:
    grant, device = await granted(platform, seats=1), Device()
    first = (await ask(platform, grant, device.request())).ok(201)
    receipt = Device().receipt(first) if signed_by_another else device.receipt(first, device=str(uuid4()))
    second = (await ask(platform, grant, device.request(receipt=receipt))).ok(201)
    assert second["generation"] == 1


async def test_an_answered_request_that_was_dated_ahead_is_kept_until_it_is_too_old(fresh_platform: Platform) -> None:
    platform = fresh_platform
    grant, device = await granted(platform), Device()
    ahead = datetime.now(UTC) + 3000 * DAY
    request = device.request(days=1, created=ahead.strftime("%Y-%m-%dT%H:%M:%SZ"))
    first = await ask(platform, grant, request)
    first.ok(201)
    await platform.move_clock(days=400)
    await clear_files(platform.resources.pool)
    again = await ask(platform, grant, request)
    assert (again.status, again.body) == (200, first.body)


async def test_a_receipt_that_another_signed_frees_nothing(platform: Platform) -> None:
    grant, device = await granted(platform), Device()
    file = (await ask(platform, grant, device.request())).ok(201)
    for receipt in (Device().receipt(file), device.receipt(file) | {"created": "2026-01-01T00:00:00Z"}):
        answer = await give_back(platform, receipt)
        assert answer.refusal == (400, "REQUEST_INVALID")
        assert "`receipt`" in answer.json["detail"]
    unknown = device.receipt(file, device=str(uuid4()))
    assert (await give_back(platform, unknown)).refusal == (404, "DEVICE_NOT_FOUND")
    assert await platform.seats_used(grant) == 1


async def test_returns_count_among_the_releases_that_a_policy_allows_in_a_year(fresh_platform: Platform) -> None:
    platform = fresh_platform
    grant, device = await granted(platform, releases_per_year=1), Device()
    first = (await ask(platform, grant, device.request())).ok(201)
    (await give_back(platform, device.receipt(first))).ok()
    second = (await ask(platform, grant, device.request())).ok(201)
    receipt = device.receipt(second)
    answer = await give_back(platform, receipt)
    assert answer.refusal == (403, "RELEASE_LIMIT_EXCEEDED")
    assert datetime.fromisoformat(answer.json["until"]) > datetime.fromisoformat(now()) + 364 * DAY
    assert await platform.seats_used(grant) == 1
    await submit(platform, Release, grant, reason=Reason.FORCED)
    assert await platform.seats_used(grant) == 0


async def test_a_file_that_ended_leaves_the_seat_to_its_lease_and_floating_seats_go_with_the_file(
    fresh_platform: Platform,
) -> None:
    platform = fresh_platform
    vendor = await platform.vendor()
    grant = await vendor.license(kind=Kind.FLOATING, seats=1, rules=Rules(offline_max_days=30))
    file = (await ask(platform, grant, Device().request(days=10))).ok(201)
    await platform.move_clock(days=9)
    assert (await platform.api.activate(grant.key, "desktop")).refusal == (403, "DEVICE_LIMIT_EXCEEDED")
    await platform.move_clock(days=11)
    (await platform.api.activate(grant.key, "desktop")).ok(201)
    assert (await platform.device(file["device"]))["ended_reason"] == "lease_expired"

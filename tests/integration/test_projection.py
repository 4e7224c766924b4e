"""What Redis reflects: the newest, nothing that was missed, and a yes only for what Postgres already promises."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis
from redis.crc import key_slot

from services.standalone.embedded import start_redis, wheel_valkey_binary
from shared.licensing.leases import DAY_S, FLOOR_AGE_S, FLOOR_MIN_LEASE_S
from shared.licensing.model import Change, Device, DeviceState, License, LicenseStatus, OnExpiry, Terms, device_id
from shared.seats import keys
from shared.seats.connection import AWAY, PAUSE_S, RedisConnection
from shared.seats.node import SOCKETS
from shared.seats.nonces import Nonces
from shared.seats.projection import FLEET_LIMIT, Clock, Projection, Seen, Standing
from tests.builders import NOW, REF, make_device, make_license, make_terms

SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
KEY = keys.license_key(*REF)


class Mirror:
    """A process with a projection of its own, whose clock and epoch the test sets."""

    def __init__(self, url: str) -> None:
        self.now: datetime = NOW
        self.epoch = 1
        self.url = url
        self.connection = RedisConnection(url)
        clock = Clock(now_s=lambda: self.now.timestamp(), epoch=lambda: self.epoch)
        self.projection = Projection(self.connection, clock)

    async def push(self, version: int, *devices: Device, base: int | None = None, **changes: Any) -> None:
        """What the ledger holds at `version`, one step from the version before unless `base` says otherwise."""
        license = make_license(version=version, **changes)
        base = version - 1 if base is None else base
        await self.projection.push([Change(license=license, base_version=base, devices=devices)])

    async def seen(self, fingerprint: str = "laptop", generation: int = 0, counter: int = 0) -> Seen:
        return await self.projection.contact(*REF, device_id(REF[1], fingerprint), generation, counter)

    async def floor(self, fingerprint: str = "laptop", generation: int = 0) -> int | None:
        return (await self.seen(fingerprint, generation)).floor_s

    async def version(self) -> int | None:
        standing = await self.projection.standing(*REF)
        return None if standing is None else standing.version

    async def held(self, fingerprint: str = "laptop") -> tuple[int, int, int]:
        """Generation, floor and last contact as they rest in Redis."""
        generation, floor_s, heard_s, _ = await self._seat(fingerprint)
        return generation, floor_s, heard_s

    async def counter(self, fingerprint: str = "laptop") -> int:
        return (await self._seat(fingerprint))[3]

    async def _seat(self, fingerprint: str) -> tuple[int, int, int, int]:
        value = await self.connection.client.hget(KEY, keys.device_field(device_id(REF[1], fingerprint)))
        assert isinstance(value, bytes)
        generation, floor_s, heard_s, counter = keys.unpack_seat(value)
        return generation, floor_s, heard_s, counter


@pytest.fixture
async def mirror(redis_url: str) -> AsyncIterator[Mirror]:
    mirror = Mirror(redis_url)
    yield mirror
    await mirror.connection.close()


def seconds(moment: datetime) -> int:
    return int(moment.timestamp())


FLOOR = seconds(NOW + 90 * DAY)


# --- Reflecting -----------------------------------------------------------------------------------------------


async def test_what_was_pushed_is_read_back(mirror: Mirror) -> None:
    license = make_license([make_device()], version=2**40, expires_at=NOW + DAY)
    await mirror.projection.push([Change(license=license, base_version=1, devices=(make_device(),))])
    standing = await mirror.projection.standing(*REF)
    assert standing == Standing(
        epoch=1,
        version=2**40,
        status_and_flags=0,
        seats_limit=3,
        seats_used=1,
        lease_s=90 * DAY_S,
        offline_grace_s=7 * DAY_S,
        heartbeat_interval_s=3600,
        expires_at_s=seconds(NOW + DAY),
    )
    assert await mirror.seen() == Seen(standing, 1, FLOOR, known=True)


async def test_what_was_never_pushed_is_unknown(mirror: Mirror) -> None:
    assert await mirror.seen() == Seen(None)
    assert await mirror.projection.standing(*REF) is None


async def test_many_licenses_are_written_and_read_in_one_call(mirror: Mirror) -> None:
    refs = [(REF[0], device_id(REF[1], str(number))) for number in range(20)]
    licenses = [make_license(id=ref[1], version=number + 1) for number, ref in enumerate(refs)]
    device = make_device()
    await mirror.projection.push([Change(license=one, base_version=0, devices=(device,)) for one in licenses[:-1]])
    standings = await asyncio.gather(*(mirror.projection.standing(*ref) for ref in refs))
    assert [one.version if one else None for one in standings] == [*range(1, 20), None]
    contacts = await asyncio.gather(
        *(mirror.projection.contact(*ref, device.id, number % 2) for number, ref in enumerate(refs))
    )
    assert [contact.floor_s for contact in contacts] == [FLOOR] * 19 + [None]


async def test_the_newer_version_stays(mirror: Mirror) -> None:
    for version, shown in [(3, 3), (2, 3), (4, 4), (3, 4)]:
        await mirror.push(version, seats_used=version)
        standing = await mirror.projection.standing(*REF)
        assert standing is not None
        assert (standing.version, standing.seats_used) == (shown, shown)


async def test_a_step_from_the_version_that_is_here_keeps_the_other_devices(mirror: Mirror) -> None:
    await mirror.push(1, make_device("a"), base=0)
    await mirror.push(2, make_device("b"))
    await mirror.push(3)
    assert [await mirror.floor("a"), await mirror.floor("b")] == [FLOOR, FLOOR]


async def test_a_step_over_a_gap_forgets_what_it_does_not_speak_of(mirror: Mirror) -> None:
    await mirror.push(1, make_device("a"), base=0)
    await mirror.push(3, make_device("b"))
    assert [await mirror.floor("a"), await mirror.floor("b")] == [None, FLOOR]
    assert await mirror.version() == 3


async def test_the_same_version_again_keeps_the_later_floor_and_contact(mirror: Mirror) -> None:
    early = make_device(lease_expires_at=NOW + 80 * DAY, last_contact_at=NOW - DAY)
    await mirror.push(2, make_device())
    await mirror.push(2, early, base=2)
    assert await mirror.held() == (1, FLOOR, seconds(NOW))
    await mirror.push(3, replace(early, last_contact_at=NOW + DAY))
    assert await mirror.held() == (1, FLOOR, seconds(NOW + DAY))


async def test_a_new_generation_has_its_own_floor(mirror: Mirror) -> None:
    await mirror.push(2, make_device())
    await mirror.push(3, make_device(generation=2, lease_expires_at=NOW + DAY))
    assert (await mirror.held())[:2] == (2, seconds(NOW + DAY))


async def test_a_released_device_is_gone_and_a_late_extension_does_not_bring_it_back(mirror: Mirror) -> None:
    await mirror.push(2, make_device("a"))
    await mirror.push(3, make_device("b"))
    await mirror.push(4, make_device("a", state=DeviceState.RELEASED))
    await mirror.push(3, make_device("a", lease_expires_at=NOW + 95 * DAY), base=3)
    assert [await mirror.floor("a"), await mirror.floor("b")] == [None, FLOOR]


@pytest.mark.parametrize("state", [DeviceState.PENDING, DeviceState.RELEASED, DeviceState.BLOCKED])
async def test_only_seats_are_reflected(mirror: Mirror, state: DeviceState) -> None:
    await mirror.push(2, make_device(state=state))
    assert await mirror.connection.client.hlen(KEY) == 1
    assert (await mirror.seen()).floor_s is None


# --- A yes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("generation", "yes"), [(0, True), (2, True), (1, False), (3, False)])
async def test_another_generation_is_no_yes(mirror: Mirror, generation: int, yes: bool) -> None:
    await mirror.push(2, make_device(generation=2))
    seen = await mirror.seen(generation=generation)
    assert (seen.floor_s is not None) is yes
    assert seen.standing is not None


@pytest.mark.parametrize(("age_s", "yes"), [(0, True), (FLOOR_AGE_S - 1, True), (FLOOR_AGE_S, False)])
async def test_a_floor_of_twelve_hours_is_no_yes(mirror: Mirror, age_s: int, yes: bool) -> None:
    await mirror.push(2, make_device())
    mirror.now = NOW + timedelta(seconds=age_s)
    assert (await mirror.floor() is not None) is yes


@pytest.mark.parametrize(("lease_s", "yes"), [(600, False), (FLOOR_MIN_LEASE_S - 1, False), (FLOOR_MIN_LEASE_S, True)])
async def test_a_lease_under_36_hours_is_never_confirmed_by_redis(mirror: Mirror, lease_s: int, yes: bool) -> None:
    device = make_device(lease_expires_at=NOW + timedelta(seconds=lease_s))
    await mirror.push(2, device, terms=make_terms(lease_s=lease_s))
    assert (await mirror.floor() is not None) is yes


@pytest.mark.parametrize(
    ("changes", "serves"),
    [
        ({}, True),
        ({"expires_at": NOW + SECOND}, True),
        ({"expires_at": NOW}, False),
        ({"expires_at": datetime.min.replace(tzinfo=NOW.tzinfo)}, False),
        ({"expires_at": datetime.max.replace(tzinfo=NOW.tzinfo)}, True),
        ({"status": LicenseStatus.SUSPENDED}, False),
        ({"status": LicenseStatus.REVOKED}, False),
    ],
)
async def test_a_license_that_does_not_serve_is_no_yes(mirror: Mirror, changes: dict[str, Any], serves: bool) -> None:
    await mirror.push(2, make_device(), **changes)
    seen = await mirror.seen()
    assert seen.standing is not None
    assert seen.standing.serves(NOW.timestamp()) is serves
    assert (seen.floor_s is not None) is serves


async def test_a_license_is_full_at_its_limit(mirror: Mirror) -> None:
    for version, used in enumerate([2, 3, 4], start=2):
        await mirror.push(version, seats_used=used)
        standing = await mirror.projection.standing(*REF)
        assert standing is not None
        assert standing.full is (used >= 3)


async def test_a_contact_inside_the_floor_is_noted_and_promises_nothing_more(mirror: Mirror) -> None:
    await mirror.push(2, make_device())
    mirror.now = NOW + 2 * timedelta(hours=1)
    assert await mirror.floor() == FLOOR
    assert await mirror.held() == (1, FLOOR, seconds(mirror.now))


async def test_a_fleet_is_answered_as_its_devices_one_by_one_would_be(mirror: Mirror) -> None:
    """In one call and in several, those that it names twice included."""
    refs = [(REF[0], device_id(REF[1], str(number))) for number in range(3 * FLEET_LIMIT // 2)]
    device = make_device(generation=2, counter=5)
    changes = [
        Change(license=make_license(id=ref[1], version=number + 1), base_version=0, devices=(device,) * (number % 3))
        for number, ref in enumerate(refs)
    ]
    await mirror.projection.push(changes[1:])
    fleet = [(ref[0].bytes + ref[1].bytes + device.id.bytes, number % 4, number % 7) for number, ref in enumerate(refs)]
    singly = [await mirror.projection.contact_of(*asked) for asked in fleet]
    assert {(one.standing is not None, one.known, one.floor_s is not None) for one in singly} == {
        (False, False, False),
        (True, False, False),
        (True, True, False),
        (True, True, True),
    }
    for size in (0, 1, 9, FLEET_LIMIT, FLEET_LIMIT + 1, len(fleet)):
        await mirror.projection.push(changes[1:])
        assert await mirror.projection.contacts_of(fleet[:size]) == singly[:size]


async def test_a_fleet_that_names_a_device_twice_moves_its_count_twice(mirror: Mirror) -> None:
    await mirror.push(2, make_device())
    ids = REF[0].bytes + REF[1].bytes + make_device().id.bytes
    seen = await mirror.projection.contacts_of([(ids, 1, 7), (ids, 1, 8), (ids, 1, 8), (ids, 1, 5)])
    assert [(one.floor_s, one.counter) for one in seen] == [(FLOOR, 0), (FLOOR, 0), (FLOOR, 0), (None, 8)]


async def test_fleets_take_turns_and_a_single_contact_does_not_wait_for_them_all(mirror: Mirror) -> None:
    await mirror.push(2, make_device())
    ids = REF[0].bytes + REF[1].bytes + make_device().id.bytes
    fleets = [asyncio.create_task(mirror.projection.contacts_of([(ids, 1, 0)] * 4 * FLEET_LIMIT)) for _ in range(40)]
    await asyncio.sleep(0)
    assert await mirror.floor() == FLOOR
    assert not any(fleet.done() for fleet in fleets)
    answers = await asyncio.gather(*fleets)
    assert {one.floor_s for seen in answers for one in seen} == {FLOOR}
    assert mirror.connection.reachable


# --- Counts ---------------------------------------------------------------------------------------------------


async def test_a_count_is_kept_each_time_it_moves(mirror: Mirror) -> None:
    await mirror.push(2, make_device())
    for counter, kept in [(0, 0), (7, 7), (7, 7), (8, 8), (0, 8), (2**32 - 1, 2**32 - 1)]:
        assert (await mirror.seen(counter=counter)).floor_s == FLOOR
        assert await mirror.counter() == kept


async def test_a_count_that_went_back_is_no_yes_and_tells_how_far_it_was(mirror: Mirror) -> None:
    await mirror.push(2, make_device(counter=40))
    seen = await mirror.seen(counter=39)
    assert (seen.floor_s, seen.known, seen.counter) == (None, True, 40)
    assert await mirror.counter() == 40
    assert (await mirror.seen(counter=40)).floor_s == FLOOR


async def test_a_count_that_begins_anew_is_noted_and_is_for_the_ledger_to_say(mirror: Mirror) -> None:
    await mirror.push(2, make_device(counter=40))
    seen = await mirror.seen(counter=1)
    assert (seen.floor_s, seen.known, seen.counter) == (None, True, 40)
    assert await mirror.counter() == 1
    assert [(await mirror.seen(counter=counter)).floor_s for counter in (1, 2)] == [FLOOR, FLOOR]


async def test_the_count_of_another_generation_is_nobodys(mirror: Mirror) -> None:
    await mirror.push(2, make_device(generation=2, counter=40))
    assert [(await mirror.seen(generation=generation, counter=5)).counter for generation in (1, 2, 3)] == [0, 40, 0]


async def test_where_a_contact_is_no_yes_for_another_reason_the_count_is_told_too(mirror: Mirror) -> None:
    await mirror.push(2, make_device(counter=40))
    mirror.now = NOW + timedelta(seconds=FLOOR_AGE_S)
    seen = await mirror.seen(counter=41)
    assert (seen.floor_s, seen.counter) == (None, 40)
    assert await mirror.counter() == 40


@pytest.mark.parametrize(
    ("pushed", "kept"),
    [
        ({"counter": 9, "last_contact_at": NOW - SECOND}, 10),
        ({"counter": 9, "last_contact_at": NOW}, 9),
        ({"counter": 9, "last_contact_at": NOW + SECOND}, 9),
        ({"counter": 0, "last_contact_at": NOW}, 10),
        ({"counter": 11, "last_contact_at": NOW + SECOND}, 11),
        ({"counter": 0, "last_contact_at": NOW, "generation": 2}, 0),
    ],
)
async def test_the_count_of_the_later_contact_stays(mirror: Mirror, pushed: dict[str, Any], kept: int) -> None:
    await mirror.push(2, make_device(counter=10))
    await mirror.push(3, make_device(**pushed))
    assert await mirror.counter() == kept


# --- What policies rule ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("on_expiry", "yes"), [(OnExpiry.REFUSE_ALL, False), (OnExpiry.REFUSE_NEW, True), (OnExpiry.WARN, True)]
)
async def test_an_end_that_only_warns_is_no_end(mirror: Mirror, on_expiry: OnExpiry, yes: bool) -> None:
    await mirror.push(2, make_device(), expires_at=NOW, terms=make_terms(on_expiry=on_expiry))
    seen = await mirror.seen()
    assert (seen.floor_s is not None) is yes
    assert seen.standing is not None
    assert seen.standing.is_expired(NOW.timestamp())
    assert seen.standing.serves(NOW.timestamp()) is yes
    assert seen.standing.hard_end_s == (0 if yes else seconds(NOW))


@pytest.mark.parametrize("status", [LicenseStatus.SUSPENDED, LicenseStatus.REVOKED])
async def test_no_flag_makes_a_withdrawn_license_serve(mirror: Mirror, status: LicenseStatus) -> None:
    terms = make_terms(on_expiry=OnExpiry.WARN, min_version="1")
    await mirror.push(2, make_device(), status=status, terms=terms)
    seen = await mirror.seen()
    assert seen.standing is not None
    assert (seen.floor_s, seen.standing.serves(NOW.timestamp())) == (None, False)


@pytest.mark.parametrize("terms", [make_terms(min_version="2.1"), make_terms(max_version="2.1")])
async def test_a_range_of_versions_is_never_judged_here_but_contacts_are_noted(mirror: Mirror, terms: Terms) -> None:
    await mirror.push(2, make_device(counter=4), terms=terms)
    mirror.now = NOW + timedelta(hours=2)
    seen = await mirror.seen(counter=5)
    assert (seen.floor_s, seen.known) == (None, True)
    assert seen.standing is not None
    assert not seen.standing.may_say_yes(NOW.timestamp())
    assert await mirror.held() == (1, FLOOR, seconds(mirror.now))
    assert await mirror.counter() == 5


# --- Filling in -----------------------------------------------------------------------------------------------


async def test_what_was_read_fills_what_is_missing_and_changes_nothing_newer(mirror: Mirror) -> None:
    await mirror.push(5, make_device("a"), base=0)
    for version, device in [(5, make_device("b")), (4, make_device("c")), (4, make_device("a", generation=9))]:
        await mirror.projection.fill(
            [Change(license=make_license(version=version), base_version=version, devices=(device,))]
        )
    assert [await mirror.floor("a", 1), await mirror.floor("b"), await mirror.floor("c")] == [FLOOR, FLOOR, None]
    assert await mirror.version() == 5


async def test_a_fill_that_is_lost_makes_nothing_unknown(mirror: Mirror) -> None:
    await mirror.push(2, make_device())
    await mirror.connection.client.execute_command("CLIENT PAUSE 400 ALL")  # type: ignore[no-untyped-call]
    await mirror.projection.fill([Change(license=make_license(version=2), base_version=2)])
    await asyncio.sleep(PAUSE_S)
    assert await mirror.floor() == FLOOR


# --- Numbers of any size ---------------------------------------------------------------------------------------

HEADERS = [
    pytest.param({}, 21, id="ordinary"),
    pytest.param({"version": 2**32 - 1, "seats_limit": 2**16 - 1, "seats_used": 2**16 - 1}, 21, id="large"),
    pytest.param({"version": 2**32}, 37, id="version"),
    pytest.param({"seats_limit": 2**16}, 37, id="limit"),
    pytest.param({"seats_used": 2**16}, 37, id="used"),
    pytest.param({"lease_s": 0x7FFF * 3600, "offline_grace_s": 0x7FFF, "heartbeat_interval_s": 1}, 21, id="durations"),
    pytest.param({"lease_s": 0x8000 * 3600}, 37, id="lease"),
    pytest.param({"lease_s": FLOOR_MIN_LEASE_S + 1}, 37, id="odd lease"),
    pytest.param({"offline_grace_s": 0x8000}, 37, id="odd grace"),
    pytest.param({"heartbeat_interval_s": 0xFFFF}, 37, id="odd interval"),
]


def license_with(changes: dict[str, Any]) -> License:
    of_terms: dict[str, Any] = {name: value for name, value in changes.items() if name.endswith("_s")}
    return make_license(
        terms=make_terms(**of_terms), **{name: value for name, value in changes.items() if name not in of_terms}
    )


@pytest.mark.parametrize("epoch", [1, 2**16 - 1, 2**16, 2**32 - 1])
@pytest.mark.parametrize(("changes", "size"), HEADERS)
async def test_a_license_is_read_back_as_it_is_whatever_its_numbers(
    mirror: Mirror, changes: dict[str, int], size: int, epoch: int
) -> None:
    mirror.epoch, license = epoch, license_with(changes)
    lease_s = license.terms.lease_s
    device = make_device(lease_expires_at=min(NOW + timedelta(seconds=lease_s), NOW + 9999 * DAY))
    await mirror.projection.push([Change(license=license, base_version=license.version, devices=(device,))])
    seen = await mirror.seen()
    assert seen.standing == await mirror.projection.standing(*REF)
    assert seen.standing == (
        epoch,
        license.version,
        0,
        license.seats_limit,
        license.seats_used,
        license.terms.lease_s,
        license.terms.offline_grace_s,
        license.terms.heartbeat_interval_s,
        0,
    )
    assert device.lease_expires_at is not None
    assert seen.floor_s == seconds(device.lease_expires_at)
    header = await mirror.connection.client.hget(KEY, "0")
    assert header is not None
    assert len(header) == (size if epoch < 2**16 else 37)


@pytest.mark.parametrize("lease_s", [FLOOR_MIN_LEASE_S, FLOOR_MIN_LEASE_S + 1, FLOOR_MIN_LEASE_S + 3600, 90 * DAY_S])
async def test_a_floor_is_judged_by_the_lease_in_either_form(mirror: Mirror, lease_s: int) -> None:
    device = make_device(lease_expires_at=NOW + timedelta(seconds=lease_s))
    await mirror.push(2, device, terms=make_terms(lease_s=lease_s), expires_at=NOW + 2 * DAY)
    for age_s, yes in [(FLOOR_AGE_S - 1, True), (FLOOR_AGE_S, False), (2 * DAY_S - 1, False)]:
        mirror.now = NOW + timedelta(seconds=age_s)
        assert (await mirror.floor() is not None) is yes


async def test_versions_are_compared_across_the_forms(mirror: Mirror) -> None:
    """Each is a step from the one before, and the last is an older one in the short form."""
    long = 2**32
    await mirror.push(long - 1, make_device("a"), base=0)
    await mirror.push(long, make_device("b"))
    await mirror.push(long + 1, make_device("c"))
    await mirror.push(long - 1, make_device("a", state=DeviceState.RELEASED))
    assert [await mirror.floor("a"), await mirror.floor("b"), await mirror.floor("c")] == [FLOOR] * 3
    assert await mirror.version() == long + 1


SEATS = [
    pytest.param({}, 10, id="ordinary"),
    pytest.param({"generation": 255, "counter": 2**16 - 1}, 10, id="large"),
    pytest.param({"generation": 256}, 16, id="generation"),
    pytest.param({"generation": 2**31 - 1, "counter": 2**32 - 2}, 16, id="very large"),
    pytest.param({"counter": 2**16}, 16, id="count"),
    pytest.param({"last_contact_at": NOW + 90 * DAY}, 10, id="at the floor"),
    pytest.param({"last_contact_at": NOW + 90 * DAY + SECOND}, 16, id="after the floor"),
    pytest.param({"last_contact_at": NOW + 90 * DAY - timedelta(seconds=2**24 - 1)}, 10, id="long before the floor"),
    pytest.param({"last_contact_at": NOW + 90 * DAY - timedelta(seconds=2**24)}, 16, id="longer before the floor"),
]


@pytest.mark.parametrize(("changes", "size"), SEATS)
async def test_a_seat_is_noted_and_merged_as_it_is_whatever_its_numbers(
    mirror: Mirror, changes: dict[str, Any], size: int
) -> None:
    """By the ledger, by a contact, and by a push of the same generation with an earlier floor."""
    device = make_device(**changes)
    heard_s = seconds(changes.get("last_contact_at", NOW))
    await mirror.push(2, device)
    assert await mirror._seat("laptop") == (device.generation, FLOOR, heard_s, device.counter)
    assert len(keys.pack_seat(device) or b"") == size
    mirror.now = NOW + timedelta(hours=3)
    counted = device.counter + 1
    seen = await mirror.seen(generation=device.generation, counter=counted)
    later_s = max(heard_s, seconds(mirror.now))
    assert (seen.generation, seen.floor_s) == (device.generation, FLOOR)
    assert await mirror._seat("laptop") == (device.generation, FLOOR, later_s, counted)
    await mirror.push(3, replace(device, lease_expires_at=NOW + 80 * DAY, last_contact_at=NOW - 200 * DAY))
    assert await mirror._seat("laptop") == (device.generation, FLOOR, later_s, counted)
    raw = await mirror.connection.client.hget(KEY, keys.device_field(device.id))
    assert raw == keys.pack_numbers_of_seat(device.generation, FLOOR, later_s, counted)


async def test_four_ordinary_devices_fill_120_bytes(mirror: Mirror) -> None:
    """What a million devices cost hangs on it: of 121 bytes, allocators make 128 or 136, and of 129 up to 160."""
    await mirror.push(5, *(make_device(name, generation=3, counter=9000) for name in "abcd"), seats_limit=500)
    found: dict[bytes, bytes] = await mirror.connection.client.hgetall(KEY)  # type: ignore[assignment]
    around, around_each, number = 7, 2, 2
    assert around + number + sum(len(one) + around_each for pair in found.items() for one in pair if one != b"0") == 120
    assert (await mirror.connection.client.memory_usage(KEY) or 0) in range(120, 185)


# --- Epochs ---------------------------------------------------------------------------------------------------


async def test_a_raised_epoch_makes_everything_older_unknown(mirror: Mirror) -> None:
    await mirror.push(9, make_device())
    mirror.epoch = 2
    assert await mirror.seen() == Seen(None)
    assert await mirror.version() is None


async def test_the_new_epoch_counts_more_than_any_version_of_the_old(mirror: Mirror) -> None:
    await mirror.push(9, make_device("a"))
    mirror.epoch = 2
    await mirror.push(4, make_device("b"))
    assert [await mirror.version(), await mirror.floor("a"), await mirror.floor("b")] == [4, None, FLOOR]


async def test_a_process_that_has_not_heard_of_the_new_epoch_overwrites_nothing(mirror: Mirror) -> None:
    mirror.epoch = 2
    await mirror.push(4, make_device())
    mirror.epoch = 1
    await mirror.push(5, make_device(state=DeviceState.RELEASED))
    mirror.epoch = 2
    assert await mirror.version() == 4


async def test_before_the_first_reading_of_the_clock_nothing_is_pushed(mirror: Mirror) -> None:
    mirror.epoch = 0
    await mirror.push(2, make_device())
    assert await mirror.connection.client.keys() == []


# --- Redis in trouble -----------------------------------------------------------------------------------------


async def test_a_redis_that_hangs_is_given_up_quickly_and_asked_again_later(mirror: Mirror) -> None:
    await mirror.push(2, make_device())
    await mirror.connection.client.execute_command("CLIENT PAUSE 600 ALL")  # type: ignore[no-untyped-call]
    began = time.monotonic()
    assert await mirror.seen() == Seen(None)
    assert time.monotonic() - began < 0.5
    began = time.monotonic()
    assert (await mirror.seen(), await mirror.version()) == (Seen(None), None)
    assert time.monotonic() - began < 0.1
    await asyncio.sleep(PAUSE_S + 0.1)
    assert await mirror.floor() == FLOOR


def test_a_redis_that_went_away_is_unknown_and_serves_after_its_return(tmp_path: Path) -> None:
    with asyncio.Runner() as runner:
        with start_redis(tmp_path, binary=wheel_valkey_binary()) as server:
            mirror = Mirror(server.url)
            runner.run(mirror.push(2, make_device()))
            assert runner.run(mirror.floor()) == FLOOR
        assert (runner.run(mirror.seen()), runner.run(mirror.version())) == (Seen(None), None)
        assert not mirror.connection.reachable
        runner.run(mirror.push(3, make_device(state=DeviceState.RELEASED)))
        with start_redis(tmp_path, binary=wheel_valkey_binary()):
            runner.run(asyncio.sleep(PAUSE_S))
            runner.run(mirror.push(3, make_device("b")))
            runner.run(mirror.projection.repair())
            assert runner.run(mirror.version()) is None  # pushes were lost: what is there is removed
            runner.run(mirror.push(4, make_device("b")))
            assert (runner.run(mirror.floor("b")), mirror.connection.reachable) == (FLOOR, True)
            runner.run(mirror.connection.close())


async def test_a_connection_that_the_server_ended_is_replaced_and_no_outage(mirror: Mirror) -> None:
    await mirror.push(2, make_device())
    assert await mirror.floor() == FLOOR
    async with Redis.from_url(mirror.url) as other:
        await other.client_kill_filter(skipme=True, _type="normal")
    await asyncio.sleep(0.05)
    assert await mirror.floor() == FLOOR
    assert mirror.connection.reachable


async def test_an_answer_that_nobody_waited_for_is_no_other_asker_s(mirror: Mirror) -> None:
    await mirror.push(2, make_device())
    await mirror.connection.client.execute_command("CLIENT PAUSE 150 ALL")  # type: ignore[no-untyped-call]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(mirror.connection.call_one("standing", KEY, [1]), 0.05)
    assert await mirror.floor() == FLOOR
    assert mirror.connection.reachable


async def test_crowds_of_scripts_and_of_other_commands_leave_each_other_connections(mirror: Mirror) -> None:
    await mirror.push(2, make_device())
    for _ in range(3):
        answers = await asyncio.gather(
            *(mirror.connection.call_one("standing", KEY, [1]) for _ in range(60)),
            *(mirror.connection.ask([(KEY, lambda way: way.hget(KEY, "0"))]) for _ in range(60)),
        )
        headers = [header for (header,) in answers]
        assert AWAY not in headers
        assert len(set(headers)) == 1
    connected = len(await mirror.connection.client.client_list())
    assert connected <= SOCKETS


async def test_a_license_whose_push_was_lost_is_unknown_until_it_was_repaired(mirror: Mirror) -> None:
    await mirror.push(2, make_device())
    await mirror.connection.client.execute_command("CLIENT PAUSE 400 ALL")  # type: ignore[no-untyped-call]
    await mirror.push(3, make_device(state=DeviceState.RELEASED))
    await asyncio.sleep(PAUSE_S)
    assert (await mirror.seen(), await mirror.version()) == (Seen(None), None)
    await mirror.projection.repair()
    assert await mirror.connection.client.keys() == []
    await mirror.push(4, make_device("b"))
    assert await mirror.floor("b") == FLOOR


# --- Nonces ---------------------------------------------------------------------------------------------------


async def test_a_nonce_is_reused_when_it_comes_with_another_body(mirror: Mirror) -> None:
    nonces = Nonces(mirror.connection)
    asked = [(b"n", b"body"), (b"n", b"body"), (b"n", b"other"), (b"n", b"body"), (b"m", b"other")]
    assert [await nonces.is_reused(*REF, nonce=nonce, body=body) for nonce, body in asked] == [
        False,
        False,
        True,
        False,
        False,
    ]


async def test_another_license_may_use_the_same_nonce(mirror: Mirror) -> None:
    nonces = Nonces(mirror.connection)
    assert not await nonces.is_reused(*REF, nonce=b"n", body=b"body")
    assert not await nonces.is_reused(REF[0], device_id(REF[1], "x"), nonce=b"n", body=b"other")


async def test_a_nonce_is_remembered_for_the_whole_window_and_no_longer(mirror: Mirror) -> None:
    await Nonces(mirror.connection).is_reused(*REF, nonce=b"n", body=b"body")
    left_s = await mirror.connection.client.ttl(keys.nonce_key(*REF, b"n"))
    assert 300 < left_s <= 600


async def test_a_crowd_at_redis_waits_its_turn_and_takes_it_for_no_outage(mirror: Mirror) -> None:
    nonces = Nonces(mirror.connection)
    reused = await asyncio.gather(*(nonces.is_reused(*REF, nonce=b"n", body=b"%d" % n) for n in range(200)))
    assert reused.count(False) == 1
    assert mirror.connection.reachable


def test_a_license_and_its_nonces_share_one_slot_of_a_cluster() -> None:
    for number in range(2000):
        ref = REF[0], device_id(REF[1], str(number))
        license = keys.license_key(*ref)
        assert len(license) == 13
        assert key_slot(license) == key_slot(keys.nonce_key(*ref, b"n}")) == key_slot(b"{" + license + b"}")


def test_a_license_without_an_end_and_one_before_time_began_are_told_apart() -> None:
    def header(license: License) -> tuple[Any, ...]:
        return keys.unpack_header(keys.pack_header(1, license))

    assert header(make_license())[-1] == 0
    assert header(make_license(expires_at=datetime(1960, 1, 1, tzinfo=NOW.tzinfo)))[-1] == 1

"""What Redis reflects: the newest, nothing that was missed, and a yes only for what Postgres already promises."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from services.standalone.embedded import start_redis, wheel_valkey_binary
from shared.licensing.leases import DAY_S, FLOOR_AGE_S, FLOOR_MIN_LEASE_S
from shared.licensing.model import Change, Device, DeviceState, License, LicenseStatus, OnExpiry, Terms, device_id
from shared.seats import keys
from shared.seats.connection import PAUSE_S, RedisConnection
from shared.seats.nonces import Nonces
from shared.seats.projection import Clock, Projection, Seen, Standing
from tests.builders import NOW, REF, make_device, make_license, make_terms

SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
KEY = keys.license_key(*REF)


class Mirror:
    """A process with a projection of its own, whose clock and epoch the test sets."""

    def __init__(self, url: str) -> None:
        self.now: datetime = NOW
        self.epoch = 1
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
        generation, floor_s, heard_s, counter = keys.SEAT.unpack(value)
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
    assert await mirror.connection.client.hlen(KEY.decode()) == 1
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
    license, nonce = keys.license_key(*REF).decode(), keys.nonce_key(*REF, b"n").decode()
    tags = [key[key.index("{") + 1 : key.index("}")] for key in (license, nonce)]
    assert tags[0] == tags[1]
    assert len(tags[0]) >= 16


def test_a_license_without_an_end_and_one_before_time_began_are_told_apart() -> None:
    def header(license: License) -> tuple[Any, ...]:
        return keys.HEADER.unpack(keys.pack_header(1, license))

    assert header(make_license())[-1] == 0
    assert header(make_license(expires_at=datetime(1960, 1, 1, tzinfo=NOW.tzinfo)))[-1] == 1

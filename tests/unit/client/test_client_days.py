"""Hours and days in the life of a client, played: what the application sees, and what the server hears."""

import random
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import seatkeeper
from seatkeeper.state import Name
from shared.signing import base64url
from tests.unit.client.played import PlayedClock
from tests.unit.client.signed import DEVICE, FINGERPRINT, NOW, PRODUCT, ROOT, license_text
from tests.unit.client.vendor import LEASE_S, Server

HOUR = 3600.0
LOST = {"status": 410, "code": "LEASE_LOST"}


class Life:
    """A client on played time, beside a server; `changes` are the states that it called back with, and when."""

    def __init__(self, folder: Path, clock: PlayedClock | None = None, **server: Any) -> None:
        self.clock = clock or PlayedClock(NOW.timestamp(), allowed_s=0)
        self.server = Server(self.clock, **server)
        self._folder = folder
        self._start_s = self.clock.monotonic_s()
        self.changes: list[tuple[float, str, str | None]] = []

    def client(self) -> seatkeeper.Client:
        client = seatkeeper.Client(
            "https://licenses.example",
            product=PRODUCT,
            root_key=base64url.encode(ROOT.public).decode(),
            license_key="a key of sixteen characters",
            fingerprint=FINGERPRINT,
            directory=self._folder,
            transport=self.server,
            clock=self.clock,
            random=random.Random(7).random,
            language="en",
        )
        client.on_change(self._changed)
        return client

    def _changed(self, _old: seatkeeper.State, new: seatkeeper.State) -> None:
        self.changes.append((self.clock.monotonic_s() - self._start_s, new.name, new.reason))

    def beats(self) -> list[dict[str, Any]]:
        return [body for _, path, body in self.server.heard if path == "/v1/heartbeat"]

    def pauses(self) -> list[float]:
        times = [at_s for at_s, path, _ in self.server.heard if path == "/v1/heartbeat"]
        return [after - before for before, after in pairwise(times)]


async def test_it_beats_on_the_servers_schedule_and_counts(tmp_path: Path) -> None:
    life = Life(tmp_path)
    async with life.client() as license:
        await life.clock.play(24 * HOUR)
        assert license.lease is not None
        assert license.lease.valid_at(life.clock.wall_s() + LEASE_S / 2 - HOUR)

    assert [body["counter"] for body in life.beats()] == list(range(1, 25))
    assert len({body["nonce"] for body in life.beats()}) == 24
    assert set(life.pauses()) == {HOUR}
    assert [name for _, name, _ in life.changes] == ["active"]


async def test_an_outage_is_limited_until_the_lease_ends_and_passes_by_itself(tmp_path: Path) -> None:
    life = Life(tmp_path)
    async with life.client() as license:
        until = license.state.until
        life.server.away = True
        await life.clock.play(LEASE_S - 60)
        assert (license.state.name, license.state.until) == (Name.LIMITED, until)
        await life.clock.play(120)
        assert license.state.reason == "LEASE_ENDED"
        life.server.away = False
        await life.clock.play(HOUR + 60)
        assert license.state.name is Name.ACTIVE

    (_, limited, ended, active) = life.changes
    assert [change[1:] for change in (limited, ended, active)] == [
        ("limited", "UNREACHABLE"),
        ("pending", "LEASE_ENDED"),
        ("active", None),
    ]
    assert ended[0] == pytest.approx(LEASE_S, abs=1)


async def test_a_new_lease_of_another_activation_is_not_taken(tmp_path: Path) -> None:
    life = Life(tmp_path)
    async with life.client() as license:
        until = license.state.until
        life.server.leased_generation = 9
        await life.clock.play(LEASE_S - 60)
        assert (license.state.name, license.state.until) == (Name.LIMITED, until)
        life.server.leased_generation = None
        await life.clock.play(2 * HOUR)
        assert license.state.name is Name.ACTIVE


async def test_an_outage_makes_no_storm(tmp_path: Path) -> None:
    life = Life(tmp_path)
    async with life.client():
        life.server.away = True
        await life.clock.play(24 * HOUR)
    assert len(life.beats()) <= 24 * 4
    assert max(life.pauses()) <= HOUR
    soon = [at_s for at_s, _, _ in life.server.heard if at_s < life.server.heard[1][0] + 600]
    assert len(soon) <= 20


@pytest.mark.parametrize("reason", ["idle", "lease_expired"])
async def test_a_seat_lost_by_silence_is_asked_for_once_more_by_itself(tmp_path: Path, reason: str) -> None:
    life = Life(tmp_path)
    async with life.client() as license:
        life.server.told = [LOST | {"reason": reason}]
        await life.clock.play(HOUR)
        assert (license.state.name, license.generation) == (Name.ACTIVE, 2)
        await life.clock.play(HOUR)
        assert [body["deviceToken"][-1] for body in life.beats()] == ["1", "2"]
        assert [body["counter"] for body in life.beats()] == [1, 1]


@pytest.mark.parametrize("reason", ["user", "admin", "reset", "blocked", "forced", "superseded"])
async def test_a_seat_that_was_taken_away_is_not_asked_for_by_itself(tmp_path: Path, reason: str) -> None:
    life = Life(tmp_path)
    async with life.client() as license:
        life.server.told = [LOST | {"reason": reason} for _ in range(24)]
        await life.clock.play(6 * HOUR)
        assert (license.state.name, license.state.reason) == (Name.PENDING, "LEASE_LOST")
        assert life.server.generation == 1
        assert len(life.beats()) == 6
        life.server.away = True
    with pytest.raises(seatkeeper.Refused, match="LEASE_LOST"):
        await life.clock.freely(life.client().__aenter__())


async def test_a_token_that_nobody_knows_any_more_leads_to_one_new_activation(tmp_path: Path) -> None:
    life = Life(tmp_path)
    unknown = {"status": 401, "code": "TOKEN_INVALID"}
    async with life.client() as license:
        life.server.told = [unknown]
        await life.clock.play(HOUR)
        assert (license.state.name, license.generation) == (Name.ACTIVE, 2)
        life.server.told = [unknown] * 3
        await life.clock.play(HOUR)
        assert (license.state.name, license.generation) == (Name.ACTIVE, 3)


async def test_a_license_that_is_suspended_is_asked_after_at_the_schedule_and_comes_back(tmp_path: Path) -> None:
    life = Life(tmp_path)
    async with life.client():
        life.server.told = [{"status": 403, "code": "LICENSE_SUSPENDED"}] * 5
        await life.clock.play(6 * HOUR)
    assert [change[1:] for change in life.changes] == [
        ("active", None),
        ("pending", "LICENSE_SUSPENDED"),
        ("active", None),
    ]
    assert life.pauses() == [HOUR] * 5


async def test_a_license_file_needs_no_server_until_it_ends(tmp_path: Path) -> None:
    life = Life(tmp_path)
    client = life.client()
    client.offline.install(license_text(expiry=NOW + timedelta(hours=6)))
    life.server.away = True
    async with client as license:
        assert (license.state.name, license.state.reason) == (Name.ACTIVE, "OFFLINE_FILE")
        assert (license.device_id, license.generation, license.require("projects")) == (str(DEVICE), 2, 25)
        assert (await license.heartbeat()).reason == "OFFLINE_FILE"
        await life.clock.play(6 * HOUR - 1)
        assert license.state.reason == "OFFLINE_FILE"
        assert life.server.heard == []
        life.server.away = False
        await life.clock.play(31)
        assert str(license.state).startswith("Active until")
    assert [path for _, path, _ in life.server.heard] == ["/v1/activate"]


@pytest.mark.parametrize("was_online", [True, False])
async def test_a_seat_that_was_given_back_by_receipt_is_not_used_nor_taken_by_itself(
    tmp_path: Path, was_online: bool
) -> None:
    life = Life(tmp_path)
    life.server.generation = 2 - was_online
    if was_online:
        async with life.client():
            pass
    client = life.client()
    client.offline.request()
    client.offline.install(license_text())
    async with client as license:
        assert license.state.reason == "OFFLINE_FILE"
        license.offline.give_back()
        await life.clock.play(3 * HOUR)
        assert license.state.reason == "RELEASED"
        assert life.beats() == []
        assert life.server.generation == 2
        assert (await license.activate()).name is Name.ACTIVE
        assert license.generation == 3
        await life.clock.play(HOUR)
        assert len(life.beats()) == 1


async def test_a_clock_that_stands_still_gains_nothing(tmp_path: Path) -> None:
    life = Life(tmp_path)
    async with life.client() as license:
        life.server.away = True
        life.clock.wall_rate = 0
        await life.clock.play(LEASE_S - 60)
        assert (license.state.name, license.state.reason) == (Name.LIMITED, "CLOCK_FROZEN")
        await life.clock.play(120)
        assert license.state.reason == "LEASE_ENDED"


async def test_a_clock_that_is_set_back_at_each_start_gains_nothing(tmp_path: Path) -> None:
    life = Life(tmp_path)
    start_s = life.clock.wall_s()
    async with life.client():
        life.server.away = True
    for _ in range(4):
        life.clock.set_wall(start_s)
        license = await life.clock.freely(life.client().__aenter__())
        assert license.state.name is Name.LIMITED
        await life.clock.play(LEASE_S / 4)
        await license.close()
    life.clock.set_wall(start_s)
    with pytest.raises(seatkeeper.Unreachable):
        await life.clock.freely(life.client().__aenter__())


async def test_the_highest_time_seen_is_kept_though_the_program_is_killed(tmp_path: Path) -> None:
    life = Life(tmp_path)
    license = life.client()
    async with license:
        await life.clock.play(0.95 * HOUR)
        kept = license._keeper.seat.cache.read()
    assert kept is not None
    assert life.clock.wall_s() - kept.seen_s <= 600 + 30


async def test_a_callback_that_fails_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    life = Life(tmp_path)
    client = life.client()

    def fail(_old: seatkeeper.State, _new: seatkeeper.State) -> None:
        raise ValueError("the application's own")

    client.on_change(fail)
    unsubscribe = client.on_change(life._changed)
    async with client:
        unsubscribe()
        unsubscribe()
        life.server.away = True
        await life.clock.play(2 * HOUR)
    assert [name for _, name, _ in life.changes] == ["active", "active", "limited"]
    assert "callback" in caplog.text


async def test_logs_hold_no_secret(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    life = Life(tmp_path)
    async with life.client() as license:
        life.server.told = [LOST | {"reason": "user"}]
        await life.clock.play(2 * HOUR)
        life.server.away = True
        await life.clock.play(2 * HOUR)
        shown = caplog.text + repr(license.__dict__) + repr(license.lease) + repr(license.state)
    assert "LEASE_LOST" in caplog.text
    assert not any(secret in shown for secret in ("skd1.", "sixteen characters"))


async def test_a_refusal_that_nobody_signed_does_not_turn_time_back(tmp_path: Path) -> None:
    life = Life(tmp_path)
    async with life.client() as license:
        await life.clock.play(2 * LEASE_S)
        now_s = license._keeper.seat.time.wall_s()
        forged = {"status": 403, "code": "DEVICE_LIMIT_EXCEEDED", "mac": "x", "serverTime": "2020-01-01T00:00:00Z"}
        life.server.told_to_activations = [forged]
        with pytest.raises(seatkeeper.Refused):
            await life.clock.freely(license.activate())
        assert license._keeper.seat.time.wall_s() >= now_s


@pytest.mark.parametrize("told", [{"status": 503, "code": "Unavailable"}, {"status": 403, "code": "Forbidden"}])
async def test_a_gateways_own_words_do_not_end_a_working_day(tmp_path: Path, told: dict[str, Any]) -> None:
    life = Life(tmp_path)
    async with life.client():
        pass
    life.server.gateway_says = told
    license = await life.clock.freely(life.client().__aenter__())
    try:
        await life.clock.play(2 * HOUR)
        assert (license.state.name, license.state.reason) == (Name.LIMITED, "UNREACHABLE")
        life.server.gateway_says = None
        await life.clock.play(2 * HOUR)
        assert license.state.name is Name.ACTIVE
    finally:
        await license.close()

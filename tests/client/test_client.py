"""The client against the real services: a seat is taken, kept, lost and found again."""

import asyncio
import errno
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

import seatkeeper
from seatkeeper import private_files
from seatkeeper.clock import SystemClock
from seatkeeper.state import Name
from shared.licensing.model import Approval, Kind, OfflineAlgorithm, OnClone, Reinstate, Rules, Suspend
from tests.client.conftest import Application, tried
from tests.client.ways import Way
from tests.platform import Platform, eventually

pytest_plugins = ["tests.platform"]

Applications = Callable[..., Awaitable[Application]]


def way(application: Application, **options: Any) -> Way:
    return Way(application.url, **options)


def names(license: seatkeeper.Client) -> list[str]:
    """Gathers the changes of its state from now on."""
    changes: list[str] = []

    def changed(old: seatkeeper.State, new: seatkeeper.State) -> None:
        changes.append(f"{new.name}:{new.reason}")

    license.on_change(changed)
    return changes


async def test_an_application_holds_a_seat_while_it_is_open(applications: Applications) -> None:
    application = await applications(seats=2)

    async with application.client() as license:
        assert str(license.state).startswith("Active until ")
        assert license.lease is not None
        assert license.generation == license.lease.generation == 1
        assert license.device_id == license.lease.device_id
        assert (await license.heartbeat()).name is Name.ACTIVE
        assert await application.seats_used() == 1

    assert await application.seats_used() == 1
    async with application.client() as license:
        assert license.generation == 1
    async with application.client(release_at_exit=True):
        pass
    assert await application.seats_used() == 0


async def test_features_are_what_the_lease_says(applications: Applications) -> None:
    application = await applications(rules=Rules(entitlements={"export": None, "projects": 25}))

    async with application.client(entitlements=["export"]) as license:
        assert dict(license.entitlements) == {"export": None, "projects": 25}
        assert (seatkeeper.require("export"), seatkeeper.require("projects")) == (None, 25)
        with pytest.raises(seatkeeper.EntitlementMissing, match="does not cover print"):
            license.require("print")
        await license.release()
        with pytest.raises(seatkeeper.EntitlementMissing, match="not in force"):
            license.require("export")
    with pytest.raises(seatkeeper.Refused) as refused:
        await application.client(entitlements=["print"]).__aenter__()
    assert refused.value.code == "ENTITLEMENT_MISSING"


# --- Outcomes that are unknown ----------------------------------------------------------------------------------


async def test_an_activation_whose_answers_are_lost_is_said_again_and_costs_one_seat(
    applications: Applications,
) -> None:
    application = await applications(seats=3)
    bad = way(application, lose=3)

    async with application.client(transport=bad, random=lambda: 0.01) as license:
        assert license.generation == 1

    bodies = bad.bodies("/v1/activate")
    assert tried(len(bodies), 4)
    assert len(set(bodies)) == 1
    assert await application.seats_used() == 1


@pytest.mark.calm
async def test_what_a_program_asked_before_it_was_killed_is_resolved_at_its_next_start(
    applications: Applications,
) -> None:
    application = await applications(seats=3)
    before = way(application, lose=1000)
    with pytest.raises(seatkeeper.Unreachable):
        await application.client(transport=before, activation_timeout_s=0.2).__aenter__()
    assert await application.seats_used() == 1

    after = way(application)
    async with application.client(transport=after) as license:
        assert license.generation == 1

    assert after.bodies("/v1/activate") == before.bodies("/v1/activate")[:1]
    assert await application.seats_used() == 1


@pytest.mark.calm
async def test_a_seat_that_ended_before_its_outcome_was_known_is_asked_for_anew(applications: Applications) -> None:
    application = await applications(seats=3)
    before = way(application, lose=1000)
    with pytest.raises(seatkeeper.Unreachable):
        await application.client(transport=before, activation_timeout_s=0.2).__aenter__()
    (device,) = (await application.platform.api.devices(application.grant.key)).ok()["devices"]
    (await application.platform.api.deactivate(application.grant.key, device["deviceId"])).ok()

    async with application.client() as license:
        assert (license.state.name, license.generation) == (Name.ACTIVE, 2)


@pytest.mark.calm
async def test_a_return_of_the_seat_whose_answer_was_lost_is_resolved_at_the_next_start(
    applications: Applications,
) -> None:
    application = await applications(seats=1)
    bad = way(application)
    async with application.client(transport=bad) as license:
        bad.lose = 1000
        with pytest.raises(seatkeeper.Unreachable):
            await asyncio.wait_for(license._keeper.release(deadline_s=0.1), 5)
        assert license.state.reason == "RELEASED"
    bad.cut = True
    with pytest.raises(seatkeeper.Unreachable):  # it may be somebody else's seat by now
        await application.client(transport=bad, activation_timeout_s=0.1).__aenter__()

    async with application.client() as license:
        assert (license.state.name, license.generation) == (Name.ACTIVE, 2)


async def test_a_return_that_never_left_keeps_the_seat(applications: Applications) -> None:
    application = await applications(seats=1)
    bad = way(application)
    async with application.client(transport=bad) as license:
        bad.cut = True
        with pytest.raises(seatkeeper.Unreachable):
            await license._keeper.release(deadline_s=0.1)
        assert license.state.usable
        bad.cut = False
        assert (await license.heartbeat()).name is Name.ACTIVE
        assert license.generation == 1


# --- The server out of reach ------------------------------------------------------------------------------------


async def test_it_goes_on_by_the_lease_while_the_server_is_away_and_comes_back(applications: Applications) -> None:
    application = await applications()
    line = way(application)
    async with application.client(transport=line, random=lambda: 0.0) as license:
        changes, until = names(license), license.state.until
        line.cut = True
        with pytest.raises(seatkeeper.Unreachable):
            await license.heartbeat()
        assert license.state == seatkeeper.State(
            name=Name.LIMITED, reason="UNREACHABLE", detail=license.state.detail, until=until
        )
        assert license.state.usable
        line.cut = False
        await eventually(lambda: _is(license, Name.ACTIVE))  # by itself: the heartbeat comes sooner after a failure
        assert changes == ["limited:UNREACHABLE", "active:None"]

    line.cut = True
    async with application.client(transport=line) as license:
        assert license.state.name is Name.LIMITED
        line.cut = False
        assert (await license.activate()).name is Name.ACTIVE


async def _is(license: seatkeeper.Client, name: Name) -> bool:
    return license.state.name is name


async def test_without_server_and_lease_it_does_not_start(applications: Applications) -> None:
    application = await applications()
    with pytest.raises(seatkeeper.Unreachable, match="no way"):
        await application.client(transport=way(application, cut=True), activation_timeout_s=0.3).__aenter__()


# --- What the server says ---------------------------------------------------------------------------------------


async def test_a_suspension_ends_the_work_at_once_outlasts_a_restart_and_passes(applications: Applications) -> None:
    application = await applications(rules=Rules(entitlements={"export": None}))
    line = way(application)
    async with application.client(transport=line) as license:
        changes = names(license)
        await application.vendor.licenses.set_status(application.grant.ref, Suspend)
        with pytest.raises(seatkeeper.Refused):
            await license.heartbeat()
        assert (license.state.name, license.state.reason) == (Name.PENDING, "LICENSE_SUSPENDED")
        assert license.state.detail
        assert not license.entitlements

    line.cut = True
    with pytest.raises(seatkeeper.Refused) as refused:
        await application.client(transport=line).__aenter__()
    assert refused.value.code == "LICENSE_SUSPENDED"

    line.cut = False
    await application.vendor.licenses.set_status(application.grant.ref, Reinstate)
    async with application.client(transport=line) as license:
        await application.vendor.licenses.set_status(application.grant.ref, Suspend)
        with pytest.raises(seatkeeper.Refused):
            await license.heartbeat()
        await application.vendor.licenses.set_status(application.grant.ref, Reinstate)
        assert (await license.heartbeat()).name is Name.ACTIVE
        assert license.entitlements
    assert changes == ["pending:LICENSE_SUSPENDED"]


async def test_a_seat_that_was_taken_away_is_not_taken_again_by_itself(applications: Applications) -> None:
    application = await applications()
    async with application.client() as license:
        await application.vendor.licenses.release(application.grant.ref, UUID(license.device_id), forced=False)
        for _ in range(2):
            with pytest.raises(seatkeeper.Refused) as refused:
                await license.heartbeat()
            assert (refused.value.code, refused.value.members["reason"]) == ("LEASE_LOST", "admin")
        assert license.state.reason == "LEASE_LOST"
        assert await application.seats_used() == 0

        assert (await license.activate()).name is Name.ACTIVE
        assert license.generation == 2


async def test_a_full_license_is_refused_with_what_the_server_says(applications: Applications) -> None:
    application = await applications(seats=1)
    line = way(application)
    async with application.client():
        with pytest.raises(seatkeeper.Refused) as refused:
            await application.client("another", transport=line).__aenter__()
    assert (refused.value.code, refused.value.members["limit"]) == ("DEVICE_LIMIT_EXCEEDED", 1)
    assert tried(len(line.sent), 1)


async def test_a_device_waits_for_its_approval(applications: Applications) -> None:
    application = await applications(approval=Approval.ALLOW_LIST)
    async with application.client() as license:
        assert (license.state.name, license.state.reason) == (Name.PENDING, "WAITING_FOR_APPROVAL")
        await application.vendor.licenses.approve(application.grant.ref, "laptop")
        assert (await license.heartbeat()).name is Name.ACTIVE


async def test_a_token_that_has_ended_is_no_matter_to_a_device_that_has_its_seat(applications: Applications) -> None:
    application = await applications()
    token = await application.vendor.token(application.grant, max_uses=1)
    async with application.client(license_key=None, token=token.token):
        await application.vendor.licenses.revoke_token(application.vendor.account, token.id)
    async with application.client(license_key=None, token=token.token) as license:
        assert (license.state.name, license.generation) == (Name.ACTIVE, 1)
    with pytest.raises(seatkeeper.Refused) as refused:
        await application.client("another", license_key=None, token=token.token).__aenter__()
    assert refused.value.code == "TOKEN_REVOKED"


async def test_an_answer_that_is_not_the_servers_own_is_none(applications: Applications) -> None:
    application = await applications()
    line = way(application)
    async with application.client(transport=line, random=lambda: 0.0) as license:
        line.alter = lambda members: members.update(validUntil="2099-01-01T00:00:00Z")
        with pytest.raises(seatkeeper.Unreachable):
            await license.heartbeat()
        assert license.state.name is Name.LIMITED
        line.alter = lambda members: members.update(code="LICENSE_REVOKED", status=403)
        with pytest.raises(seatkeeper.Unreachable):
            await license.heartbeat()
        assert license.state.name is Name.LIMITED


@pytest.mark.parametrize("wrong", [{"product": ""}, {"license_key": "a key", "token": "a token"}])
async def test_what_cannot_be_right_is_told_before_anything_is_sent(
    applications: Applications, wrong: dict[str, str]
) -> None:
    application = await applications()
    with pytest.raises(seatkeeper.ConfigurationError):
        application.client(**wrong)


@pytest.mark.calm  # an answer that comes a second time does not say that the seat is new
async def test_a_lease_of_another_vendor_gives_nothing_and_takes_no_seat(applications: Applications) -> None:
    application, stranger = await applications(), await applications()
    with pytest.raises(seatkeeper.NotGenuine):
        await application.client(root_key=stranger.options()["root_key"]).__aenter__()
    assert await application.seats_used() == 0
    async with application.client():
        with pytest.raises(seatkeeper.NotGenuine):
            await application.client(root_key=stranger.options()["root_key"]).__aenter__()
        assert await application.seats_used() == 1


# --- Time -------------------------------------------------------------------------------------------------------


class ShiftedClock(SystemClock):
    def __init__(self, *, days: float) -> None:
        self.days = days

    def wall_s(self) -> float:
        return time.time() + self.days * 86_400


@pytest.mark.parametrize(("days", "reason"), [(-700.0, "CLOCK_SET_BACK"), (700.0, None)])
async def test_a_clock_that_is_wrong_costs_nobody_a_seat_or_a_lease(
    applications: Applications, days: float, reason: str | None
) -> None:
    application = await applications(seats=3)
    for _ in range(2):
        async with application.client(clock=ShiftedClock(days=days)) as license:
            assert (license.state.name, license.state.reason) == (Name.ACTIVE, reason)
            assert (await license.heartbeat()).usable
    assert await application.seats_used() == 1


async def test_setting_the_clock_back_is_noticed_and_gains_nothing(applications: Applications) -> None:
    application = await applications()
    line, clock = way(application), ShiftedClock(days=0)
    async with application.client(transport=line, clock=clock, random=lambda: 0.0) as license:
        until = license.state.until
        line.cut = True
        with pytest.raises(seatkeeper.Unreachable):
            await license.heartbeat()
        clock.days = -5
        assert (license.state.name, license.state.reason) == (Name.LIMITED, "CLOCK_SET_BACK")
        assert license.state.until == until
        clock.days = 7.1
        assert (license.state.name, license.state.reason) == (Name.PENDING, "LEASE_ENDED")
    clock.days = 0  # the end was seen
    with pytest.raises(seatkeeper.Unreachable):
        await application.client(transport=line, clock=clock, activation_timeout_s=0.1).__aenter__()
    line.cut = False
    async with application.client(transport=line, clock=clock) as license:
        assert (license.state.name, license.state.reason) == (Name.ACTIVE, None)


async def test_a_seat_lost_by_silence_is_taken_again(fresh_platform: Platform, tmp_path: Any) -> None:
    vendor = await fresh_platform.vendor()
    grant = await vendor.license(seats=1)
    application = Application(
        url=fresh_platform.api.url, platform=fresh_platform, vendor=vendor, grant=grant, folder=tmp_path / "state"
    )
    async with application.client() as license:
        await fresh_platform.move_clock(days=100)
        async with application.client("another", release_at_exit=True):
            pass
        state = await license.heartbeat()
        assert (state.name, license.generation) == (Name.ACTIVE, 2)
        assert await application.seats_used() == 1


# --- Back from a license file ------------------------------------------------------------------------------------


@pytest.mark.parametrize("releases", [None, 0])
async def test_a_receipt_that_nobody_sent_does_not_end_a_seat_that_was_taken_online(
    applications: Applications, releases: int | None
) -> None:
    rules = Rules(offline_max_days=30, offline_algorithm=OfflineAlgorithm.ED25519, releases_per_year=releases)
    application = await applications(seats=1, rules=rules)
    async with application.client() as license:
        request = license.offline.request()
        license.offline.install(await license.api.offline_activate(application.grant.key, request.members))
        assert (await license.activate()).reason == "OFFLINE_FILE"
        receipt = license.offline.give_back()

        assert (await license.activate()).name is Name.ACTIVE
        assert license.generation == 2
        await license.api.offline_return(receipt.members)
        assert (await license.heartbeat()).name is Name.ACTIVE
    async with application.client() as license:
        assert (license.state.name, license.generation) == (Name.ACTIVE, 2)
    assert await application.seats_used() == 1


# --- The cache --------------------------------------------------------------------------------------------------


async def test_a_cache_that_is_damaged_is_set_aside(applications: Applications) -> None:
    application = await applications()
    async with application.client() as license:
        path = license.directory / "state.bin"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)

    async with application.client() as license:
        assert (license.state.name, license.generation) == (Name.ACTIVE, 1)
    assert [aside.read_bytes() for aside in path.parent.glob("state.bin.corrupt-*")] == [bytes(damaged)]


async def test_the_cache_of_another_device_does_not_open(applications: Applications) -> None:
    application = await applications()
    async with application.client("laptop") as license:
        id = license.device_id
    shutil.copytree(application.folder / "laptop", application.folder / "copy")

    line = way(application, cut=True)
    with pytest.raises(seatkeeper.Unreachable):
        await application.client("copy", transport=line, activation_timeout_s=0.1).__aenter__()
    async with application.client("copy") as license:
        assert license.device_id != id
    assert await application.seats_used() == 2


async def test_processes_of_one_device_share_its_seat_and_its_count(applications: Applications) -> None:
    application = await applications(rules=Rules(on_clone=OnClone.REFUSE), kind=Kind.FLOATING, lease_s=60)
    async with (
        application.client(release_at_exit=True) as one,
        application.client(release_at_exit=True) as two,
        application.client(release_at_exit=True) as three,
    ):
        await asyncio.gather(*(license.heartbeat() for license in (one, two, three) for _ in range(5)))
        for license in (one, one, one, two, one, two):  # a count that goes back is refused
            await license.heartbeat()
        assert {license.generation for license in (one, two, three)} == {1}
        assert {license.state.name for license in (one, two, three)} == {Name.ACTIVE}
        await two.close()
        assert await application.seats_used() == 1
    assert await application.seats_used() == 0
    (noted,) = await application.platform.rows(
        "SELECT clone_suspected_at FROM device WHERE license_id = $1", application.grant.id
    )
    assert noted["clone_suspected_at"] is None


async def test_a_folder_that_cannot_be_written_costs_nothing_but_the_memory(applications: Applications) -> None:
    application = await applications()
    application.folder.mkdir()
    (application.folder / "laptop").write_text("a file where the folder has to be")
    async with application.client() as license:
        assert license.state.name is Name.ACTIVE
        assert (await license.heartbeat()).name is Name.ACTIVE


async def test_a_disk_that_is_full_does_not_bring_back_what_was(
    applications: Applications, monkeypatch: pytest.MonkeyPatch
) -> None:
    application = await applications()

    def full(_path: Path, _data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with application.client() as license:
        monkeypatch.setattr(private_files, "write", full)
        await license.release()
        await license.activate()
        assert (await license.heartbeat()).name is Name.ACTIVE
        assert license.generation == 2

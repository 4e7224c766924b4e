"""Offline by a file, the client against the real server: out, running without a network, and back.

The device has no network here: it is an `Offline` in a folder of its own, and later a client whose transport fails the
test. The holder's machine, which has one, is an `Api` of the SDK.
"""

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import seatkeeper
from seatkeeper import qr
from seatkeeper.api import Api
from seatkeeper.clock import SystemClock
from seatkeeper.errors import NotGenuine, Refused, TransportError, Unreachable
from seatkeeper.http import HttpTransport
from seatkeeper.license_file import FileFault
from seatkeeper.offline import Offline
from seatkeeper.offline_faults import OfflineFault
from seatkeeper.signatures import read_root_key
from seatkeeper.transport import Request, Response
from shared.licensing.model import OfflineAlgorithm, Rules
from tests.client.conftest import Application, tried
from tests.invariants import check_invariants
from tests.platform import PRODUCT

pytest_plugins = ["tests.platform"]

DAY_S = 86_400.0
RULES = Rules(offline_max_days=30, offline_algorithm=OfflineAlgorithm.ED25519)
Applications = Callable[..., Awaitable[Application]]


class Ahead(SystemClock):
    """The machine's clock, set ahead."""

    ahead_s = 0.0

    def wall_s(self) -> float:
        return time.time() + self.ahead_s

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.ahead_s


class NoNetwork:
    """What a device without a network has; `tries` are counted."""

    tries = 0

    async def send(self, request: Request) -> Response:
        self.tries += 1
        raise TransportError("there is no network here", kind="connect", sent=False)

    async def close(self) -> None:
        pass


class LosesAnswers(HttpTransport):
    """The first answers do not arrive; what they answered was done."""

    to_lose = 2

    async def send(self, request: Request) -> Response:
        response = await super().send(request)
        if self.to_lose:
            self.to_lose -= 1
            raise TransportError("the connection was reset", kind="reset")
        return response


def device(application: Application, fingerprint: str = "laptop", folder: str | None = None) -> Offline:
    return Offline(
        application.folder / (folder or fingerprint),
        product=PRODUCT,
        root_public=read_root_key(json.dumps(application.vendor.root_key)),
        fingerprint=fingerprint,
        name="Ada's laptop",
    )


@asynccontextmanager
async def holder(application: Application, transport: HttpTransport | None = None) -> AsyncIterator[Api]:
    api = Api(transport or HttpTransport(application.url), clock=SystemClock(), random=lambda: 0.0)
    try:
        yield api
    finally:
        await api.close()


async def refusal(answer: Awaitable[object]) -> Refused:
    with pytest.raises(Refused) as raised:
        await answer
    return raised.value


def refused_here(offline: Offline, file: bytes) -> object:
    with pytest.raises(NotGenuine) as raised:
        offline.install(file)
    return raised.value.args[0]


@pytest.mark.parametrize("algorithm", OfflineAlgorithm)
async def test_a_device_runs_without_a_network_until_its_file_ends(
    applications: Applications, algorithm: OfflineAlgorithm
) -> None:
    rules = Rules(offline_max_days=30, offline_algorithm=algorithm, entitlements={"export": None, "projects": 5})
    application = await applications(rules=rules)
    here = device(application)
    async with holder(application) as api:
        file = await api.offline_activate(application.grant.key, here.request(days=10).members)
    installed = here.install(file)
    assert installed.expiry - installed.issued == timedelta(days=10)

    clock, network = Ahead(), NoNetwork()
    changes: dict[str, Any] = {"license_key": None, "clock": clock, "transport": network}
    async with application.client(**changes) as license:
        assert (license.state.name, license.state.reason) == (seatkeeper.Name.ACTIVE, "OFFLINE_FILE")
        assert license.state.until == installed.expiry
        assert license.require("projects") == 5
        assert license.device_id == installed.device_id
    clock.ahead_s = 9.9 * DAY_S
    async with application.client(**changes) as license:
        assert license.state.reason == "OFFLINE_FILE"
        clock.ahead_s = 10 * DAY_S
        assert not license.state.usable
    assert network.tries == 0
    with pytest.raises(seatkeeper.ConfigurationError):
        await application.client(**changes).__aenter__()


async def test_a_seat_is_held_while_the_file_lives_and_free_when_it_was_given_back(applications: Applications) -> None:
    application = await applications(seats=1, rules=RULES)
    key = application.grant.key
    here = device(application)
    async with holder(application) as api:
        file = await api.offline_activate(key, here.request().members)
        installed = here.install(file)
        held = await refusal(api.deactivate(installed.device_id, key))
        assert (held.code, held.members["until"]) == ("OFFLINE_HELD", json.loads(file)["expiry"])
        assert (await refusal(api.offline_activate(key, device(application, "desktop").request().members))).code == (
            "DEVICE_LIMIT_EXCEEDED"
        )
        receipt = here.give_back()
        assert await application.seats_used() == 1
        for _ in range(2):
            assert await api.offline_return(receipt.members) == {"success": True}
        assert await application.seats_used() == 0
        assert here.installed() is None
        assert refused_here(here, file) is OfflineFault.GIVEN_BACK

        again = here.install(await api.offline_activate(key, here.request().members))
        assert (again.device_id, again.generation) == (installed.device_id, installed.generation + 1)
        assert await api.offline_return(receipt.members) == {"success": True}
        assert await application.seats_used() == 1
        assert here.installed() == again
        await api.offline_return(here.give_back().members)
        assert await application.seats_used() == 0


@pytest.mark.parametrize("is_sent", [True, False])
async def test_a_return_that_frees_no_seat_costs_the_device_no_day(applications: Applications, is_sent: bool) -> None:
    """Refused as one too many in a year, or never handed in: the next file is of the same seat's next generation."""
    rules = Rules(offline_max_days=30, offline_algorithm=OfflineAlgorithm.ED25519, releases_per_year=0)
    application = await applications(rules=rules, seats=1)
    here, key = device(application), application.grant.key
    async with holder(application) as api:
        first = here.install(await api.offline_activate(key, here.request().members))
        receipt = here.give_back()
        if is_sent:
            assert (await refusal(api.offline_return(receipt.members))).code == "RELEASE_LIMIT_EXCEEDED"
        request = here.request()
        again = here.install(await api.offline_activate(key, request.members))
        assert (again.device_id, again.generation) == (first.device_id, first.generation + 1)
        assert json.loads(await api.offline_activate(key, request.members))["generation"] == again.generation
        assert await api.offline_return(receipt.members) == {"success": True}
    assert here.installed() == again
    assert await application.seats_used() == 1
    await check_invariants(application.platform.database)


async def test_a_receipt_of_one_license_stands_in_no_request_for_another_ones_way(applications: Applications) -> None:
    application = await applications(rules=RULES)
    other = await application.vendor.license(rules=RULES)
    here = device(application)
    async with holder(application) as api:
        first = here.install(await api.offline_activate(application.grant.key, here.request().members))
        here.give_back()
        second = here.install(await api.offline_activate(other.key, here.request().members))
    assert (second.generation, second.license_id) == (1, str(other.id))
    assert second.device_id != first.device_id
    assert await application.seats_used() == 1


async def test_a_client_stops_when_the_file_under_it_is_given_back(applications: Applications) -> None:
    application = await applications(rules=RULES)
    async with application.client() as online:
        file = await online.api.offline_activate(application.grant.key, online.offline.request().members)
        online.offline.install(file)
        await online.activate()
        assert online.state.reason == "OFFLINE_FILE"
    here = device(application)
    receipt = here.give_back()
    async with holder(application) as api:
        await api.offline_return(receipt.members)
    assert await application.seats_used() == 0
    with pytest.raises(Unreachable):
        await application.client(transport=NoNetwork(), activation_timeout_s=0.1).__aenter__()


async def test_the_same_request_gets_the_same_file_also_when_answers_are_lost(applications: Applications) -> None:
    application = await applications(rules=RULES)
    here = device(application)
    request = here.request()
    async with holder(application, LosesAnswers(application.url)) as api:
        file = await api.offline_activate(application.grant.key, request.members)
        assert tried(api.attempts, 3)
        assert await api.offline_activate(application.grant.key, json.loads(request.data)) == file
    assert here.install(file) == here.install(file)
    assert await application.seats_used() == 1


async def test_qr_codes_carry_all_three_as_well_as_files_do(applications: Applications) -> None:
    application = await applications(rules=RULES)
    here = device(application)
    async with holder(application) as api:
        file = await api.offline_activate(application.grant.key, json.loads(here.request().qr().text))
        here.install(qr.encode(file).text.encode())
        assert await api.offline_return(json.loads(here.give_back().qr().text)) == {"success": True}
    assert await application.seats_used() == 0


async def test_the_file_the_request_and_the_receipt_of_another_device_do_not_work(applications: Applications) -> None:
    application = await applications(rules=RULES)
    key = application.grant.key
    laptop, desktop = device(application), device(application, "desktop")
    async with holder(application) as api:
        file = await api.offline_activate(key, laptop.request().members)
        laptop.install(file)
        assert refused_here(desktop, file) is FileFault.OTHER_DEVICE

        another_key = device(application, "laptop", folder="copied")
        held = await refusal(api.offline_activate(key, another_key.request().members))
        assert held.code == "OFFLINE_HELD"
        stolen = laptop.request().members | {"deviceKey": another_key.request().members["deviceKey"]}
        assert (await refusal(api.offline_activate(key, stolen))).code == "REQUEST_INVALID"

        another_key.install(file)
        forged = another_key.give_back()
        assert (await refusal(api.offline_return(forged.members))).code == "REQUEST_INVALID"
        assert await application.seats_used() == 1
        assert await api.offline_return(laptop.give_back().members) == {"success": True}


async def test_another_vendors_file_is_not_installed(applications: Applications, tmp_path: Path) -> None:
    ours, theirs = await applications(), await applications(rules=RULES)
    async with holder(theirs) as api:
        file = await api.offline_activate(theirs.grant.key, device(theirs).request().members)
    assert refused_here(device(ours, folder="ours"), file) is FileFault.UNTRUSTED

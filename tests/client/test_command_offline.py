"""The command without a network: a request, a license file, a receipt, on two machines."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from services.standalone.embedded import free_port
from shared.licensing.model import Rules
from tests.client.commands import Command, command_of
from tests.client.conftest import Application

pytest_plugins = ["tests.platform"]


@pytest.fixture
async def application(applications: Callable[..., Awaitable[Application]]) -> Application:
    return await applications(seats=1, rules=Rules(offline_max_days=30))


@pytest.fixture
def island(application: Application) -> Command:
    """A machine without a network, and without the license key."""
    command = command_of(application, "island", key=False)
    return replace(command, variables=command.variables | {"SEATKEEPER_URL": f"http://127.0.0.1:{free_port()}"})


@pytest.fixture
def mainland(application: Application) -> Command:
    return command_of(application, "mainland")


async def test_a_machine_goes_offline_and_returns_its_seat_by_files(
    application: Application, island: Command, mainland: Command
) -> None:
    folder = application.folder.parent
    request, file, receipt = (folder / name for name in ("request.json", "license.json", "receipt.json"))

    asked = await island("offline", "request", "--days", 20, "-o", request, "--name", "Island")
    assert asked.code == 0, asked
    assert "seatkeeper offline activate request.json" in asked.err
    answered = (await mainland("offline", "activate", request, "-o", file, "--json")).ok()
    assert (answered["bytes"], answered["generation"]) == (file.stat().st_size, 1)
    first = file.read_bytes()
    assert (await mainland("offline", "activate", request, "-o", file)).code == 0
    assert file.read_bytes() == first

    assert (await island("offline", "install", file, "--json")).ok()["expiry"] == answered["expiry"]
    here = (await island("status", "--json")).ok()
    assert (here["state"], here["reason"], here["validUntil"]) == ("active", "OFFLINE_FILE", answered["expiry"])
    assert await application.seats_used() == 1
    assert (await mainland("activate", "--json")).ok(3)["error"]["code"] == "DEVICE_LIMIT_EXCEEDED"

    assert (await island("offline", "return", "-o", receipt)).code == 2
    assert (await island("offline", "return", "-o", receipt, "--yes", "--json")).ok()["file"] == str(receipt)
    assert (await island("offline", "install", file, "--json")).ok(7)["error"]["code"] == "NOT_GENUINE"
    assert await application.seats_used() == 1
    sent = await mainland("offline", "send", "-", "--json", stdin=receipt.read_bytes())
    assert sent.ok().items() >= {"sent": True, "deviceId": answered["deviceId"]}.items()
    assert (await mainland("offline", "send", receipt)).code == 0
    assert await application.seats_used() == 0


async def test_what_is_not_whole_is_told_apart(application: Application, island: Command, mainland: Command) -> None:
    folder = application.folder.parent
    request, file = folder / "request.json", folder / "license.json"
    assert (await island("offline", "request", "-o", request)).code == 0
    assert (await mainland("offline", "activate", request, "-o", file)).code == 0
    altered = json.loads(file.read_bytes()) | {"expiry": "2099-01-01T00:00:00Z"}
    wrong = await island("offline", "install", "-", "--language", "zh", stdin=json.dumps(altered))
    assert (wrong.code, wrong.out) == (7, "")
    assert "许可证" in wrong.err
    assert (await mainland("offline", "send", folder / "nowhere.json")).code == 2
    assert (await mainland("offline", "activate", "-", stdin=b"{")).code == 2
    assert (await island("offline", "return", "--yes")).code == 2
    with_another_root = {"SEATKEEPER_ROOT_KEY": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    distrusted = await mainland("offline", "activate", request, "-o", folder / "other.json", **with_another_root)
    assert distrusted.code == 7
    assert not (folder / "other.json").exists()


async def test_files_travel_as_qr_codes_and_over_pipes(application: Application, island: Command) -> None:
    folder = application.folder.parent
    piped = await island("offline", "request", "-o", "-", "--qr")
    assert piped.json["form"] == "seatkeeper-offline-request/1"
    assert "█" in piped.err or "▄" in piped.err
    drawn = await island("offline", "request", "-o", folder / "r.json", "--qr-file", folder / "r.svg", "--json")
    assert drawn.ok()["qrFiles"] == [str(folder / "r.svg")]
    assert b"<svg" in (folder / "r.svg").read_bytes()
    shown = await island("offline", "request", "-o", folder / "r.json", "--qr-file", folder / "r.png")
    assert (shown.code, str(folder / "r.png") in shown.out) == (0, True)
    assert (await island("offline", "request", "-o", folder / "r.json", "--qr-file", folder / "r.gif")).code == 2


async def test_a_machine_with_a_network_returns_its_file_at_once(application: Application, mainland: Command) -> None:
    folder = application.folder.parent
    request, file = folder / "request.json", folder / "license.json"
    assert (await mainland("offline", "request", "-o", request)).code == 0
    assert (await mainland("offline", "activate", request, "-o", file)).code == 0
    assert (await mainland("offline", "install", file)).code == 0
    state = (await mainland("status", "--json")).ok()
    assert (state["state"], state["reason"]) == ("active", "OFFLINE_FILE")
    held = await mainland("deactivate", "--json")
    assert held.ok(3)["error"]["code"] == "OFFLINE_HELD"
    assert "seatkeeper offline return" in held.err
    assert (await mainland("offline", "return", "-o", folder / "receipt.json", "--send", "--yes")).code == 0
    assert await application.seats_used() == 0

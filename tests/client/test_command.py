"""The command over the real services: each verb, its words, its JSON and its exit codes."""

import asyncio
import json
import stat
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from seatkeeper.cache import Cache
from services.standalone.embedded import free_port
from shared.licensing.model import Approval, Suspend
from tests.client.commands import Command, Ran, command_of
from tests.client.conftest import Application
from tests.platform import PRODUCT, mistyped

pytest_plugins = ["tests.platform"]

Applications = Callable[..., Awaitable[Application]]


@pytest.fixture
async def application(applications: Applications) -> Application:
    return await applications(seats=2)


@pytest.fixture
def seatkeeper(application: Application) -> Command:
    return command_of(application)


async def test_a_machine_is_activated_once_and_needs_no_options_afterwards(application: Application) -> None:
    bare = replace(command_of(application, key=False), variables={"SEATKEEPER_FINGERPRINT": "laptop"})
    key_file = application.folder.parent / "key.txt"
    key_file.write_text(f"{application.grant.key}\n")
    root_key = json.dumps(application.vendor.root_key)
    told = ("--url", application.url, "--product", PRODUCT, "--root-key", root_key)

    first = await bare("activate", *told, "--key-file", key_file, "--name", "Ada's laptop")
    assert first.code == 0, first
    assert "State          Active" in first.out
    assert f"Written to {bare.config}" in first.err
    assert stat.S_IMODE(bare.config.stat().st_mode) == 0o600
    assert application.grant.key not in first.out + first.err

    again = (await bare("activate", "--json")).ok()
    assert (again["state"], again["saved"]) == ("active", None)
    assert (await bare("status")).code == 0
    assert await application.seats_used() == 1
    (device,) = (await bare("devices", "--json")).ok()["devices"]
    assert (device["name"], device["deviceId"]) == ("Ada's laptop", again["deviceId"])


async def test_the_key_comes_over_stdin_too(application: Application) -> None:
    bare = command_of(application, key=False)
    ran = await bare("activate", "--key-file", "-", "--json", stdin=application.grant.key + "\n")
    assert ran.ok()["state"] == "active"
    assert application.grant.key in bare.config.read_text()


async def test_an_activation_token_will_do(application: Application) -> None:
    token = (await application.vendor.token(application.grant)).token
    bare = command_of(application, key=False)
    assert (await bare("activate", "--token-file", "-", "--json", stdin=token)).ok()["state"] == "active"
    assert (await bare("status", "--json")).ok()["state"] == "active"
    refused = await bare("devices", "--json")
    assert refused.ok(2)["error"]["exitCode"] == 2
    assert "--key-file" in refused.err
    assert (await bare("deactivate", "--json")).ok()["released"] is True


async def test_status_takes_no_seat_and_leaves_nothing(application: Application, seatkeeper: Command) -> None:
    before = await seatkeeper("status", "--json")
    assert before.ok(5)["reason"] == "NOT_ACTIVATED"
    assert "run seatkeeper activate" in before.err
    assert await application.seats_used() == 0
    assert not list(seatkeeper.folder.rglob("state.bin"))


async def test_status_tells_what_the_server_says_now(application: Application, seatkeeper: Command) -> None:
    device = (await seatkeeper("activate", "--json")).ok()["deviceId"]
    assert (await seatkeeper("status", "--local", "--json")).ok()["state"] == "active"
    await application.platform.api.deactivate(application.grant.key, device)
    ran = await seatkeeper("status", "--json")
    assert ran.ok(5).items() >= {"state": "pending", "reason": "DEVICE_NOT_ACTIVATED"}.items()
    assert "seatkeeper activate" in ran.err


async def test_out_of_reach_a_machine_is_limited_or_has_nothing(application: Application, seatkeeper: Command) -> None:
    dead, quick = f"http://127.0.0.1:{free_port()}", ("--timeout", 1)
    (await seatkeeper("activate", "--json", "--directory", application.folder)).ok()
    limited = await seatkeeper("status", "--url", dead, "--directory", application.folder, *quick)
    assert limited.code == 5
    assert "Limited" in limited.out
    assert "UNREACHABLE" in limited.out
    assert "check the network by then" in limited.out

    other = await seatkeeper("activate", "--url", dead, "--json", "--directory", application.folder / "x", *quick)
    assert other.ok(4)["error"].items() >= {"code": "UNREACHABLE", "exitCode": 4}.items()
    assert "seatkeeper doctor" in other.err
    assert (await seatkeeper("validate", "--url", dead, *quick)).code == 4


async def test_a_refusal_says_what_to_do_next(applications: Applications) -> None:
    application = await applications(seats=1)
    assert (await command_of(application, "desktop")("activate")).code == 0
    laptop = command_of(application, "laptop")
    refused = await laptop("activate", "--json")
    expected = {"code": "DEVICE_LIMIT_EXCEEDED", "exitCode": 3, "limit": 1, "used": 1}
    assert refused.ok(3)["error"].items() >= expected.items()
    assert "1 of 1 seats are taken" in refused.err
    assert "seatkeeper devices" in refused.err
    assert not laptop.config.exists()
    told = await laptop("status")
    assert "What to do" in told.out
    assert "1 of 1 seats are taken" in told.out

    (device,) = (await laptop("devices", "--json")).ok()["devices"]
    assert "--yes" in (await laptop("devices", "release", device["deviceId"])).err
    assert (await laptop("devices", "release", device["deviceId"], "--yes", "--json")).ok()["released"] is True
    assert (await laptop("activate")).code == 0
    assert "none" not in (await laptop("devices", "--all")).out
    unknown = "00000000-0000-0000-0000-000000000000"
    assert (await laptop("devices", "release", unknown, "-y", "--json")).ok(3)["error"]["code"] == "DEVICE_NOT_FOUND"


async def test_validate_looks_at_the_key_before_it_asks(application: Application, seatkeeper: Command) -> None:
    typo = {"SEATKEEPER_LICENSE_KEY": mistyped(application.grant.key)}
    dead = f"http://127.0.0.1:{free_port()}"
    wrong = await seatkeeper("validate", "--json", "--url", dead, **typo)
    assert wrong.ok(2)["error"]["code"] == "KEY_CHECK_MISMATCH"
    assert "check character" in wrong.err
    assert typo["SEATKEEPER_LICENSE_KEY"] not in wrong.out + wrong.err

    good = (await seatkeeper("validate", "--json")).ok()
    assert good.items() >= {"valid": True, "code": "VALID", "used": 0, "limit": 2}.items()
    assert good["licenseKey"] == application.grant.key.replace("-", "")[:8] + "…"
    own = await seatkeeper("validate", "--device", "--json")
    assert own.ok()["code"] == "DEVICE_NOT_ACTIVATED"
    assert (await seatkeeper("validate", "--format-only", "--url", dead)).code == 0
    unknown = await seatkeeper("validate", "--json", SEATKEEPER_LICENSE_KEY="an imported key of nobody")
    assert unknown.ok(3).items() >= {"valid": False, "code": "LICENSE_KEY_INVALID"}.items()


async def test_a_folder_that_cannot_be_used_costs_no_seat(
    application: Application, seatkeeper: Command, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "state"
    for line in (["activate", "--no-save"], ["heartbeat"], ["status"], ["offline", "request", "-o", tmp_path / "r"]):
        ran = await seatkeeper(*line, "--directory", folder, "--json")
        assert ran.ok(2)["error"]["code"] == "MISUSED", line
        assert str(folder) in ran.err, line
    assert await application.seats_used() == 0


async def test_a_lease_that_ended_while_the_server_is_there_is_taken_anew(
    application: Application, seatkeeper: Command
) -> None:
    (await seatkeeper("activate", "--json", "--directory", application.folder)).ok()
    cache = Cache(application.folder, product=PRODUCT, secret=b"laptop")
    kept = cache.read()
    assert kept is not None
    cache.write(msgspec.structs.replace(kept, seen_s=kept.seen_s + 400 * 86400))
    ended = await seatkeeper("status", "--directory", application.folder)
    assert ended.code == 5
    assert "LEASE_ENDED" in ended.out
    assert "Connect to the network" not in ended.out + ended.err
    assert "seatkeeper activate" in ended.out
    assert (await seatkeeper("activate", "--directory", application.folder)).code == 0
    assert (await seatkeeper("status", "--directory", application.folder)).code == 0


async def test_a_heartbeat_is_heard_and_needs_a_seat(application: Application, seatkeeper: Command) -> None:
    assert (await seatkeeper("heartbeat")).code == 5
    device = (await seatkeeper("activate", "--json")).ok()["deviceId"]
    assert (await seatkeeper("heartbeat", "--json")).ok().items() >= {"state": "active", "deviceId": device}.items()
    await application.vendor.licenses.set_status(application.grant.ref, Suspend)
    suspended = await seatkeeper("heartbeat", "--json")
    assert suspended.ok(3)["error"]["code"] == "LICENSE_SUSPENDED"
    assert "Ask your vendor" in suspended.err


async def test_the_seat_is_given_back_even_by_a_machine_that_kept_nothing(
    application: Application, seatkeeper: Command
) -> None:
    assert (await seatkeeper("deactivate")).code == 5
    assert (await seatkeeper("activate")).code == 0
    assert "The seat is free" in (await seatkeeper("deactivate")).err
    assert await application.seats_used() == 0
    assert (await seatkeeper("status", "--json")).ok(5)["reason"] == "RELEASED"

    assert (await seatkeeper("activate")).code == 0
    for file in seatkeeper.folder.rglob("state.bin"):
        file.unlink()
    assert (await seatkeeper("deactivate", "--json")).ok()["released"] is True
    assert await application.seats_used() == 0


async def test_a_device_that_waits_for_approval_is_not_active(applications: Applications) -> None:
    application = await applications(approval=Approval.ALLOW_LIST)
    seatkeeper = command_of(application)
    waiting = await seatkeeper("activate", "--json", "--no-save")
    assert waiting.ok(5).items() >= {"state": "pending", "reason": "WAITING_FOR_APPROVAL", "saved": None}.items()
    assert not seatkeeper.config.exists()
    assert (await seatkeeper("status", "--json")).ok(5)["reason"] == "WAITING_FOR_APPROVAL"

    async def approve() -> None:
        await asyncio.sleep(0.3)
        await application.vendor.licenses.approve(application.grant.ref, "laptop")

    patient, _ = await asyncio.gather(seatkeeper("activate", "--wait", 20, "--json"), approve())
    assert patient.ok()["state"] == "active"


@pytest.mark.parametrize("variables", [{"LANG": "zh_CN.UTF-8"}, {"SEATKEEPER_LANGUAGE": "zh"}])
async def test_everything_is_said_in_chinese(seatkeeper: Command, variables: dict[str, str]) -> None:
    ran = await seatkeeper("status", **variables)
    assert "等待中" in ran.out
    assert "请运行 seatkeeper activate" in ran.err
    active = await seatkeeper("activate", **variables)
    assert "已激活" in active.out
    assert "已写入" in active.err
    refused = await seatkeeper("validate", SEATKEEPER_LICENSE_KEY="a key that nobody ever issued", **variables)
    assert "请与收到的密钥核对" in refused.err
    assert "席位" in (await seatkeeper("devices", **variables)).out
    assert "激活本机" in (await seatkeeper("--help", **variables)).out


async def test_the_line_itself_may_be_wrong(seatkeeper: Command) -> None:
    wrong = await seatkeeper("activate", "--nonsense", "--json")
    assert wrong.ok(2)["error"]["code"] == "USAGE"
    assert (await seatkeeper("nonsense")).code == 2


def printed(ran: Ran) -> list[Any]:
    return [json.loads(line) for line in ran.out.splitlines()]


async def test_a_watch_goes_on_until_it_is_interrupted(application: Application, seatkeeper: Command) -> None:
    """As a process of its own, which also proves `python -m seatkeeper.command`."""
    assert (await seatkeeper("activate")).code == 0
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "seatkeeper.command", "heartbeat", "--watch", "--json"),
        env=seatkeeper.environment(PYTHONPATH="client/src"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        line = json.loads(await asyncio.wait_for(process.stdout.readline(), 20))
        assert line["state"] == "active"
        process.send_signal(2)
        _, err = await asyncio.wait_for(process.communicate(), 20)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (process.returncode, err.decode()) == (130, "")


async def test_a_lease_under_another_root_key_is_told_as_that(application: Application) -> None:
    seatkeeper = command_of(application)
    (await seatkeeper("activate", "--json")).ok()
    another = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"

    told = await seatkeeper("status", "--json", SEATKEEPER_ROOT_KEY=another)

    assert told.ok(7)["error"]["code"] == "NOT_GENUINE"
    assert "check root_key" in told.err


async def test_what_is_in_the_way_is_told_in_chinese(application: Application) -> None:
    seatkeeper = command_of(application)

    ran = await seatkeeper("validate", "--timeout", 1, "--language", "zh", SEATKEEPER_URL="http://127.0.0.1:1")

    assert ran.code == 4
    assert "无法连接 127.0.0.1（连接被拒绝）：请检查 URL、网络和防火墙" in ran.err

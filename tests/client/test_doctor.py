"""The doctor before real servers: one that is well; ports, proxies, certificates and clocks that are not."""

import asyncio
import json
import secrets
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from seatkeeper import base64url
from seatkeeper.api import Api
from seatkeeper.command.doctor.checks import lease
from seatkeeper.command.doctor.examination import examined
from seatkeeper.command.doctor.finding import Finding, Level, words
from seatkeeper.command.doctor.machine import run_command, this_machine
from seatkeeper.command.doctor.subject import Subject
from seatkeeper.http import HttpTransport
from seatkeeper.offline import Offline
from seatkeeper.signatures import read_root_key
from seatkeeper.texts import TABLES
from services.standalone.embedded import free_port
from shared.licensing.license_key import format_key
from shared.licensing.model import Rules, Suspend
from tests.client.commands import command_of
from tests.client.conftest import Application
from tests.client.proxy_servers import tinyproxy
from tests.client.tls_servers import LOOPBACK, Authority, Pair, TlsFront
from tests.platform import PRODUCT, Platform, served
from tests.unit.client.played import PlayedClock

pytest_plugins = ["tests.platform"]

DAY = timedelta(days=1)
FINGERPRINT = "laptop"
Applications = Callable[..., Awaitable[Application]]


@pytest.fixture
async def application(applications: Applications) -> Application:
    return await applications(seats=1)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def subject(url: str, folder: Path, **options: object) -> Subject:
    made = Subject(
        url=url,
        product=PRODUCT,
        root_key="A" * 43,
        directory=folder / "state",
        fingerprint=FINGERPRINT,
        environ={"SEATKEEPER_FINGERPRINT": FINGERPRINT},
        machine=this_machine(),
        clock=PlayedClock(time.time()),
    )
    return replace(made, **options)  # type: ignore[arg-type]


async def found(asked: Subject) -> dict[str, Finding]:
    """All findings, each of which can be said in every language."""
    findings = await examined(asked)
    for finding in findings:
        for language in TABLES:
            assert words(finding, language).what
    return {finding.name: finding for finding in findings}


def codes(findings: dict[str, Finding], level: Level) -> dict[str, str]:
    return {name: finding.code for name, finding in findings.items() if finding.level is level}


# --- A server that is well --------------------------------------------------------------------------------------


async def test_with_all_in_order_the_doctor_finds_nothing_and_changes_nothing(application: Application) -> None:
    seatkeeper = command_of(application)
    (await seatkeeper("activate", "--json")).ok()
    before = await application.platform.rows("SELECT * FROM device WHERE license_id = $1", application.grant.id)

    report = (await seatkeeper("doctor", "--json", "--app-version", "2.0")).ok()

    assert report["sound"] is True
    levels = {finding["name"]: finding["level"] for finding in report["findings"]}
    assert {name for name, level in levels.items() if level == "skip"} <= {"tls", "nodes", "unit", "denials"}
    assert {name for name, level in levels.items() if level == "warn"} <= {"memory", "disk"}
    assert {finding["name"]: finding["code"] for finding in report["findings"]}["devices"] == "ours"
    after = await application.platform.rows("SELECT * FROM device WHERE license_id = $1", application.grant.id)
    assert after == before
    assert application.grant.key not in json.dumps(report)


async def test_the_table_is_for_people_in_their_language(application: Application) -> None:
    seatkeeper = command_of(application)

    english = await seatkeeper("doctor")
    chinese = await seatkeeper("doctor", LANG="zh_CN.UTF-8")

    assert "This device is not activated." in english.out
    assert "Product and root key are proven by activation alone" in " ".join(english.out.split())
    assert "seatkeeper activate" in english.out
    assert "本设备尚未激活。" in chinese.out
    assert (english.code, chinese.code) == (0, 0)


async def test_something_wrong_is_told_by_the_exit_code(application: Application) -> None:
    seatkeeper = command_of(application)

    ran = await seatkeeper("doctor", "--json", SEATKEEPER_URL=f"http://{LOOPBACK}:{free_port()}")

    report = ran.ok(6)
    assert {finding["name"] for finding in report["findings"] if finding["level"] == "fail"} == {"port", "answer"}


async def test_faulty_settings_stop_no_other_check(application: Application) -> None:
    seatkeeper = command_of(application)

    report = (await seatkeeper("doctor", "--json", SEATKEEPER_ROOT_KEY="nonsense")).ok(6)

    told = {finding["name"]: finding["level"] for finding in report["findings"]}
    assert (told["configuration"], told["answer"], told["license"]) == ("fail", "ok", "ok")


# --- The license ------------------------------------------------------------------------------------------------


async def test_a_full_license_is_told_to_a_device_without_a_seat(application: Application, tmp_path: Path) -> None:
    (await application.platform.api.activate(application.grant.key, "another")).ok(201)

    findings = await found(subject(application.platform.api.url, tmp_path, license_key=application.grant.key))

    assert codes(findings, Level.FAIL) == {"devices": "full"}
    assert findings["devices"].command == "seatkeeper devices"


async def test_a_version_that_is_not_covered_is_told(applications: Applications, tmp_path: Path) -> None:
    application = await applications(rules=Rules(min_version="2.0"))
    asked = subject(application.platform.api.url, tmp_path, license_key=application.grant.key)

    old, none, new = [await found(replace(asked, version=version)) for version in ("1.9", None, "2.1")]

    assert codes(old, Level.FAIL) == {"version": "refused"}
    assert codes(none, Level.FAIL) == {"version": "needed"}
    assert (codes(new, Level.FAIL), new["version"].code) == ({}, "ok")


async def test_the_state_of_the_license_is_told(application: Application, tmp_path: Path) -> None:
    await application.vendor.licenses.set_status(application.grant.ref, Suspend)
    url = application.platform.api.url

    suspended = await found(subject(url, tmp_path, license_key=application.grant.key))
    unknown = await found(subject(url, tmp_path, license_key=format_key(secrets.token_bytes(17))))

    assert suspended["license"].code == "suspended"
    assert unknown["license"].code == "unknown"


# --- The way there ----------------------------------------------------------------------------------------------


async def test_a_name_that_does_not_resolve_is_told(tmp_path: Path) -> None:
    findings = await found(subject("https://license.invalid", tmp_path))

    assert codes(findings, Level.FAIL) == {"names": "unknown", "answer": "none"}
    assert findings["names"].command is not None
    assert findings["names"].command.endswith(" license.invalid")


async def test_a_port_that_is_closed_and_one_that_is_silent_are_told_apart(tmp_path: Path) -> None:
    closed = await found(subject(f"http://{LOOPBACK}:{free_port()}", tmp_path))
    with full_listener() as port:
        silent = await found(subject(f"http://{LOOPBACK}:{port}", tmp_path, limit_s=1.0))

    assert codes(closed, Level.FAIL) == {"port": "refused", "answer": "none"}
    assert codes(silent, Level.FAIL)["port"] == "silent"


async def test_another_server_is_not_taken_for_ours(tmp_path: Path) -> None:
    async def sign_in(_: web.Request) -> web.Response:
        return web.Response(text="<html>Sign in to the hotel</html>", content_type="text/html")

    async with serving(sign_in) as url:
        findings = await found(subject(url, tmp_path))

    assert codes(findings, Level.FAIL)["answer"] == "another"


async def test_a_proxy_that_swallows_is_told_with_the_variable_that_decided(platform: Platform, tmp_path: Path) -> None:
    async with swallowing() as port:
        environ = {"http_proxy": f"http://{LOOPBACK}:{port}", "no_proxy": "example.com"}
        findings = await found(subject(platform.api.url, tmp_path, environ=environ, limit_s=1.0))

    assert codes(findings, Level.FAIL)["proxy"] == "silent"
    assert findings["proxy"].data["by"] == "http_proxy"
    assert findings["proxy"].command == f'export no_proxy="${{no_proxy:+$no_proxy,}}{LOOPBACK}"'


async def test_a_proxy_that_works_is_named_without_its_credentials(platform: Platform, tmp_path: Path) -> None:
    with tinyproxy(tmp_path, user="ada", password="opensesame") as proxy:
        environ = {"all_proxy": proxy.url_for("ada:opensesame")}
        used = await found(subject(platform.api.url, tmp_path, environ=environ))
        refused = await found(subject(platform.api.url, tmp_path, proxy=proxy.url_for("ada:wrong")))

    assert (used["proxy"].code, used["proxy"].data["by"]) == ("near", "all_proxy")
    assert used["answer"].code == "ok"
    assert (refused["proxy"].code, refused["proxy"].data["by"]) == ("failed", "proxy")
    assert "opensesame" not in f"{used}{refused}"


# --- Certificates -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def front(platform: Platform, authority: Authority, *names: str, **dates: Any) -> AsyncIterator[str]:
    target = urlsplit(platform.api.url).port or 0
    async with TlsFront(authority.issue(*names, **dates), target).open() as opened:
        yield f"https://{LOOPBACK}:{opened.port}"


@pytest.mark.parametrize(
    ("names", "dates", "trusted", "expected"),
    [
        ([LOOPBACK], {"until": 25 * DAY}, True, (Level.OK, "ok")),
        ([LOOPBACK], {"until": 3 * DAY}, True, (Level.WARN, "soon")),
        ([LOOPBACK], {"since": -3 * DAY, "until": -DAY}, True, (Level.FAIL, "expired")),
        ([LOOPBACK], {"since": DAY, "until": 25 * DAY}, True, (Level.FAIL, "not-yet")),
        (["license.example"], {"until": 25 * DAY}, True, (Level.FAIL, "wrong-name")),
        ([LOOPBACK], {"until": 25 * DAY}, False, (Level.FAIL, "unknown-issuer")),
    ],
)
async def test_certificates_are_judged_as_the_client_does(
    platform: Platform,
    authority: Authority,
    tmp_path: Path,
    names: list[str],
    dates: dict[str, timedelta],
    trusted: bool,
    expected: tuple[Level, str],
) -> None:
    async with front(platform, authority, *names, **dates) as url:
        findings = await found(subject(url, tmp_path, ca_file=authority.root if trusted else None))

    assert (findings["tls"].level, findings["tls"].code) == expected
    assert findings["tls"].data["issuer"] == "Authority of tests"
    assert (findings["answer"].level is Level.FAIL) is (expected[0] is Level.FAIL)


async def test_https_to_a_port_without_tls_is_told_with_what_to_do(platform: Platform, tmp_path: Path) -> None:
    findings = await found(subject(platform.api.url.replace("http:", "https:"), tmp_path))

    assert codes(findings, Level.FAIL)["tls"] == "handshake"
    assert "url" in words(findings["tls"], "en").next_step


async def test_a_certificate_signed_by_itself_is_told(platform: Platform, tmp_path: Path) -> None:
    key, certificate = tmp_path / "own.key", tmp_path / "own.pem"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    made += ["-keyout", str(key), "-out", str(certificate), "-days", "3", "-subj", "/CN=own"]
    assert (await run_command(made)) is not None
    async with TlsFront(Pair(certificate, key), urlsplit(platform.api.url).port or 0).open() as opened:
        findings = await found(subject(f"https://{LOOPBACK}:{opened.port}", tmp_path))

    assert (findings["tls"].code, findings["tls"].data["subject"]) == ("self-signed", "own")


async def test_certificates_are_seen_through_a_proxy(platform: Platform, authority: Authority, tmp_path: Path) -> None:
    with tinyproxy(tmp_path, user="ada", password="opensesame") as proxy:
        async with front(platform, authority, LOOPBACK, until=3 * DAY) as url:
            given = {"proxy": proxy.url_for("ada:opensesame"), "ca_file": authority.root}
            findings = await found(subject(url, tmp_path, **given))

        assert any("CONNECT" in line for line in proxy.asked())

    assert (findings["tls"].code, findings["tls"].data["days"]) == ("soon", 2)
    assert findings["port"].code == "proxy-answers"


# --- Time -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("off_s", "expected"),
    [
        (0, (Level.OK, "ok")),
        (100, (Level.WARN, "ahead")),
        (-100, (Level.WARN, "behind")),
        (400, (Level.FAIL, "ahead")),
        (-400, (Level.FAIL, "behind")),
    ],
)
async def test_this_clock_is_compared_with_the_servers(
    platform: Platform, tmp_path: Path, off_s: float, expected: tuple[Level, str]
) -> None:
    findings = await found(subject(platform.api.url, tmp_path, clock=PlayedClock(time.time() + off_s)))

    assert (findings["time"].level, findings["time"].code) == expected
    assert abs(abs(findings["time"].data["seconds"]) - abs(off_s)) <= 2
    if off_s:
        assert findings["time"].command == "sudo timedatectl set-ntp true"


async def test_a_server_whose_clock_is_off_is_told(tmp_path: Path) -> None:
    async def late(_: web.Request) -> web.Response:
        return web.json_response({"keys": []}, headers={"Date": formatdate(time.time() - 1000, usegmt=True)})

    async with serving(late) as url:
        findings = await found(subject(url, tmp_path))

    assert codes(findings, Level.FAIL)["time"] == "ahead"


async def test_nodes_are_counted_where_the_server_lists_them(tmp_path: Path) -> None:
    states = ["serving", "gone"]

    async def registry(_: web.Request) -> web.Response:
        return web.json_response({"keys": [], "nodes": [{"id": str(n), "state": s} for n, s in enumerate(states)]})

    async with serving(registry) as url:
        some = await found(subject(url, tmp_path))
        states[:] = ["gone"]
        none = await found(subject(url, tmp_path))

    assert (some["nodes"].level, some["nodes"].data) == (Level.WARN, {"serving": 1, "all": 2})
    assert codes(none, Level.FAIL)["nodes"] == "none-serving"


# --- What the device keeps --------------------------------------------------------------------------------------


async def test_the_seat_that_is_kept_is_judged_by_its_end_and_the_clock(application: Application) -> None:
    async with application.client():
        pass
    other = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    own = {"directory": application.folder / FINGERPRINT, "root_key": json.dumps(application.vendor.root_key)}
    asked = subject(application.platform.api.url, application.folder, **own)

    now = await lease.lease(asked)
    later = await lease.lease(replace(asked, clock=PlayedClock(time.time() + 8 * 86_400)))
    nearly = await lease.lease(replace(asked, clock=PlayedClock(time.time() + 6 * 86_400)))
    back = await lease.lease(replace(asked, clock=PlayedClock(time.time() - 3_600)))
    elsewhere = await lease.lease(replace(asked, fingerprint="another"))
    foreign = await lease.lease(replace(asked, root_key=base64url.encode(other)))

    assert [each.code for each in (now, later, nearly, back, elsewhere, foreign)] == [
        "ok",
        "ended",
        "soon",
        "clock-set-back",
        "does-not-open",
        "not-proven",
    ]
    assert [path.name for path in (application.folder / FINGERPRINT).glob("state.bin*")] == ["state.bin"]


async def test_a_license_file_in_force_is_told(applications: Applications, tmp_path: Path) -> None:
    application = await applications(rules=Rules(offline_max_days=30))
    root_key = json.dumps(application.vendor.root_key)
    asked = subject(application.platform.api.url, tmp_path, root_key=root_key)
    offline = Offline(tmp_path / "state", product=PRODUCT, root_public=read_root_key(root_key), fingerprint=FINGERPRINT)
    transport = HttpTransport(application.platform.api.url)
    request = offline.request(days=10).members
    offline.install(await Api(transport, clock=asked.clock).offline_activate(application.grant.key, request))
    await transport.close()

    now = await lease.lease(asked)
    later = await lease.lease(replace(asked, clock=PlayedClock(time.time() + 11 * 86_400)))

    assert (now.level, now.code) == (Level.OK, "file")
    assert later.code == "not-activated"


async def test_on_a_license_file_in_force_a_network_that_fails_is_a_warning(
    applications: Applications, tmp_path: Path
) -> None:
    application = await applications(rules=Rules(offline_max_days=30))
    seatkeeper = command_of(application)
    request, file = tmp_path / "request.json", tmp_path / "license.json"
    away = {"SEATKEEPER_URL": f"http://{LOOPBACK}:{free_port()}"}
    (await seatkeeper("offline", "request", "-o", request, "--json", **away)).ok()
    (await seatkeeper("offline", "activate", request, "-o", file, "--json")).ok()
    without_file = (await seatkeeper("doctor", "--json", **away)).ok(6)
    (await seatkeeper("offline", "install", file, "--json", **away)).ok()

    report = (await seatkeeper("doctor", "--json", **away)).ok(0)
    chinese = await seatkeeper("doctor", LANG="zh_CN.UTF-8", **away)

    levels = {finding["name"]: finding["level"] for finding in report["findings"]}
    assert [levels[name] for name in ("port", "answer", "lease")] == ["warn", "warn", "ok"]
    steps = {finding["name"]: finding["nextStep"] for finding in report["findings"]}
    assert steps["port"].startswith("No network is needed until ")
    assert "之前无需网络" in chinese.out
    assert "无法连接 127.0.0.1（连接被拒绝）" in chinese.out.replace("\n", "")
    assert without_file["sound"] is False


# --- Servers that are not well ----------------------------------------------------------------------------------


@asynccontextmanager
async def serving(handler: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    async with served(app) as url:
        yield url


@asynccontextmanager
async def swallowing() -> AsyncIterator[int]:
    """Accepts, reads, and never answers."""

    async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65_536):
            pass
        writer.close()

    server = await asyncio.start_server(read, LOOPBACK, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


class full_listener:  # noqa: N801 - a context manager
    """A port whose queue is full, so that the kernel lets further connections wait."""

    def __enter__(self) -> int:
        self._listener = socket.socket()
        self._listener.bind((LOOPBACK, 0))
        self._listener.listen(0)
        port = int(self._listener.getsockname()[1])
        self._waiting = [socket.socket() for _ in range(4)]
        for each in self._waiting:
            each.setblocking(False)
            each.connect_ex((LOOPBACK, port))
        return port

    def __exit__(self, *_: object) -> None:
        for each in (*self._waiting, self._listener):
            each.close()

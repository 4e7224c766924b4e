"""The doctor's checks of the machine: each sees what is planted, and says what to do in both languages."""

import ast
import asyncio
import io
import json
import os
import socket
import string
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from rich.console import Console

from seatkeeper.command.doctor import checks
from seatkeeper.command.doctor.checks import CHECKS
from seatkeeper.command.doctor.checks.cache import cache
from seatkeeper.command.doctor.checks.configuration import configuration
from seatkeeper.command.doctor.checks.denials import denials
from seatkeeper.command.doctor.checks.fingerprint import fingerprint
from seatkeeper.command.doctor.checks.lease import lease
from seatkeeper.command.doctor.checks.network import port
from seatkeeper.command.doctor.checks.route import default_route, route
from seatkeeper.command.doctor.checks.server import key
from seatkeeper.command.doctor.checks.space import disk, memory
from seatkeeper.command.doctor.checks.unit import unit
from seatkeeper.command.doctor.examination import subject_of
from seatkeeper.command.doctor.finding import Finding, Level, ok, words
from seatkeeper.command.doctor.machine import Machine, Memory, Ran, Space, run_command, this_machine
from seatkeeper.command.doctor.report import as_document, as_text, print_report
from seatkeeper.command.doctor.running import run_checks
from seatkeeper.command.doctor.subject import Subject
from seatkeeper.fingerprint import Weakness
from seatkeeper.texts import TABLES
from tests.unit.client.played import PlayedClock

MIB = 1024 * 1024
KEY = "17HW-W0M7-ZBKY-HNBD-1D8H-GXW9-5HJ3"
needs_root = pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="gives files to another user")


def printing(**outputs: str | int) -> Callable[[Sequence[str]], Awaitable[Ran | None]]:
    """A machine that has only these commands: what each prints, or the status that it fails with."""

    async def run(arguments: Sequence[str]) -> Ran | None:
        said = outputs.get(arguments[0])
        return None if said is None else Ran(said, "no") if isinstance(said, int) else Ran(0, said)

    return run


def machine(root: Path, **outputs: str | int) -> Machine:
    return this_machine()._replace(root=root, system="Linux", run=printing(**outputs))


def subject(root: Path, **options: object) -> Subject:
    made = Subject(machine=machine(root), clock=PlayedClock(), url="http://127.0.0.1:9", directory=root / "state")
    return replace(made, **options)  # type: ignore[arg-type]


def plant(root: Path, path: str, text: str) -> None:
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def told(finding: Finding) -> tuple[Level, str]:
    """Level and code; it can be said in both languages, with all that its texts ask for."""
    for language in TABLES:
        said = words(finding, language)
        assert "{" not in said.what + said.next_step
        if finding.level in (Level.WARN, Level.FAIL) and finding.code != "said-no":
            assert said.next_step or finding.command, finding
    return finding.level, finding.code


# --- The whole --------------------------------------------------------------------------------------------------


async def test_a_check_that_raises_or_hangs_stops_no_other(tmp_path: Path) -> None:
    async def good(_: Subject) -> Finding:
        return ok("memory", available=1, total=2)

    async def raises(_: Subject) -> Finding:
        raise ValueError(KEY)

    async def hangs(_: Subject) -> Finding:
        await asyncio.sleep(60)
        raise AssertionError

    planted = {"disk": raises, "names": hangs, "memory": good}

    found = await run_checks(planted, subject(tmp_path, limit_s=0.05))

    assert [told(finding) for finding in found] == [
        (Level.WARN, "crashed"),
        (Level.FAIL, "timeout"),
        (Level.OK, "ok"),
    ]
    assert KEY not in str(found)


async def test_checks_run_side_by_side(tmp_path: Path) -> None:
    both = asyncio.Barrier(2)

    async def waits(_: Subject) -> Finding:
        await both.wait()
        return ok("memory", available=1, total=2)

    found = await run_checks({"disk": waits, "memory": waits}, subject(tmp_path))

    assert [finding.level for finding in found] == [Level.OK, Level.OK]


def test_the_report_says_the_same_as_table_and_as_json() -> None:
    found = [
        Finding(
            name="unit",
            level=Level.FAIL,
            code="stopped",
            data={"unit": "a.service", "state": "inactive", "sub": "dead"},
            command="sudo systemctl start a.service",
        )
    ]

    document = as_document(found, "en")
    printed = as_text(found, "en")

    assert document["sound"] is False
    assert document["counts"] == {"ok": 0, "warn": 0, "fail": 1, "skip": 0}
    (only,) = cast("list[dict[str, str]]", document["findings"])
    assert only["code"] == "stopped"
    for said in (only["what"], only["nextStep"], only["command"]):
        assert said in printed


def test_commands_and_next_steps_are_printed_whole_on_a_line_however_narrow_it_is() -> None:
    command = f"chmod 700 /var/{'long/' * 40}state && chmod 600 '/var/with [b]space[/b]/state.bin'"
    data = {"unit": f"{'a' * 60}.service", "state": "inactive", "sub": "dead"}
    found = [Finding(name="unit", level=Level.FAIL, code="stopped", data=data, command=command)]
    console = Console(width=40, color_system=None, file=io.StringIO())

    with console.capture() as printed:
        print_report(console, found, "en")

    for told in (printed.get(), as_text(found, "en")):
        assert f"    {command}" in told.splitlines()
        assert f"{'a' * 60}.service" in "".join(told.split())
        assert "…" not in told


def emitted() -> set[tuple[str, str]]:
    """Check and code of every finding that the source makes of constants."""
    made: set[tuple[str, str]] = set()
    for file in Path(checks.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            if called not in ("ok", "warn", "fail", "skip") or not isinstance(node, ast.Call):
                continue
            name, codes = node.args[0], node.args[1] if len(node.args) > 1 else ast.Constant("ok")
            branches = [codes.body, codes.orelse] if isinstance(codes, ast.IfExp) else [codes]
            if isinstance(name, ast.Constant):
                made |= {(str(name.value), str(code.value)) for code in branches if isinstance(code, ast.Constant)}
    return made


def test_every_finding_has_words() -> None:
    for name, code in emitted():
        assert f"doctor.{name}.{code}" in TABLES["en"] or f"doctor.{code}" in TABLES["en"], (name, code)
    for weakness in Weakness:
        assert f"doctor.fingerprint.weak-{weakness.name.lower().replace('_', '-')}" in TABLES["en"]
    for name in CHECKS:
        assert f"doctor.{name}" in TABLES["en"]
    assert len(emitted()) > 60


def test_both_languages_say_the_same_with_the_same_values() -> None:
    def fields(text: str) -> set[str | None]:
        return {name for _, name, _, _ in string.Formatter().parse(text)} - {None}

    ours = {key for key in TABLES["en"] if key.startswith(("doctor.", "bundle."))}

    assert ours == {key for key in TABLES["zh"] if key.startswith(("doctor.", "bundle."))}
    for each in ours:
        assert fields(TABLES["en"][each]) == fields(TABLES["zh"][each]), each


# --- Settings ---------------------------------------------------------------------------------------------------


async def test_faults_of_the_configuration_are_all_told(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('url = "ftp://x"\nunits = "a"\nproduct = "app"\n')

    made = subject_of(config, {"SEATKEEPER_HOME": str(tmp_path)}, {}, machine=machine(tmp_path))
    finding = await configuration(made)

    assert told(finding) == (Level.FAIL, "faults")
    assert finding.data["count"] == 2
    assert "units" in finding.data["faults"]
    assert finding.command == f"seatkeeper config check --config {config}"
    assert made.product == "app"


async def test_what_is_not_set_is_named(tmp_path: Path) -> None:
    finding = await configuration(subject(tmp_path, product="app", license_key=KEY))

    assert (told(finding), finding.data["missing"]) == ((Level.WARN, "incomplete"), "root_key")
    assert told(await configuration(subject(tmp_path, url=None)))[0] is Level.FAIL


@pytest.mark.parametrize(("mode", "code"), [(0o644, "open"), (0o600, "ok")])
async def test_a_file_with_a_key_is_for_its_owner_alone(tmp_path: Path, mode: int, code: str) -> None:
    config = tmp_path / "the config.toml"
    config.write_text(f'license_key = "{KEY}"\n')
    config.chmod(mode)
    whole = subject(tmp_path, product="app", license_key=KEY, root_key="A" * 43, config_path=config)

    finding = await configuration(whole)
    config.write_text('product = "app"\n')
    keyless = await configuration(whole)

    assert told(finding)[1] == code
    assert finding.command == (f"chmod 600 '{config}'" if code == "open" else None)
    assert told(keyless) == (Level.OK, "ok")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (KEY, (Level.OK, "ok")),
        (KEY.lower().replace("-", " "), (Level.OK, "ok")),
        (f"{KEY[:-1]}4", (Level.FAIL, "check-mismatch")),
        ("short", (Level.FAIL, "too-short")),
        ("x" * 200, (Level.FAIL, "too-long")),
        ("a-key-that-has-a-\a", (Level.FAIL, "bad-character")),
        ("  ", (Level.FAIL, "empty")),
        (None, (Level.SKIP, "no-key")),
    ],
)
async def test_a_key_is_judged_without_the_server(
    tmp_path: Path, written: str | None, expected: tuple[Level, str]
) -> None:
    finding = await key(subject(tmp_path, license_key=written))

    assert told(finding) == expected
    assert KEY not in str(finding)


async def test_a_mistyped_key_of_the_configuration_reaches_its_check(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'license_key = "{KEY[:-1]}4"\n')

    made = subject_of(config, {"SEATKEEPER_HOME": str(tmp_path)}, {}, machine=machine(tmp_path))

    assert told(await key(made)) == (Level.FAIL, "check-mismatch")


# --- The client's folder ----------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "state"
    made.mkdir(mode=0o700)
    (made / "state.bin").write_bytes(b"")
    (made / "state.bin").chmod(0o600)
    return made


async def test_a_folder_for_its_owner_alone_is_in_order(tmp_path: Path, folder: Path) -> None:
    assert told(await cache(subject(tmp_path))) == (Level.OK, "ok")


async def test_a_folder_that_is_not_there_yet_is_in_order(tmp_path: Path) -> None:
    assert told(await cache(subject(tmp_path))) == (Level.OK, "not-yet")


async def test_what_others_can_read_is_closed_by_the_command_that_is_told(tmp_path: Path, folder: Path) -> None:
    os.chmod(folder, 0o755)
    os.chmod(folder / "state.bin", 0o644)

    finding = await cache(subject(tmp_path))

    assert told(finding) == (Level.FAIL, "open")
    assert finding.command == f"chmod 700 {folder} && chmod 600 {folder / 'state.bin'}"
    assert (await run_command(["sh", "-c", finding.command])) == Ran(0, "")
    assert told(await cache(subject(tmp_path))) == (Level.OK, "ok")


async def test_own_files_without_rights_get_them_back(tmp_path: Path, folder: Path) -> None:
    os.chmod(folder / "state.bin", 0o400)

    finding = await cache(subject(tmp_path))

    assert told(finding) == (Level.FAIL, "mode")
    assert finding.command == f"chmod 600 {folder / 'state.bin'}"


async def test_a_file_in_the_folders_place_is_told(tmp_path: Path) -> None:
    plant(tmp_path, "state", "")

    assert told(await cache(subject(tmp_path))) == (Level.FAIL, "no-folder")


async def test_a_file_in_the_place_of_a_folder_above_is_told(tmp_path: Path) -> None:
    plant(tmp_path, "home", "")

    finding = await cache(subject(tmp_path, directory=tmp_path / "home" / "state"))

    assert (told(finding), finding.data["path"]) == ((Level.FAIL, "no-folder"), str(tmp_path / "home"))


@needs_root
def test_a_seat_that_this_user_cannot_reach_is_told() -> None:
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o700)
        shut = subject(Path(made), fingerprint="laptop", product="app", root_key="A" * 43)

        told = as_nobody(lambda: [asyncio.run(lease(shut))])

    assert [code for code, _ in told] == ["unreadable"]


@needs_root
async def test_root_is_told_whose_folder_it_is(tmp_path: Path, folder: Path) -> None:
    os.chown(folder / "state.bin", 65534, -1)

    finding = await cache(subject(tmp_path))

    assert told(finding) == (Level.WARN, "others")
    assert finding.command == "sudo -u nobody seatkeeper doctor"


@needs_root
def test_a_user_is_told_how_to_get_what_root_left_behind() -> None:
    with tempfile.TemporaryDirectory() as made:
        top = Path(made)
        top.chmod(0o755)
        state = top / "state"
        state.mkdir(mode=0o700)

        told = as_nobody(lambda: [asyncio.run(cache(subject(top, directory=top / each))) for each in PLACES])

    assert told == [
        ("foreign", f"sudo chown -R nobody {state}"),
        ("shut", f"sudo setfacl -m u:nobody:x {state}"),
        ("no-place", f"sudo setfacl -m u:nobody:rwx {top}"),
    ]


PLACES = ("state", "state/deeper", "none")


def as_nobody(look: Callable[[], list[Finding]]) -> list[tuple[str, str]]:
    """Code and command of each finding, as a process of another user makes them."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            os.environ["LOGNAME"] = "nobody"
            os.write(writing, json.dumps([(finding.code, finding.command) for finding in look()]).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as told:
        found = json.loads(told.read())
    os.waitpid(child, 0)
    return [(code, command) for code, command in found]


# --- Denials ----------------------------------------------------------------------------------------------------

CONNECT = (
    'type=AVC msg=audit(1795341966.120:7): avc:  denied  { name_connect } for  pid=7 comm="python3" dest=443'
    " scontext=system_u:system_r:httpd_t:s0 tcontext=system_u:object_r:http_port_t:s0 tclass=tcp_socket permissive=0\n"
)
WRITE = (
    'type=AVC msg=audit(1795341966.121:8): avc:  denied  { write } for  pid=7 comm="editor" path="{path}"'
    ' dev="vda1" scontext=system_u:system_r:editor_t:s0 tcontext=system_u:object_r:var_t:s0 tclass=file\n'
)
OTHER = CONNECT.replace('comm="python3" dest=443', 'comm="mariadbd" dest=3307').replace("httpd_t", "mysqld_t")
APPARMOR = (
    'Nov 22 10:00:00 box kernel: audit: type=1400 apparmor="DENIED" operation="open" profile="/usr/bin/editor"'
    ' name="/home/ada/.local/state/seatkeeper/x/state.bin" pid=7 comm="editor" requested_mask="r" denied_mask="r"\n'
)


@pytest.mark.parametrize("log", ["/var/log/audit/audit.log", "/var/log/messages"])
async def test_a_connection_that_selinux_denies_is_allowed_by_its_switch(tmp_path: Path, log: str) -> None:
    plant(tmp_path, log, OTHER + CONNECT + OTHER)

    finding = await denials(subject(tmp_path))

    assert told(finding) == (Level.FAIL, "selinux")
    assert finding.command == "sudo setsebool -P httpd_can_network_connect 1"


async def test_a_domain_without_a_switch_gets_a_module(tmp_path: Path) -> None:
    plant(tmp_path, "/var/log/audit/audit.log", CONNECT.replace("httpd_t", "editor_t"))

    finding = await denials(subject(tmp_path))

    assert finding.command is not None
    assert finding.command.startswith("sudo ausearch -m AVC -c python3 --raw | audit2allow -M")


async def test_a_wrong_label_of_the_folder_is_restored(tmp_path: Path) -> None:
    state = tmp_path / "state"
    plant(tmp_path, "/var/log/audit/audit.log", WRITE.replace("{path}", str(state / "state.bin")))

    assert (await denials(subject(tmp_path))).command == f"sudo restorecon -Rv {state}"


async def test_denials_of_apparmor_are_found_in_the_journal(tmp_path: Path) -> None:
    finding = await denials(subject(tmp_path, machine=machine(tmp_path, journalctl=APPARMOR * 2)))

    assert told(finding) == (Level.FAIL, "apparmor")
    assert (finding.command, finding.data["count"]) == ("sudo aa-logprof", 2)
    assert finding.data["domain"] == "/usr/bin/editor"


async def test_denials_of_other_programs_are_nothing_to_us(tmp_path: Path) -> None:
    plant(tmp_path, "/var/log/kern.log", OTHER * 3)

    finding = await denials(subject(tmp_path))

    assert (told(finding), finding.data["others"]) == ((Level.OK, "ok"), 3)


async def test_the_application_is_known_by_its_unit(tmp_path: Path) -> None:
    plant(tmp_path, "/var/log/kern.log", OTHER)

    assert told(await denials(subject(tmp_path, unit="mariadbd.service"))) == (Level.FAIL, "selinux")


async def test_logs_that_may_not_be_read_are_no_good_news(tmp_path: Path) -> None:
    finding = await denials(subject(tmp_path, machine=machine(tmp_path, journalctl=1)))

    assert told(finding) == (Level.SKIP, "unreadable")
    assert finding.command == "sudo seatkeeper doctor"


# --- Room -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (Space(500 * MIB, 1000 * MIB, 10), (Level.OK, "ok")),
        (Space(500 * MIB, 1000 * MIB, None), (Level.OK, "ok")),
        (Space(50 * MIB, 1000 * MIB, 10), (Level.WARN, "little")),
        (Space(0, 1000 * MIB, 10), (Level.FAIL, "full")),
        (Space(500 * MIB, 1000 * MIB, 0), (Level.FAIL, "no-files")),
    ],
)
async def test_a_disk_is_judged_by_what_is_free(tmp_path: Path, space: Space, expected: tuple[Level, str]) -> None:
    full = machine(tmp_path)._replace(space=lambda _: space)

    assert told(await disk(subject(tmp_path, machine=full))) == expected


@pytest.mark.parametrize(("free", "level"), [(500, Level.OK), (50, Level.WARN), (5, Level.FAIL)])
async def test_memory_is_judged_by_what_is_available(tmp_path: Path, free: int, level: Level) -> None:
    small = machine(tmp_path)._replace(memory=lambda: Memory(free * MIB, 1000 * MIB))

    assert told(await memory(subject(tmp_path, machine=small)))[0] is level


async def test_this_machine_can_be_read(tmp_path: Path) -> None:
    here = this_machine()

    assert 0 < here.space(tmp_path).free < here.space(tmp_path).total
    assert 0 < here.memory().available < here.memory().total
    assert await here.run(["a-command-that-is-not-there"]) is None
    assert await here.run(["sh", "-c", "echo this; echo that >&2; exit 3"]) == Ran(3, "this\nthat\n")


async def test_a_command_that_hangs_is_ended_with_its_check() -> None:
    task = asyncio.create_task(run_command(["sh", "-c", "echo $$ > /dev/null; exec sleep 60"]))
    await asyncio.sleep(0.1)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


# --- The unit ---------------------------------------------------------------------------------------------------


def shown(**changes: str) -> str:
    usual = {
        "LoadState": "loaded",
        "ActiveState": "active",
        "SubState": "running",
        "Result": "success",
        "ExecMainStatus": "0",
        "NRestarts": "0",
        "UnitFileState": "enabled",
    }
    return "".join(f"{name}={value}\n" for name, value in (usual | changes).items())


@pytest.mark.parametrize(
    ("changes", "expected", "command"),
    [
        ({}, (Level.OK, "ok"), None),
        (
            {"ActiveState": "failed", "Result": "exit-code", "ExecMainStatus": "3"},
            (Level.FAIL, "failed"),
            "journalctl -u editor -n 50 --no-pager",
        ),
        ({"ActiveState": "inactive", "SubState": "dead"}, (Level.FAIL, "stopped"), "sudo systemctl start editor"),
        (
            {"LoadState": "not-found", "ActiveState": "inactive"},
            (Level.FAIL, "unknown"),
            "systemctl list-units --type=service --all",
        ),
        (
            {"LoadState": "masked", "ActiveState": "inactive"},
            (Level.FAIL, "masked"),
            "sudo systemctl unmask editor && sudo systemctl start editor",
        ),
        ({"NRestarts": "7"}, (Level.WARN, "restarts"), "journalctl -u editor -n 50 --no-pager"),
        ({"UnitFileState": "disabled"}, (Level.WARN, "disabled"), "sudo systemctl enable editor"),
    ],
)
async def test_a_unit_is_judged_by_what_systemd_says(
    tmp_path: Path, changes: dict[str, str], expected: tuple[Level, str], command: str | None
) -> None:
    finding = await unit(subject(tmp_path, unit="editor", machine=machine(tmp_path, systemctl=shown(**changes))))

    assert told(finding) == expected
    assert finding.command == command


async def test_without_systemd_no_unit_is_looked_at(tmp_path: Path) -> None:
    assert told(await unit(subject(tmp_path))) == (Level.SKIP, "no-unit")
    assert told(await unit(subject(tmp_path, unit="editor"))) == (Level.SKIP, "no-systemd")
    off = machine(tmp_path, systemctl=1)
    assert told(await unit(subject(tmp_path, unit="editor", machine=off))) == (Level.SKIP, "no-systemd")


# --- The route --------------------------------------------------------------------------------------------------

IPV4 = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
wlan0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
"""
IPV6 = f"{'0' * 32} 00 {'0' * 32} 00 fe80{'0' * 27}1 00000400 00000001 00000000 00000003     eth1\n"


@pytest.mark.parametrize(
    ("path", "table", "expected"),
    [
        ("/proc/net/route", IPV4, "wlan0 via 192.0.2.1"),
        ("/proc/net/ipv6_route", IPV6, "eth1 via fe80::1"),
        ("/proc/net/route", IPV4.splitlines()[0], None),
    ],
)
async def test_the_default_route_is_read_from_the_kernel(
    tmp_path: Path, path: str, table: str, expected: str | None
) -> None:
    plant(tmp_path, path, table)

    assert await default_route(machine(tmp_path)) == expected


async def test_the_default_route_of_other_systems_is_read_from_their_commands(tmp_path: Path) -> None:
    mac = machine(tmp_path, route="   route to: default\n    gateway: 192.0.2.1\n  interface: en0\n")
    windows = machine(tmp_path, route="  0.0.0.0   0.0.0.0   192.0.2.1   192.0.2.7   25\n")

    assert await default_route(mac._replace(system="Darwin")) == "en0 via 192.0.2.1"
    assert await default_route(windows._replace(system="Windows")) == "192.0.2.7 via 192.0.2.1"


async def test_the_route_to_oneself_is_loopbacks(tmp_path: Path) -> None:
    finding = await route(subject(tmp_path))

    assert told(finding) == (Level.OK, "ok")
    assert finding.data["source"] == "127.0.0.1"
    assert finding.data["interface"] in dict(socket.if_nameindex()).values()


# --- Port and fingerprint ---------------------------------------------------------------------------------------


async def test_a_port_of_the_proxy_is_told_as_the_proxys(tmp_path: Path) -> None:
    environ = {"http_proxy": "http://127.0.0.1:9"}

    finding = await port(subject(tmp_path, url="http://license.example", environ=environ))

    assert told(finding) == (Level.FAIL, "proxy-refused")
    assert "http_proxy" in words(finding, "en").next_step
    assert "url" not in words(finding, "en").next_step


async def test_what_a_fingerprint_is_taken_from_is_said_in_the_language(tmp_path: Path) -> None:
    finding = await fingerprint(subject(tmp_path, product="app", environ={"SEATKEEPER_HOME": str(tmp_path / "home")}))

    assert "kept id" in words(finding, "en").what + str(finding.data["facts"])
    assert not set("abcdefghijklmnopqrstuvwxyz") & set(words(finding, "zh").what)

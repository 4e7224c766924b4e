"""The bundle: what it holds, that nothing secret is in any of its files, and that it is written nowhere unasked."""

import getpass
import io
import json
import os
import platform
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest

from services.standalone.embedded import free_port
from tests.client.commands import Command

KEY = "17HW-W0M7-ZBKY-HNBD-1D8H-GXW9-5HJ3"
IMPORTED = "an imported key/of=another+maker"
SECRETS = {
    "key": KEY,
    "key in lower case": KEY.lower().replace("-", " "),
    "imported key": IMPORTED,
    "imported key in a URL": "an%20imported%20key",
    "secret of the configuration": "written over lines",
    "device token": "skd1.azEAAAAAAAAAAAAA-_x",
    "management token": "skm_0123456789abcdef",
    "signed document": "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl",
    "password of the proxy": "open sesame",
    "the same in a URL": "open%20sesame",
    "password of a URL": "p4ssw0rd-of-a-url",
    "header": "YWRhOm9wZW4tc2VzYW1l",
    "private key": "MC4CAQAwBQYDK2VwBCIEIJplanted",
    "address": "198.51.100.7",
    "address of six": "2001:db8::17",
    "card": "52:54:00:ab:cd:ef",
    "name": "Zoe Planted",
    "mail": "grace@mail.example.org",
    "home": "/home/grace",
    "host of the server": "licenses.customer.example",
}
LINES = f"""key {KEY} and {SECRETS["key in lower case"]}, {IMPORTED} and %2Fv1%3F{IMPORTED.replace(" ", "%20")}
Authorization: Basic {SECRETS["header"]}
{{"deviceToken": "{SECRETS["device token"]}", "lease": "{SECRETS["signed document"]}"}}
{SECRETS["management token"]} http://bob:{SECRETS["password of a URL"]}@192.0.2.9/
-----BEGIN PRIVATE KEY-----
{SECRETS["private key"]}
-----END PRIVATE KEY-----
from {SECRETS["address"]} and [{SECRETS["address of six"]}] by {SECRETS["card"]} for {SECRETS["mail"]}
{SECRETS["secret of the configuration"]}
file {SECRETS["home"]}/x.py on {platform.node()} for {getpass.getuser()}; said open sesame, open%20sesame
device {SECRETS["name"]} started
{{"path": "{SECRETS["home"]}", "host": "{SECRETS["host of the server"]}"}}
"""


@pytest.fixture
def bundling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """A machine whose journal, kernel, configuration and environment hold secrets of every kind."""
    home, programs = tmp_path / "home", tmp_path / "programs"
    home.mkdir()
    programs.mkdir()
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    (tmp_path / "lines").write_text(LINES)
    for name in ("journalctl", "dmesg"):
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $*"\ncat {tmp_path}/lines\n')
        (programs / name).chmod(0o755)
    (home / "config.toml").write_text(
        f'url = "http://127.0.0.1:{free_port()}"\nproduct = "editor"\nlicense_key = "{IMPORTED}"\n'
        f'proxy = "http://proxyuser:open%20sesame@127.0.0.1:{free_port()}"\nunit = "editor.service"\n'
        + f'name = "{SECRETS["name"]}"\n'
        + f'relay_password = """\n{SECRETS["secret of the configuration"]}\n"""\n'
        + "".join(f"# {line}\n" for line in LINES.splitlines())
    )
    variables = {"PATH": f"{programs}:/usr/bin:/bin", "SEATKEEPER_FINGERPRINT": "laptop", "https_proxy": "http://a:b@c"}
    variables |= {"SEATKEEPER_NAME": f"of {SECRETS['mail']}", "SEATKEEPER_URL": f"http://127.0.0.1:{free_port()}"}
    return Command(folder=home, variables=variables)


def unpacked(archive: Path) -> dict[str, str]:
    with tarfile.open(fileobj=io.BytesIO(archive.read_bytes())) as opened:
        members = opened.getmembers()
        assert {member.uname + member.gname for member in members} == {""}
        return {member.name.partition("/")[2]: opened.extractfile(member).read().decode() for member in members}  # type: ignore[union-attr]


async def bundled(bundling: Command, tmp_path: Path, *arguments: object) -> tuple[dict[str, str], dict[str, Any]]:
    log = tmp_path / "app.log"
    log.write_text("".join(f"line {number}\n" for number in range(500)) + LINES)
    ran = await bundling("bundle", "--json", "--log", log, *arguments)
    document = ran.ok()
    return unpacked(Path(document["path"])), document


async def test_no_secret_is_in_any_file(bundling: Command, tmp_path: Path) -> None:
    files, document = await bundled(bundling, tmp_path)

    assert sorted(files) == [
        "1-app.log",
        "configuration.toml",
        "doctor.json",
        "doctor.txt",
        "environment.json",
        "kernel.txt",
        "unit.log",
    ]
    for name, text in files.items():
        for kind, secret in SECRETS.items():
            assert secret.lower() not in text.lower(), (name, kind)
        assert "proxyuser" not in text
        assert platform.node().lower() not in text.lower(), name
    assert document["files"] == [
        {"name": name, "bytes": len(files[name].encode()), "redacted": each["redacted"]}
        for name, each in zip(sorted(files), document["files"], strict=True)
    ]
    told = document["redacted"]
    assert {"key", "token", "password", "pem", "address", "mac", "email", "home", "host", "name"} <= set(told)
    assert sum(told.values()) == sum(each["redacted"] for each in document["files"])


async def test_the_same_value_has_the_same_placeholder_in_all_files(bundling: Command, tmp_path: Path) -> None:
    files, _ = await bundled(bundling, tmp_path)

    card = {line for text in files.values() for line in text.splitlines() if "and [" in line and "by" in line}
    assert len({line.removeprefix("# ") for line in card}) == 1


async def test_logs_and_kernel_errors_are_the_last_hundred_lines(bundling: Command, tmp_path: Path) -> None:
    files, _ = await bundled(bundling, tmp_path)

    assert len(files["1-app.log"].splitlines()) == 100 - 2  # a private key of three lines is one
    assert files["unit.log"].startswith("journalctl --no-pager --no-hostname")
    assert "--unit=editor.service" in files["unit.log"]
    assert "--priority=err" in files["kernel.txt"]


async def test_documents_can_be_read_and_tell_of_the_machine(bundling: Command, tmp_path: Path) -> None:
    files, _ = await bundled(bundling, tmp_path)

    environment, report = json.loads(files["environment.json"]), json.loads(files["doctor.json"])

    assert environment["system"] == platform.system()
    assert environment["application"] == "editor"
    assert "aiohttp" in environment["packages"]
    assert environment["variables"]["SEATKEEPER_NAME"].startswith("<name-")
    assert {"configuration", "answer", "cache"} <= {finding["name"] for finding in report["findings"]}


async def test_it_is_for_its_owner_alone_and_in_the_current_folder(bundling: Command, tmp_path: Path) -> None:
    _, document = await bundled(bundling, tmp_path)

    path = Path(str(document["path"]))
    assert path.parent == tmp_path / "here"
    assert path.name.startswith("seatkeeper-bundle-2")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


async def test_elsewhere_it_is_written_only_when_that_is_said(bundling: Command, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    os.mkdir(elsewhere)

    unasked = await bundling("bundle", "--output", elsewhere)
    said = await bundling("bundle", "--output", elsewhere / "a.tar.gz", "--yes")
    again = await bundling("bundle", "--output", elsewhere / "a.tar.gz", "--yes")

    assert unasked.code == 2
    assert "configuration.toml" in unasked.out
    assert (said.code, again.code) == (0, 1)
    assert os.listdir(elsewhere) == ["a.tar.gz"]

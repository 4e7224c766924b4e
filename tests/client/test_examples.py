"""The examples of the client, each as a process against a real server: as it should be, and under chaos."""

import ast
import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from services.portal.accounts import terms
from services.standalone.embedded import RedisServer, free_port
from shared.licensing.model import Kind, Reinstate, Rules, Suspend
from shared.runtime.sections import Chaos
from tests import servers
from tests.client.chaotic import open_chaotic
from tests.platform import PRODUCT, ROOT, Gate, Grant, Platform, Vendor, copied_database, eventually, open_platform

pytest_plugins = ["tests.platform"]

EXAMPLES = ROOT / "client" / "examples"
END_S = 60.0
QUIT_S = 10.0
OFTEN = Chaos(reject=0.15, delay=0.15, reset=0.15, twice=0.15, delay_s=0.3)
"""An example makes few calls, and each of its tests should meet some of it."""


@pytest.fixture(scope="module", params=["calm", "chaos"])
async def server(
    request: pytest.FixtureRequest,
    postgres_server: servers.PostgresSource,
    template_database: str,
    module_redis: RedisServer,
) -> AsyncIterator[Platform]:
    async with copied_database(postgres_server, template_database) as database:
        if request.param == "calm":
            async with open_platform(database, module_redis) as platform:
                yield platform
        else:
            async with open_chaotic(database, module_redis, OFTEN) as platform:
                yield platform


@pytest.fixture
async def vendor(server: Platform) -> Vendor:
    return await server.vendor()


async def busy_license(vendor: Vendor, rules: Rules | None = None) -> Grant:
    """One whose devices report each second."""
    often = terms(kind=Kind.NODE_LOCKED, product_code=PRODUCT, heartbeat_interval_s=1, rules=rules)
    await vendor.accounts.add_policy(vendor.account, name="often", seats=1, terms=often)
    made = await vendor.licenses.create(vendor.account, policy="often")
    return Grant(account=vendor.account, id=made.id, key=made.key)


class Machine:
    """Where an example runs: a device of its own with a home of its own."""

    def __init__(self, home: Path, url: str, vendor: Vendor, key: str) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SEATKEEPER_")}
        self._environ = kept | {
            "PYTHONPATH": str(ROOT / "client" / "src"),
            "SEATKEEPER_URL": url,
            "SEATKEEPER_PRODUCT": PRODUCT,
            "SEATKEEPER_ROOT_KEY": vendor.root_key["x"],
            "SEATKEEPER_LICENSE_KEY": key,
            "SEATKEEPER_HOME": str(home),
            "SEATKEEPER_FINGERPRINT": home.name,
        }

    async def start(self, name: str, *arguments: str, **environ: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            str(EXAMPLES / name),
            *arguments,
            env=self._environ | environ,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, name: str, *arguments: str) -> tuple[int | None, str, str]:
        process = await self.start(name, *arguments)
        out, err = await asyncio.wait_for(process.communicate(), END_S)
        return process.returncode, out.decode(), err.decode()


async def line_with(process: asyncio.subprocess.Process, part: str) -> str:
    """The first line it prints that holds this."""
    assert process.stdout
    async with asyncio.timeout(END_S):
        async for line in process.stdout:
            if part in line.decode():
                return line.decode().rstrip()
    raise AssertionError(f"it never said {part!r}: {(await process.communicate())[1].decode()}")


async def set_status(vendor: Vendor, grant: Grant, verb: type[Suspend] | type[Reinstate]) -> None:
    await vendor.licenses.set_status(grant.ref, verb)


# --- The five lines of the README -------------------------------------------------------------------------------


async def test_the_five_lines_of_the_readme_run(
    server: Platform, vendor: Vendor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEATKEEPER_HOME", str(tmp_path))
    grant = await vendor.license(rules=Rules(entitlements={"export": None}))
    given = {"URL": server.api.url, "ROOT_KEY": vendor.root_key["x"], "key": grant.key}
    readme = (ROOT / "client" / "README.md").read_text("utf-8").replace('"photo-editor"', repr(PRODUCT))
    with_thread, with_loop = re.findall(
        r"^```python\n(.*?)^```$", readme.partition("## A walk")[0], re.MULTILINE | re.DOTALL
    )

    (state,) = await asyncio.to_thread(run_here, with_thread, given)
    assert state.startswith("Active")
    assert await asyncio.to_thread(run_here, "import seatkeeper\n" + with_loop, given) == []
    assert await server.seats_used(grant) == 1


def run_here(program: str, given: dict[str, str]) -> list[str]:
    """What a program prints that may await at its top."""
    printed: list[str] = []
    names = {**given, "print": lambda value: printed.append(str(value))}
    awaits = eval(compile(program, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
    if awaits is not None:
        asyncio.run(awaits)
    return printed


# --- The command-line tool --------------------------------------------------------------------------------------


async def test_the_tool_works_and_holds_one_seat_however_often_it_runs(
    server: Platform, vendor: Vendor, tmp_path: Path
) -> None:
    grant = await vendor.license(seats=1)
    machine = Machine(tmp_path / "home", server.api.url, vendor, grant.key)
    text = tmp_path / "notes.txt"
    text.write_text("one two three")
    for _ in range(3):
        code, out, err = await machine.run("command_line.py", str(text))
        assert (code, out) == (0, "3 words\n")
        assert not err or err.startswith("note: Limited (UNREACHABLE) until ")  # where it met chaos twice
    assert await server.seats_used(grant) == 1


async def test_the_tool_exports_only_where_the_license_covers_it(
    server: Platform, vendor: Vendor, tmp_path: Path
) -> None:
    text, export = tmp_path / "notes.txt", tmp_path / "counts.json"
    text.write_text("one two three")
    plain = await vendor.license()
    machine = Machine(tmp_path / "plain", server.api.url, vendor, plain.key)
    code, out, err = await machine.run("command_line.py", str(text), "--export", str(export))
    assert (code, out, err.startswith("not licensed: "), export.exists()) == (3, "", True, False)

    better = await vendor.license(rules=Rules(entitlements={"export": None}))
    machine = Machine(tmp_path / "better", server.api.url, vendor, better.key)
    assert (await machine.run("command_line.py", str(text), "--export", str(export)))[0] == 0
    assert json.loads(export.read_text()) == {"words": 3}


async def test_the_tool_goes_on_while_the_server_is_away(server: Platform, vendor: Vendor, tmp_path: Path) -> None:
    grant = await vendor.license()
    text = tmp_path / "notes.txt"
    text.write_text("one two three")
    async with way_to(server) as way:
        url = f"http://127.0.0.1:{way.port}"
        machine = Machine(tmp_path / "home", url, vendor, grant.key)
        assert (await machine.run("command_line.py", str(text)))[0] == 0
        await way.shut()
        code, out, err = await machine.run("command_line.py", str(text))
        assert (code, out) == (0, "3 words\n")
        assert err.startswith("note: Limited (UNREACHABLE) until ")


async def test_the_tool_says_what_to_do_when_it_is_refused(server: Platform, vendor: Vendor, tmp_path: Path) -> None:
    grant = await vendor.license(seats=1)
    await vendor.seat(grant, "another")
    machine = Machine(tmp_path / "home", server.api.url, vendor, grant.key)
    code, out, err = await machine.run("command_line.py", __file__)
    assert (code, out) == (3, "")
    assert err.startswith("not licensed: Free a device of this license, or ask the vendor for more seats")


# --- The web application ----------------------------------------------------------------------------------------


async def test_the_site_answers_as_the_license_stands(server: Platform, vendor: Vendor, tmp_path: Path) -> None:
    grant = await busy_license(vendor, Rules(entitlements={"export": 5}))
    machine = Machine(tmp_path / "home", server.api.url, vendor, grant.key)
    async with site_of(machine) as site:
        await eventually(lambda: site.answers("/", 200), within_s=END_S)
        assert await site.get("/export") == (200, {"limit": 5})

        await set_status(vendor, grant, Suspend)
        await eventually(lambda: site.answers("/", 403), within_s=END_S)
        status, said = await site.get("/")
        assert (status, said["reason"]) == (403, "LICENSE_SUSPENDED")
        assert (await site.get("/license"))[0] == 200

        await set_status(vendor, grant, Reinstate)
        await eventually(lambda: site.answers("/", 200), within_s=END_S)


async def test_the_site_is_up_and_says_402_while_all_seats_are_taken(
    server: Platform, vendor: Vendor, tmp_path: Path
) -> None:
    grant = await vendor.license(seats=1)
    await vendor.seat(grant, "another")
    machine = Machine(tmp_path / "home", server.api.url, vendor, grant.key)
    async with site_of(machine) as site:
        await eventually(lambda: site.answers("/", 402), within_s=END_S)
        assert (await site.get("/"))[1]["reason"] == "DEVICE_LIMIT_EXCEEDED"


class Site:
    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def get(self, path: str) -> tuple[int, Any]:
        async with self._session.get(self._url + path) as answer:
            return answer.status, await answer.json()

    async def answers(self, path: str, status: int) -> bool:
        try:
            return (await self.get(path))[0] == status
        except aiohttp.ClientConnectionError:
            return False


@asynccontextmanager
async def site_of(machine: Machine) -> AsyncIterator[Site]:
    """The web application at work; it has to end by TERM without an error."""
    port = free_port()
    process = await machine.start("web_app.py", PORT=str(port))
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
            yield Site(session, f"http://127.0.0.1:{port}")
        process.terminate()
        _, err = await asyncio.wait_for(process.communicate(), END_S)
        assert (process.returncode, "Traceback" in err.decode()) == (0, False), err.decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


# --- The desktop program ----------------------------------------------------------------------------------------


async def test_the_window_follows_the_license_and_closes_at_once(
    server: Platform, vendor: Vendor, tmp_path: Path
) -> None:
    grant = await busy_license(vendor)
    machine = Machine(tmp_path / "home", server.api.url, vendor, grant.key)
    async with window_of(machine) as window:
        assert (await line_with(window, "ready")).startswith("ready: Active")
        await set_status(vendor, grant, Suspend)
        assert "Ask the vendor to reinstate the license" in await line_with(window, "locked")
        await set_status(vendor, grant, Reinstate)
        assert (await line_with(window, "ready")).startswith("ready: Active")


async def test_the_window_opens_and_complains_when_the_key_is_wrong(
    server: Platform, vendor: Vendor, tmp_path: Path
) -> None:
    machine = Machine(tmp_path / "home", server.api.url, vendor, "not-a-key-of-anybody")
    async with window_of(machine) as window:
        assert "Check the license key" in await line_with(window, "locked")


@asynccontextmanager
async def window_of(machine: Machine) -> AsyncIterator[asyncio.subprocess.Process]:
    """The desktop program at work; it has to end, without an error, when its user quits."""
    process = await machine.start("desktop.py")
    try:
        yield process
        _, err = await asyncio.wait_for(process.communicate(b"quit\n"), QUIT_S)
        assert (process.returncode, b"Traceback" in err) == (0, False), err
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@asynccontextmanager
async def way_to(server: Platform) -> AsyncIterator[Gate]:
    gate = Gate(("127.0.0.1", int(server.api.url.rpartition(":")[2])))
    await gate.open()
    try:
        yield gate
    finally:
        await gate.shut()

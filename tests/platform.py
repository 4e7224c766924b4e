"""The real services for tests: in this process on a free port, or as processes of their own, on real servers.

Test modules take these fixtures with `pytest_plugins = ["tests.platform"]`.

- `platform` is one for all tests of a module: each test makes a vendor, and licenses, of its own.
- `fresh_platform` is a test's own: for those that move the clock.
- `gated_platform` is a test's own too, and reaches Postgres and Redis through gates that the test can shut.
- `services` starts processes (`python -m services.NAME`), which die with the test process.

Test modules import names from here before pytest takes it as a plugin, hence PYTEST_DONT_REWRITE.
"""

import asyncio
import base64
import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit
from uuid import UUID

import aiohttp
import asyncpg
import pytest
from aiohttp import web

from services.portal.accounts import Accounts, NewAccount, terms
from services.portal.licenses import Licenses, NewToken
from services.reaper.settings import Reaper
from services.standalone.app import Standalone, open_standalone
from services.standalone.embedded import RedisServer, die_with_parent, free_port, start_redis, wheel_valkey_binary
from services.standalone.settings import Settings
from shared.ledger.reader import LicenseRef
from shared.licensing.facts import Fact
from shared.licensing.model import Activate, Approval, Granted, Kind, Rules, device_id
from shared.runtime.resources import Resources, open_resources
from shared.runtime.sections import Limits, Log, Postgres, Reconciliation, Redis, Secret, Secrets, Server, Testing
from shared.signing.keys import PublicJwk
from shared.web.connections import Runner
from tests import servers
from tests.conftest import Database

ROOT = Path(__file__).resolve().parents[1]
LOOPBACK = "127.0.0.1"
MASTER_SECRET = base64.b64encode(os.urandom(32)).decode()
PRODUCT = "app"
START_S = 30.0


# --- HTTP -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """An HTTP response that was read whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        decoded = json.loads(self.body)
        assert isinstance(decoded, dict), self
        return decoded

    def ok(self, status: int = 200) -> dict[str, Any]:
        """The JSON of an answer that has to have this status."""
        assert self.status == status, self
        assert self.headers["Content-Type"] == "application/json"
        assert self.headers["Cache-Control"] == "no-store"
        return self.json

    @property
    def refusal(self) -> tuple[int, str]:
        """Status and code of an answer that has to be a whole problem document."""
        assert self.headers["Content-Type"] == "application/problem+json", self
        document = self.json
        assert document["status"] == self.status, self
        assert isinstance(document["retryable"], bool), self
        assert document["title"], self
        assert document["detail"], self
        assert "{" not in document["detail"], self
        code: str = document["code"]
        assert document["type"] == f"urn:seatkeeper:problem:{code.lower().replace('_', '-')}", self
        return self.status, code


class Api:
    """What clients send. Bodies are JSON unless `data` gives the bytes."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self.url = url

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        sent = data if data is not None else None if body is None else json.dumps(body).encode()
        async with self._session.request(
            method, self.url + path, data=sent, headers=headers, skip_auto_headers=["Content-Type"]
        ) as response:
            return Answer(response.status, response.headers, await response.read())

    async def post(self, path: str, body: object = None, **options: Any) -> Answer:
        return await self.ask("POST", path, body, **options)

    async def activate(self, key: str | None, fingerprint: str = "laptop", **members: Any) -> Answer:
        by_key = {} if key is None else {"licenseKey": key}
        body = {"fingerprint": fingerprint, "timestamp": int(time.time()), **by_key, **members}
        return await self.post("/v1/activate", body)

    async def validate(self, key: str, fingerprint: str | None = None) -> Answer:
        return await self.post("/v1/validate", {"key": key} | ({"fingerprint": fingerprint} if fingerprint else {}))

    async def deactivate(self, key: str, device_id: str, **members: Any) -> Answer:
        return await self.post("/v1/deactivate", {"deviceId": device_id, "licenseKey": key, **members})

    async def reset(self, key: str, device_id: str, **members: Any) -> Answer:
        return await self.post("/v1/reset", {"deviceId": device_id, "licenseKey": key, **members})

    async def heartbeat(self, token: str, **members: Any) -> Answer:
        return await self.post("/v1/heartbeat", {"deviceToken": token, **members})

    async def devices(self, key: str, query: str = "") -> Answer:
        return await self.ask("GET", f"/v1/devices{query}", headers=license_header(key))


def license_header(key: str) -> dict[str, str]:
    return {"Authorization": f"License {key}"}


@asynccontextmanager
async def open_api(url: str) -> AsyncIterator[Api]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        yield Api(session, url)


# --- Vendors ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Grant:
    """A license that a test made, and its key."""

    account: UUID
    id: UUID
    key: str

    @property
    def ref(self) -> LicenseRef:
        return self.account, self.id


class Vendor:
    """An account with one product, and what its vendor does, by the portal's use cases."""

    def __init__(self, resources: Resources, account: NewAccount) -> None:
        r = resources
        self.account = account.id
        self.root_key: PublicJwk = account.root_key
        self.accounts = Accounts(r.catalog, r.secrets, r.management_tokens, shortest_floating_lease_s=1)
        self.licenses = Licenses(r.catalog, r.ledger, r.reader, r.keystore, r.license_keys)
        self._ledger = r.ledger
        self._policies = 0

    async def license(
        self,
        *,
        seats: int = 3,
        kind: Kind = Kind.NODE_LOCKED,
        lease_s: int | None = None,
        approval: Approval = Approval.AUTOMATIC,
        rules: Rules | None = None,
        **options: Any,
    ) -> Grant:
        self._policies += 1
        name = f"policy {self._policies}"
        granted = terms(kind=kind, product_code=PRODUCT, lease_s=lease_s, approval=approval, rules=rules)
        await self.accounts.add_policy(self.account, name=name, seats=seats, terms=granted)
        made = await self.licenses.create(self.account, policy=name, **options)
        return Grant(account=self.account, id=made.id, key=made.key)

    async def seat(self, grant: Grant, fingerprint: str) -> UUID:
        """Activate a device where no service runs; returns its id."""
        id = device_id(grant.id, fingerprint)
        command = Activate(
            account_id=grant.account, license_id=grant.id, actor="device", device_id=id, fingerprint=fingerprint
        )
        assert isinstance((await self._ledger.submit(command)).answer, Granted)
        return id

    async def token(self, grant: Grant, *, ttl_s: float = 3600, max_uses: int = 10) -> NewToken:
        return await self.licenses.add_token(grant.ref, ttl_s=ttl_s, max_uses=max_uses)


async def new_vendor(resources: Resources) -> Vendor:
    accounts = Accounts(resources.catalog, resources.secrets, resources.management_tokens)
    account = await accounts.create("A vendor")
    await accounts.add_product(account.id, code=PRODUCT, name="An application")
    return Vendor(resources, account)


def mistyped(key: str) -> str:
    """The key with its last character changed, so that the check character gives it away."""
    return key[:-1] + ("A" if key[-1] != "A" else "B")


# --- In this process --------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Platform:
    """All services in this process, served over HTTP. `facts` are those delivered so far."""

    api: Api
    standalone: Standalone
    database: Database
    facts: list[Fact]
    gates: "Gates | None" = None
    redis: RedisServer

    @property
    def resources(self) -> Resources:
        return self.standalone.resources

    async def vendor(self) -> Vendor:
        return await new_vendor(self.resources)

    async def rows(self, query: str, *arguments: object) -> list[dict[str, Any]]:
        """What the schema's owner reads, or writes."""
        return await rows(self.database, query, *arguments)

    async def device(self, device_id: str) -> dict[str, Any]:
        (found,) = await self.rows("SELECT * FROM device WHERE id = $1", UUID(device_id))
        return found

    async def seats_used(self, grant: Grant) -> int:
        """The count, which has to agree with the devices."""
        (found,) = await self.rows(
            "SELECT l.seats_used, count(d.id) AS active FROM license l"
            " LEFT JOIN device d ON d.account_id = l.account_id AND d.license_id = l.id AND d.state = 'active'"
            " WHERE l.id = $1 GROUP BY l.seats_used",
            grant.id,
        )
        assert found["seats_used"] == found["active"]
        return int(found["active"])

    async def move_clock(self, *, days: float = 0, hours: float = 0) -> None:
        """Set the simulated clock so much ahead of the true one, not of where it stood."""
        await move_clock(self.database, days=days, hours=hours)
        await self.resources.clock.read()


async def rows(database: Database, query: str, *arguments: object) -> list[dict[str, Any]]:
    connection = await asyncpg.connect(database.owner_dsn)
    try:
        return [dict(row) for row in await connection.fetch(query, *arguments)]
    finally:
        await connection.close()


async def move_clock(database: Database, *, days: float = 0, hours: float = 0) -> None:
    seconds = days * 86_400 + hours * 3_600
    await rows(
        database,
        "CREATE OR REPLACE FUNCTION ledger_clock() RETURNS timestamptz LANGUAGE sql VOLATILE AS "
        f"$$ SELECT clock_timestamp() + interval '{seconds} seconds' $$",
    )


async def eventually(holds: Callable[[], Awaitable[object]], *, within_s: float = 10.0) -> None:
    """Wait until it holds; fail if it does not in time."""
    deadline = time.monotonic() + within_s
    while not await holds():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.05)


SNAPSHOT = (
    "SELECT 'license', l::text FROM license l",
    "SELECT 'device', d::text FROM device d",
    "SELECT 'token', t::text FROM activation_token t",
    "SELECT 'audit', a::text FROM audit a",
    "SELECT 'outbox', o.fact FROM outbox o",
)


async def snapshot(database: Database) -> list[tuple[str, str]]:
    """All that requests may change, to be compared."""
    found = await rows(database, " UNION ALL ".join(SNAPSHOT) + " ORDER BY 1, 2")
    return [tuple(row.values()) for row in found]


def settings_for(postgres_dsn: str, redis_url: str) -> Settings:
    return Settings(
        environment="development",
        testing=Testing(simulated_clock=True, shortest_floating_lease_s=1),
        server=Server(host=LOOPBACK, port=0, health_host=LOOPBACK, health_port=0),
        postgres=Postgres(dsn=Secret(postgres_dsn), pool_size=4),
        redis=Redis(url=Secret(redis_url)),
        secrets=Secrets(keys={"k1": MASTER_SECRET}, current="k1"),
        limits=Limits(failed_authentications_per_min=0),
        log=Log(level="error"),
        reaper=Reaper(interval_s=86_400),
        reconciliation=Reconciliation(licenses_per_s=0),
    )


@asynccontextmanager
async def open_platform(
    database: Database, redis: RedisServer, gates: "Gates | None" = None
) -> AsyncIterator[Platform]:
    dsn, redis_url = database.dsn_for("seatkeeper_standalone"), redis.url
    if gates is not None:
        dsn, redis_url = gates.postgres_dsn, gates.redis_url
    facts: list[Fact] = []

    async def hear(delivered: Sequence[Fact]) -> None:
        facts.extend(delivered)

    async with AsyncExitStack() as stack:
        standalone = await stack.enter_async_context(open_standalone(settings_for(dsn, redis_url), receivers=[hear]))
        url = await stack.enter_async_context(served(standalone.app))
        api = await stack.enter_async_context(open_api(url))
        yield Platform(api=api, standalone=standalone, database=database, facts=facts, gates=gates, redis=redis)


@asynccontextmanager
async def served(app: web.Application) -> AsyncIterator[str]:
    """Serve as `lifecycle` does; gives the address."""
    runner = Runner(app, Server(), shutdown_timeout_s=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, LOOPBACK, 0).start()
        yield f"http://{LOOPBACK}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def copied_database(server: servers.PostgresSource, template: str) -> AsyncIterator[Database]:
    """A migrated database that lives as long as its user wants."""
    name = f"platform_{secrets.token_hex(6)}"
    made = Database(name=name, owner_dsn=server.dsn(name), server=server)
    postgres = Database(name="postgres", owner_dsn=server.dsn("postgres"), server=server)
    await rows(postgres, f"CREATE DATABASE {made.name} TEMPLATE {template}")
    try:
        yield made
    finally:
        await rows(postgres, f"DROP DATABASE {made.name} WITH (FORCE)")


@pytest.fixture(scope="module")
def module_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis of the module's own, which other modules do not empty."""
    with start_redis(tmp_path_factory.mktemp("redis"), binary=wheel_valkey_binary()) as server:
        yield server


@pytest.fixture
def private_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that the test may stop."""
    with start_redis(tmp_path, binary=wheel_valkey_binary(), port=free_port()) as server:
        yield server


@pytest.fixture(scope="module")
async def platform(
    postgres_server: servers.PostgresSource, template_database: str, module_redis: RedisServer
) -> AsyncIterator[Platform]:
    async with (
        copied_database(postgres_server, template_database) as database,
        open_platform(database, module_redis) as opened,
    ):
        yield opened


@pytest.fixture
async def fresh_platform(database: Database, private_redis: RedisServer) -> AsyncIterator[Platform]:
    async with open_platform(database, private_redis) as opened:
        yield opened


@pytest.fixture
async def gated_platform(database: Database, private_redis: RedisServer) -> AsyncIterator[Platform]:
    async with (
        open_gates(database, private_redis) as gates,
        open_platform(database, private_redis, gates) as opened,
    ):
        yield opened


# --- Gates ------------------------------------------------------------------------------------------------------


class Gate:
    """A way to a server, over TCP. Shut, it refuses connections and cuts those that are open; the server goes on."""

    def __init__(self, target: str | tuple[str, int]) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.requests = 0
        """How often clients sent something."""

    @property
    def is_open(self) -> bool:
        return self._server is not None

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, LOOPBACK, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for writer in list(self._writers):
            writer.transport.abort()
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            with contextlib.suppress(OSError):
                if self.is_open:  # a connection may have arrived in the moment of shutting
                    await self._forward(reader, writer)
        finally:
            self._writers.discard(writer)
            writer.transport.abort()
            self._tasks.discard(task)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if isinstance(self._target, str):
            behind, onward = await asyncio.open_unix_connection(self._target)
        else:
            behind, onward = await asyncio.open_connection(*self._target)
        self._writers.add(onward)
        try:
            await asyncio.gather(self._pass(reader, onward, counted=True), self._pass(behind, writer, counted=False))
        finally:
            self._writers.discard(onward)
            onward.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                self.requests += counted
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


@dataclass(frozen=True, kw_only=True)
class Gates:
    postgres: Gate
    redis: Gate
    postgres_dsn: str
    redis_url: str


@asynccontextmanager
async def open_gates(database: Database, redis: RedisServer) -> AsyncIterator[Gates]:
    dsn = database.dsn_for("seatkeeper_standalone")
    postgres, way = Gate(_postgres_address(dsn)), Gate((LOOPBACK, int(redis.port or 0)))
    await postgres.open()
    await way.open()
    try:
        yield Gates(
            postgres=postgres,
            redis=way,
            postgres_dsn=_redirected(dsn, postgres.port),
            redis_url=f"redis://{LOOPBACK}:{way.port}/0",
        )
    finally:
        await postgres.shut()
        await way.shut()


def _postgres_address(dsn: str) -> str | tuple[str, int]:
    parts = urlsplit(dsn)
    query = dict(parse_qsl(parts.query))
    host, port = query.get("host", parts.hostname or "/var/run/postgresql"), query.get("port", parts.port or 5432)
    return f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, int(port))


def _redirected(dsn: str, port: int) -> str:
    parts = urlsplit(dsn)
    who = parts.netloc.rpartition("@")[0]
    query = [(name, value) for name, value in parse_qsl(parts.query) if name not in ("host", "port", "sslmode")]
    place = f"{who}@{LOOPBACK}:{port}"
    return urlunsplit(parts._replace(netloc=place, query=urlencode([*query, ("sslmode", "disable")])))


# --- Processes --------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Service:
    """A running `python -m services.NAME`; what it prints is kept in files."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    health_port: int
    out: Path
    err: Path

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def health_url(self) -> str:
        return f"http://{LOOPBACK}:{self.health_port}"

    @property
    def printed(self) -> str:
        return self.out.read_text() + self.err.read_text()

    def log(self) -> list[dict[str, Any]]:
        """Its log, of which every line has to be JSON."""
        return [json.loads(line) for line in self.out.read_text().splitlines()]

    async def ready(self, status: int = 200) -> Self:
        """Wait for `/readyz` to say so."""
        deadline = time.monotonic() + START_S
        async with open_api(self.health_url) as health:
            while time.monotonic() < deadline:
                assert self.process.poll() is None, self.printed
                with contextlib.suppress(aiohttp.ClientConnectionError):
                    if (await health.ask("GET", "/readyz")).status == status:
                        return self
                await asyncio.sleep(0.05)
        raise AssertionError(f"{self.name} was not ready in time: {self.printed}")

    async def ended(self, within_s: float = START_S) -> int:
        return await asyncio.to_thread(self.process.wait, within_s)

    async def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return await self.ended()


@dataclass(kw_only=True)
class Services:
    """Starts processes in `folder`; `settings` are sections of settings, as the file has them."""

    folder: Path
    settings: dict[str, dict[str, Any]]
    started: list[Service] = field(default_factory=list)

    def write(self, name: str, changes: Mapping[str, Mapping[str, Any]] | None = None) -> tuple[Path, int, int]:
        """A settings file for a service with its own database role, and the two ports in it."""
        number, port, health_port = len(self.started), free_port(), free_port()
        sections: dict[str, dict[str, Any]] = {section: dict(values) for section, values in self.settings.items()}
        ports = {"host": LOOPBACK, "port": port, "health_host": LOOPBACK, "health_port": health_port}
        sections.setdefault("server", {}).update(ports)
        sections["postgres"]["dsn"] = sections["postgres"]["dsn"].replace("ROLE", f"seatkeeper_{name}")
        for section, values in (changes or {}).items():
            sections.setdefault(section, {}).update(values)
        path = self.folder / f"{name}-{number}.toml"
        path.write_text(toml(sections))
        return path, int(sections["server"]["port"]), int(sections["server"]["health_port"])

    def start(
        self,
        name: str,
        *arguments: str,
        changes: Mapping[str, Mapping[str, Any]] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Service:
        path, port, health_port = self.write(name, changes)
        return self.run(name, "--config", str(path), *arguments, environ=environ, ports=(port, health_port))

    def run(
        self, name: str, *arguments: str, environ: Mapping[str, str] | None = None, ports: tuple[int, int] = (0, 0)
    ) -> Service:
        number = len(self.started)
        out, err = self.folder / f"{name}-{number}.out", self.folder / f"{name}-{number}.err"
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("SEATKEEPER_")}
        parent = os.getpid()
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", f"services.{name}", *arguments],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env={**inherited, **(environ or {})},
                preexec_fn=lambda: die_with_parent(signal.SIGKILL, parent),
            )
        service = Service(name=name, process=process, port=ports[0], health_port=ports[1], out=out, err=err)
        self.started.append(service)
        return service


def toml(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """Sections with keys; a JSON text, number or list is a TOML one too, a mapping becomes an inline table."""
    lines = []
    for section, values in sections.items():
        lines.append(f"[{section}]")
        lines += [f"{name} = {_toml_value(value)}" for name, value in values.items()]
    return "\n".join(lines) + "\n"


def _toml_value(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {_toml_value(item)}" for name, item in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)


@pytest.fixture
def services(tmp_path: Path, database: Database, redis_url: str) -> Iterator[Services]:
    starter = Services(
        folder=tmp_path,
        settings={
            "postgres": {"dsn": database.dsn_for("ROLE")},
            "redis": {"url": redis_url},
            "secrets": {"keys": {"k1": MASTER_SECRET}, "current": "k1"},
            "limits": {"failed_authentications_per_min": 0},
            "log": {"level": "debug", "format": "json"},
        },
    )
    yield starter
    for service in starter.started:
        service.process.kill()
        service.process.wait()


@pytest.fixture
async def vendor(database: Database, redis_url: str) -> AsyncIterator[Vendor]:
    """A vendor beside separate services: the portal's use cases with the operator's role."""
    async with open_resources(
        settings_for(database.dsn_for("seatkeeper_operator"), redis_url), application="tests"
    ) as resources:
        yield await new_vendor(resources)

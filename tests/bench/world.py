"""What is measured: licenses and devices made for it, services and the yardstick as processes of their own."""

import asyncio
import base64
import os
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from services.activation.access import Access
from services.activation.activate import Activated, Activation, Request
from services.portal.accounts import Accounts, terms
from services.portal.licenses import Licenses
from services.standalone.embedded import free_port
from shared.ledger.migrate import create_database, migrate
from shared.licensing.model import Kind
from shared.runtime.resources import Resources, Settings, open_resources
from shared.runtime.sections import Postgres, Redis, Secret, Secrets
from tests import servers

LICENSES = 1000
SEATS = 1_000_000
DATABASE = "seatkeeper_bench"


class World(msgspec.Struct, frozen=True, kw_only=True):
    """Where each path is served, by us and by the yardstick, and the file of bodies to post there."""

    ours: dict[str, str]
    bare: dict[str, str]
    bodies: dict[str, Path]


class Service(NamedTuple):
    """A service as a process of its own."""

    url: str
    pid: int


@contextmanager
def running_world(folder: Path) -> Iterator[World]:
    """Start everything in `folder`; all of it ends with the context, and with this process."""
    with ExitStack() as stack:
        postgres = servers.start_postgres(folder)
        stack.callback(postgres.stop)
        redis = servers.start_redis(folder)
        stack.callback(redis.stop)
        master = base64.b64encode(secrets.token_bytes(32)).decode()

        def settings(role: str) -> Settings:
            return Settings(
                postgres=Postgres(dsn=Secret(postgres.dsn(DATABASE, role))),
                redis=Redis(url=Secret(redis.url)),
                secrets=Secrets(keys={"k1": master}, current="k1"),
            )

        asyncio.run(_make_database(postgres))
        bodies = asyncio.run(_make_bodies(settings("seatkeeper_standalone"), folder))
        activation = start_service(stack, "activation", settings("seatkeeper_activation")).url
        heartbeat = start_service(stack, "heartbeat", settings("seatkeeper_heartbeat")).url
        bare = _start_bare(stack)
        yield World(
            ours={"/v1/activate": activation, "/v1/validate": activation, "/v1/heartbeat": heartbeat},
            bare=dict.fromkeys(bodies, bare),
            bodies=bodies,
        )


async def _make_database(postgres: servers.PostgresSource) -> None:
    await create_database(postgres.dsn("postgres"), DATABASE)
    await migrate(postgres.dsn(DATABASE))


async def _make_bodies(settings: Settings, folder: Path) -> dict[str, Path]:
    async with open_resources(settings, application="bench") as resources:
        keys = await _make_licenses(resources)
        tokens = await _activate_each(resources, keys)
    lines = {
        "/v1/activate": [{"licenseKey": key, "fingerprint": "@N@", "timestamp": "@NOW@"} for key in keys],
        "/v1/validate": [{"key": key} for key in keys],
        "/v1/heartbeat": [{"deviceToken": token, "nonce": "@N@"} for token in tokens],
    }
    return {path: _write(folder / f"{path.rsplit('/', 1)[1]}.jsonl", bodies) for path, bodies in lines.items()}


async def _make_licenses(resources: Resources) -> list[str]:
    r = resources
    accounts = Accounts(r.catalog, r.secrets, r.management_tokens)
    licenses = Licenses(r.catalog, r.ledger, r.reader, r.keystore, r.license_keys)
    account = (await accounts.create("Bench")).id
    await accounts.add_product(account, code="bench", name="Bench")
    await accounts.add_policy(
        account, name="bench", seats=SEATS, terms=terms(kind=Kind.NODE_LOCKED, product_code="bench")
    )
    return [(await licenses.create(account, policy="bench")).key for _ in range(LICENSES)]


async def _activate_each(resources: Resources, keys: list[str]) -> list[str]:
    r = resources
    activation = Activation(
        Access(r.reader, r.keystore, r.license_keys, r.limits), r.nonces, r.holders, r.ledger, r.issuer
    )
    answers = await asyncio.gather(*(activation(_first_device(key), r.clock.now_s(), b"") for key in keys))
    return [answer.device_token for answer in answers if isinstance(answer, Activated)]


def _first_device(key: str) -> Request:
    return Request(token=None, license_key=key, fingerprint="first", name="", timestamp_s=time.time(), nonce=None)


def _write(path: Path, bodies: list[dict[str, Any]]) -> Path:
    lines = (msgspec.json.encode(body).decode().replace('"@NOW@"', "@NOW@") for body in bodies)
    path.write_text("\n".join(lines) + "\n")
    return path


def start_service(stack: ExitStack, name: str, settings: Settings, **more: str) -> Service:
    """Start `services.NAME`, which ends with the stack; returns once it is ready. `more` are further variables."""
    port, health = free_port(), free_port()
    process = _spawn(stack, ["-m", f"services.{name}"], environment(settings, port, health) | more)
    _await(f"http://127.0.0.1:{health}/readyz")
    return Service(url=f"http://127.0.0.1:{port}", pid=process.pid)


def environment(settings: Settings, port: int, health: int) -> dict[str, str]:
    """What a service's process reads its settings from."""
    return {
        "SEATKEEPER_SERVER_HOST": "127.0.0.1",
        "SEATKEEPER_SERVER_PORT": str(port),
        "SEATKEEPER_SERVER_HEALTH_PORT": str(health),
        "SEATKEEPER_POSTGRES_DSN": settings.postgres.dsn.reveal(),
        "SEATKEEPER_REDIS_URL": settings.redis.url.reveal(),
        "SEATKEEPER_SECRETS_KEYS": ",".join(f"{id}:{key}" for id, key in settings.secrets.keys.items()),
        "SEATKEEPER_SECRETS_CURRENT": settings.secrets.current,
        "SEATKEEPER_LOG_LEVEL": "warning",
    }


def _start_bare(stack: ExitStack) -> str:
    port = free_port()
    _spawn(stack, ["-m", "tests.bench.bare", str(port)], {})
    _await(f"http://127.0.0.1:{port}/", any_status=True)
    return f"http://127.0.0.1:{port}"


def _spawn(stack: ExitStack, arguments: list[str], environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen([sys.executable, *arguments], env={**os.environ, **environment})
    stack.callback(process.wait, 30)
    stack.callback(process.terminate)
    return process


def _await(url: str, *, any_status: bool = False, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except urllib.error.HTTPError:
            if any_status:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise TimeoutError(f"{url} does not answer")

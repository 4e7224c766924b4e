"""Each service as a process of its own: settings, probes, logs, and how it ends."""

import asyncio
import base64
import json
import os
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from shared.licensing.model import Suspend
from shared.signing.device_token import DeviceClaims, DeviceTokens
from shared.signing.license_key_hash import LicenseKeyHasher
from shared.signing.secrets import MasterSecrets
from tests.conftest import Database
from tests.platform import (
    LOOPBACK,
    MASTER_SECRET,
    Platform,
    Service,
    Services,
    Vendor,
    eventually,
    license_header,
    mistyped,
    move_clock,
    open_api,
    rows,
)

pytest_plugins = ["tests.platform"]

PATIENT_MS = 5000
"""Redis is not given up where the machine is busy."""

NAMES = ["activation", "heartbeat", "reaper", "portal"]


async def ready(service: Service) -> dict[str, Any]:
    async with open_api(service.health_url) as health:
        return (await health.ask("GET", "/readyz")).json


# --- Starting and serving ---------------------------------------------------------------------------------------


async def test_a_device_lives_its_life_with_separate_services(services: Services, vendor: Vendor) -> None:
    grant = await vendor.license(seats=1)
    activation, heartbeat = services.start("activation"), services.start("heartbeat")
    await activation.ready()
    await heartbeat.ready()

    async with open_api(activation.url) as activate, open_api(heartbeat.url) as beat:
        seat = (await activate.activate(grant.key)).ok(201)
        (await activate.activate(grant.key)).ok(200)
        assert (await activate.activate(grant.key, "another")).refusal == (403, "DEVICE_LIMIT_EXCEEDED")
        (await beat.heartbeat(seat["deviceToken"])).ok()
        (await activate.deactivate(grant.key, seat["deviceId"])).ok()
        lost = await beat.heartbeat(seat["deviceToken"])
        assert (*lost.refusal, lost.json["reason"]) == (410, "LEASE_LOST", "user")
        assert (await beat.activate(grant.key)).refusal == (404, "NOT_FOUND")
        assert (await activate.heartbeat(seat["deviceToken"])).refusal == (404, "NOT_FOUND")
    assert (await activation.stop(), await heartbeat.stop()) == (0, 0)


async def test_every_service_serves_its_probes_on_a_port_of_their_own(services: Services, vendor: Vendor) -> None:
    services.settings["redis"]["timeout_ms"] = PATIENT_MS
    started = [services.start(name) for name in NAMES]

    for service in started:
        await service.ready()
        async with open_api(service.health_url) as health, open_api(service.url) as public:
            assert (await health.ask("GET", "/healthz")).ok() == {"status": "alive"}
            assert (await health.ask("GET", "/readyz")).ok() == {"status": "ready", "checks": {"postgres": "ok"}}
            metrics = await health.ask("GET", "/metrics")
            assert metrics.headers["Content-Type"].startswith("text/plain")
            assert b"# HELP seatkeeper_" in metrics.body
            for path in ("/healthz", "/metrics", "/readyz"):
                assert (await public.ask("GET", path)).refusal == (404, "NOT_FOUND"), service.name

    assert [await service.stop() for service in started] == [0] * 4
    for service in started:
        assert service.err.read_text() == ""
        assert [line["event"] for line in service.log() if line["level"] not in ("debug", "info")] == []


async def test_requests_are_counted_by_route(services: Services, vendor: Vendor) -> None:
    grant = await vendor.license()
    activation = await services.start("activation").ready()

    async with open_api(activation.url) as api, open_api(activation.health_url) as health:
        await api.activate(grant.key)
        await api.activate(mistyped(grant.key))
        await api.ask("GET", "/v1/" + grant.key)
        metrics = (await health.ask("GET", "/metrics")).body.decode()

    assert 'seatkeeper_http_requests_total{route="activate",status="201"} 1.0' in metrics
    assert 'seatkeeper_http_requests_total{route="activate",status="401"} 1.0' in metrics
    assert 'seatkeeper_http_requests_total{route="unmatched",status="404"} 1.0' in metrics
    assert grant.key not in metrics


async def test_the_worker_of_the_reaper_frees_the_silent(
    services: Services, vendor: Vendor, database: Database
) -> None:
    grant = await vendor.license()
    await vendor.seat(grant, "silent")
    await move_clock(database, days=92)

    reaper = await services.start("reaper", changes={"reaper": {"interval_s": 0.2}}).ready()

    async with open_api(reaper.health_url) as health:

        async def has_freed_one() -> bool:
            return b"seatkeeper_reaper_freed_total 1.0" in (await health.ask("GET", "/metrics")).body

        await eventually(has_freed_one)
    assert await rows(database, "SELECT seats_used FROM license") == [{"seats_used": 0}]
    assert await reaper.stop() == 0


# --- Settings ---------------------------------------------------------------------------------------------------


async def test_the_environment_wins_over_the_file(services: Services, vendor: Vendor) -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        port = taken.getsockname()[1]
    activation = services.start(
        "activation",
        changes={"log": {"level": "error"}},
        environ={"SEATKEEPER_SERVER_PORT": str(port), "SEATKEEPER_LOG_LEVEL": "info"},
    )
    assert port != activation.port
    await activation.ready()

    async with open_api(f"http://{LOOPBACK}:{port}") as api:
        assert (await api.ask("GET", "/.well-known/jwks.json")).status == 200
    assert [line["event"] for line in activation.log() if line["level"] == "info"]


async def test_the_environment_alone_is_enough(services: Services, vendor: Vendor, database: Database) -> None:
    _, port, health_port = services.write("activation")
    key_file = services.folder / "dsn"
    key_file.write_text(database.dsn_for("seatkeeper_activation") + "\n")
    environ = {
        "SEATKEEPER_POSTGRES_DSN_FILE": str(key_file),
        "SEATKEEPER_REDIS_URL": services.settings["redis"]["url"],
        "SEATKEEPER_SECRETS_KEYS": f"k1:{MASTER_SECRET}",
        "SEATKEEPER_SECRETS_CURRENT": "k1",
        "SEATKEEPER_SERVER_HOST": LOOPBACK,
        "SEATKEEPER_SERVER_PORT": str(port),
        "SEATKEEPER_SERVER_HEALTH_PORT": str(health_port),
    }

    activation = services.run("activation", environ=environ, ports=(port, health_port))

    await activation.ready()
    assert await activation.stop() == 0


@pytest.mark.parametrize("name", NAMES)
async def test_all_faults_of_the_settings_are_told_at_once_and_none_repeats_a_value(
    services: Services, name: str
) -> None:
    service = services.start(
        name,
        changes={
            "server": {"port": 70_000, "prot": 1},
            "postgres": {"dsn": "mysql://app:hunter2@db/x"},
            "redis": {"url": "hunter2"},
            "secrets": {
                "keys": {"k1": "hunter2", MASTER_SECRET.replace("=", "").replace("+", "").replace("/", ""): "x"}
            },
            "log": {"level": "hunter2"},
            "nonsense": {"x": 1},
        },
        environ={"SEATKEEPER_SERVER_DRAIN_S": "hunter2"},
    )

    assert await service.ended() == 2

    told = service.err.read_text().splitlines()
    assert all(line.startswith(f"services.{name}: ") for line in told)
    for setting in (
        *("server.port", "server.prot", "server.drain_s", "postgres", "redis", "secrets", "log.level", "nonsense"),
    ):
        assert any(
            line.startswith((f"services.{name}: {setting} ", f"services.{name}: {setting}:")) for line in told
        ), (
            setting,
            told,
        )
    assert "hunter2" not in service.printed
    assert MASTER_SECRET[:8] not in service.printed


async def test_nothing_at_all_is_told_what_is_missing(services: Services) -> None:
    service = services.run("activation")

    assert await service.ended() == 2

    told = service.err.read_text()
    for variable in ("SEATKEEPER_POSTGRES_DSN", "SEATKEEPER_REDIS_URL", "SEATKEEPER_SECRETS_KEYS"):
        assert variable in told


async def test_a_file_that_cannot_be_read_is_told(services: Services) -> None:
    broken = services.folder / "broken.toml"
    broken.write_text('[postgres]\ndsn = "postgres://app:hunter2@db/x\n')
    started = [services.run("heartbeat", "--config", str(path)) for path in (broken, services.folder / "none.toml")]

    assert [await service.ended() for service in started] == [2, 2]
    assert "not valid TOML at line 2" in started[0].err.read_text()
    assert "No such file" in started[1].err.read_text()
    assert "hunter2" not in started[0].printed


# --- What is away, or not there yet -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
async def test_a_service_waits_for_the_migrations(
    services: Services, empty_database: Callable[[], Awaitable[Database]], database: Database, name: str
) -> None:
    from shared.ledger.migrate import migrate

    unmigrated = await empty_database()
    service = services.start(name, changes={"postgres": {"dsn": unmigrated.dsn_for(f"seatkeeper_{name}")}})

    await service.ready(503)
    async with open_api(service.health_url) as health:
        assert (await health.ask("GET", "/healthz")).status == 200
    assert "postgres" in (await ready(service))["checks"]
    await migrate(unmigrated.owner_dsn)

    await service.ready()
    assert await service.stop() == 0


async def test_a_service_starts_while_postgres_and_redis_are_away(services: Services, vendor: Vendor) -> None:
    grant = await vendor.license()
    ours = DeviceTokens(MasterSecrets({"k1": base64.b64decode(MASTER_SECRET)}, "k1")).issue(
        DeviceClaims(account=uuid4(), license=uuid4(), device=uuid4(), generation=1)
    )
    nowhere = f"{services.folder}/nowhere"
    changes = {
        "postgres": {"dsn": f"postgresql://app:hunter2@/x?host={nowhere}"},
        "redis": {"url": f"unix://{nowhere}/redis.sock"},
    }
    activation, heartbeat = services.start("activation", changes=changes), services.start("heartbeat", changes=changes)

    for service in (activation, heartbeat):
        await service.ready(503)
        assert (await ready(service))["checks"] == {"postgres": "out of reach"}
    async with open_api(activation.url) as api:
        for answer in (await api.activate(grant.key), await api.validate(grant.key), await api.devices(grant.key)):
            assert answer.refusal == (503, "OVERLOADED")
        assert (await api.validate(mistyped(grant.key))).refusal == (401, "LICENSE_KEY_INVALID")
    async with open_api(heartbeat.url) as api:
        assert (await api.heartbeat("forged")).refusal == (401, "TOKEN_INVALID")
        assert (await api.heartbeat(ours)).refusal == (503, "OVERLOADED")
        fleet = await api.ask("POST", "/v1/heartbeats", {"heartbeats": [{"deviceToken": t} for t in ("forged", ours)]})
        assert [answer["code"] for answer in fleet.ok()["answers"]] == ["TOKEN_INVALID", "OVERLOADED"]
    assert (await activation.stop(), await heartbeat.stop()) == (0, 0)
    assert "hunter2" not in activation.printed + heartbeat.printed


async def test_readiness_follows_postgres(gated_platform: Platform) -> None:
    platform = gated_platform
    assert platform.gates is not None
    check = platform.resources.check_postgres
    assert await check() is None

    await platform.gates.postgres.shut()
    assert await check() == "out of reach"
    await platform.gates.redis.shut()
    await platform.gates.postgres.open()

    assert await check() is None  # without Redis, Postgres answers


@pytest.mark.parametrize("which", ["port", "health_port"])
async def test_a_port_that_is_taken_is_told_in_one_line(services: Services, vendor: Vendor, which: str) -> None:
    with socket.socket() as holder:
        holder.bind((LOOPBACK, 0))
        holder.listen()
        port = holder.getsockname()[1]

        service = services.start("activation", changes={"server": {which: port}})

        assert await service.ended() == 1
    assert service.err.read_text() == f"cannot listen on {LOOPBACK}:{port}: Address already in use\n"
    assert "Traceback" not in service.printed


# --- Ending -----------------------------------------------------------------------------------------------------


async def test_a_request_in_flight_is_answered_before_the_service_ends(
    services: Services, vendor: Vendor, database: Database
) -> None:
    grant = await vendor.license()
    activation = await services.start("activation").ready()
    holder = await asyncpg.connect(database.owner_dsn)
    held = holder.transaction()
    await held.start()
    await holder.execute("SELECT 1 FROM license WHERE id = $1 FOR UPDATE", grant.id)

    async with open_api(activation.url) as api:
        request = asyncio.create_task(api.activate(grant.key))
        await eventually(lambda: rows(database, LOCKED))
        activation.process.terminate()
        await activation.ready(503)
        with pytest.raises(OSError):  # noqa: PT011 - refused or reset
            await asyncio.open_connection(LOOPBACK, activation.port)
        assert not request.done()
        await held.rollback()
        await holder.close()

        (await request).ok(201)

    assert await activation.ended() == 0
    assert (await rows(database, "SELECT seats_used FROM license"))[0]["seats_used"] == 1


LOCKED = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


@pytest.mark.parametrize("name", NAMES)
async def test_an_idle_service_ends_at_once(services: Services, vendor: Vendor, name: str) -> None:
    service = await services.start(name).ready()
    begun = time.monotonic()

    assert await service.stop() == 0

    assert time.monotonic() - begun < 5
    assert service.log()[-1]["event"] == "stopped"


# --- Logs -------------------------------------------------------------------------------------------------------


async def test_no_secret_is_ever_logged(services: Services, vendor: Vendor, database: Database) -> None:
    """A whole story, with its failures, at log level debug; then every secret of it is looked for in the logs."""
    grant = await vendor.license(customer="Ada")
    imported = await vendor.license(imported_key=f"ACME-{os.urandom(8).hex()}")
    token = (await vendor.token(grant)).token
    management = await vendor.accounts.add_management_token(vendor.account, name="x", scopes=[], ttl_s=60)
    password = f"pw-{os.urandom(6).hex()}"
    started = {name: services.start(name, changes=with_password(services, name, password)) for name in NAMES}
    for service in started.values():
        await service.ready()

    seats = await tell_story(started, grant.key, imported.key, token, management)
    await vendor.licenses.set_status(grant.ref, Suspend)
    await rows(database, "ALTER TABLE device RENAME COLUMN name TO title")  # an unknown failure, with its traceback
    async with open_api(started["activation"].url) as api, open_api(started["heartbeat"].url) as beat:
        assert (await api.activate(imported.key, "another", token=None)).refusal == (500, "INTERNAL")
        assert (await api.devices(imported.key)).refusal == (500, "INTERNAL")
        await beat.heartbeat(seats[0]["deviceToken"], leave=True)
    ended = [await service.stop() for service in started.values()]

    logs = "".join(service.printed for service in started.values())
    assert ended == [0] * 4
    assert "request failed" in logs
    for service in started.values():
        assert all(isinstance(line["event"], str) for line in service.log())
    hasher = LicenseKeyHasher(MasterSecrets.from_base64({"k1": MASTER_SECRET}, "k1"))
    secrets = [
        *(grant.key, grant.key.replace("-", ""), grant.key.lower(), imported.key, mistyped(grant.key)),
        *(token, token.split(".")[2], management, MASTER_SECRET, MASTER_SECRET.rstrip("="), password),
        *(part for seat in seats for part in (seat["deviceToken"], seat["lease"], seat["lease"].split(".")[2])),
        hasher.digest(grant.key.replace("-", "")).digest.hex(),
    ]
    assert [secret for secret in secrets if secret in logs] == []


def with_password(services: Services, name: str, password: str) -> dict[str, dict[str, str]]:
    """The usual DSN with a password in it, for which nobody asks over the socket."""
    dsn = services.settings["postgres"]["dsn"].replace("ROLE", f"seatkeeper_{name}")
    scheme, _, rest = dsn.partition("://")
    who, at, where = rest.partition("@")
    return {"postgres": {"dsn": f"{scheme}://{who}:{password}{at}{where}" if ":" not in who else dsn}}


async def tell_story(
    started: dict[str, Service], key: str, imported: str, token: str, management: str
) -> list[dict[str, Any]]:
    async with open_api(started["activation"].url) as api, open_api(started["heartbeat"].url) as beat:
        seats = [
            (await api.activate(key, nonce="n")).ok(201),
            (await api.activate(None, "by-token", token=token)).ok(201),
            (await api.activate(imported, "imported")).ok(201),
        ]
        for seat in seats:
            (await beat.heartbeat(seat["deviceToken"], validUntil=0)).ok()
            header = {"Authorization": f"Bearer {seat['deviceToken']}"}
            (await beat.post("/v1/heartbeat", {}, headers=header)).ok()
        for wrong in (mistyped(key), key[:-1], f"{key}x"):
            await api.activate(wrong)
            await api.validate(wrong)
            await api.devices(wrong)
        await api.validate(key, "laptop")
        await api.activate(key, token=token)
        await api.activate(None, token=token[:-1])
        await api.activate(None, token=seats[0]["lease"])
        await beat.heartbeat(seats[0]["deviceToken"][:-1])
        await api.ask("GET", f"/v1/{key}?token={token}&key={key}", headers={"Authorization": f"Bearer {management}"})
        await api.post("/v1/activate", data=f'{{"licenseKey": "{key}", "token": '.encode())
        await api.ask("DELETE", f"/v1/devices/{seats[0]['deviceId']}", headers=license_header(key))
        await api.reset(imported, seats[2]["deviceId"])
        await beat.heartbeat(seats[0]["deviceToken"])
        await malformed(started["activation"], key)
    return seats


async def malformed(service: Service, key: str) -> None:
    reader, writer = await asyncio.open_connection(LOOPBACK, service.port)
    writer.write(f"GET / HTTP/1.1\r\nAuthorization License {key}\r\n\r\n".encode())
    await reader.read()
    writer.close()


async def test_a_log_line_is_json_with_its_time_and_level(services: Services, vendor: Vendor) -> None:
    service = await services.start("activation").ready()
    await service.stop()

    for line in service.log():
        assert line["timestamp"].endswith("Z")
        assert line["level"] in ("debug", "info", "warning", "error")
    assert {"serving", "stopped"} <= {line["event"] for line in service.log()}
    assert json.dumps(service.log()).isascii()

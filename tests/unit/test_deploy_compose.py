"""compose.yaml against the code, and against the secrets and roles that are made for it."""

import re
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from deploy.compose_secrets import main, write_secrets
from services.portal.commands.broker import Settings as BrokerSettings
from shared.runtime.sections import RabbitMQ, Server
from shared.runtime.settings import load
from tests.unit.test_deploy import (
    DEPLOY,
    PORTLESS,
    ROOT,
    health_paths,
    is_admin_command,
    made_roles,
    migration_variables,
    role,
    service_variables,
    services,
    settings_from,
    settings_type,
    stopping_s,
    topology_variables,
    variables,
)

SECRETS = "/run/secrets/"
UNMOUNTED = {"valkey_password", "rabbitmq_password"}  # repeated in files of settings, which are mounted


@cache
def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    return content


def container(name: str) -> dict[str, Any]:
    found: dict[str, Any] = compose()["services"][name]
    return found


def environment(name: str, folder: Path) -> dict[str, str]:
    """A container's variables with its secrets in `folder`; each must be mounted to be there."""
    given = container(name)["environment"]
    for value in given.values():
        assert not value.startswith(SECRETS) or value.removeprefix(SECRETS) in container(name)["secrets"], value
    return {variable: value.replace(SECRETS, f"{folder}/") for variable, value in given.items()}


def broker_settings(folder: Path) -> dict[str, str]:
    """What RabbitMQ begins with, by name."""
    file = Path(environment("rabbitmq", folder)["RABBITMQ_CONFIG_FILE"])
    return dict(line.split(" = ") for line in file.read_text().splitlines())


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    write_secrets(tmp_path)
    return tmp_path


def test_each_service_is_built_and_started_by_its_own_name() -> None:
    built = {name: one["build"] for name, one in compose()["services"].items() if "build" in one}
    assert {*services(), "migrate", "facts"} == set(built)
    for service in services():
        assert built[service]["args"] == {"SERVICE": service}
        assert container(service)["image"] == f"seatkeeper-{service}"
        assert "entrypoint" not in container(service)
        assert "command" not in container(service)
    for build in built.values():
        assert (DEPLOY / build["context"]).resolve() == ROOT
        assert (ROOT / build["dockerfile"]).is_file()


def test_the_services_wait_for_the_schema_the_passwords_and_the_topology() -> None:
    done = {"condition": "service_completed_successfully"}
    for name in (*services(), "admin"):
        waits = container(name)["depends_on"]
        assert (done, done, done) == (waits["migrate"], waits["roles"], waits["facts"])
    assert container("roles")["depends_on"] == {"migrate": done}
    assert container("migrate")["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert container("facts")["depends_on"] == {"rabbitmq": {"condition": "service_healthy"}}


def test_what_is_waited_for_exists_and_ends_once_or_has_a_check() -> None:
    for name, one in compose()["services"].items():
        for other, wait in one.get("depends_on", {}).items():
            lasting = wait["condition"] == "service_healthy"
            assert lasting == ("healthcheck" in container(other)), (name, other)
            assert lasting == (container(other)["restart"] == "unless-stopped"), (name, other)


def test_every_variable_is_a_setting_of_its_service() -> None:
    for service in services():
        assert set() == set(container(service)["environment"]) - variables(settings_type(service)), service
    assert set(container("migrate")["environment"]) <= migration_variables()
    assert set(container("facts")["environment"]) <= topology_variables()
    assert set(container("admin")["environment"]) <= variables(settings_type("portal"))
    for name, one in compose()["services"].items():
        ours = {variable for variable in one.get("environment", {}) if variable.startswith("SEATKEEPER_")}
        assert set() == ours - service_variables() - migration_variables() - topology_variables(), name


def test_the_admin_command_has_the_operators_role_and_not_the_portals(secrets: Path) -> None:
    dsn = urlsplit(settings_from("portal", environment("admin", secrets)).postgres.dsn.reveal())
    assert dsn.username == role("operator")
    assert (secrets / "operator_password").read_text() == dsn.password


@pytest.mark.parametrize("service", services())
def test_the_settings_are_whole_and_name_the_services_own_role(service: str, secrets: Path) -> None:
    settings = settings_from(service, environment(service, secrets))
    dsn = urlsplit(settings.postgres.dsn.reveal())
    assert role(service) == dsn.username
    assert (secrets / f"{service}_password").read_text() == dsn.password
    assert (
        f"requirepass {urlsplit(settings.redis.url.reveal()).password}\n" == (secrets / "valkey_settings").read_text()
    )
    assert {dsn.hostname, urlsplit(settings.redis.url.reveal()).hostname} <= set(compose()["services"])
    assert_leads_to_the_broker(settings.rabbitmq, secrets)


def assert_leads_to_the_broker(section: RabbitMQ | None, secrets: Path) -> None:
    assert section is not None
    url, made = urlsplit(section.url.reveal()), broker_settings(secrets)
    assert url.hostname == container("rabbitmq")["hostname"] == "rabbitmq"
    assert (url.port, url.path) == (5672, "/")
    assert {"default_user": url.username, "default_pass": url.password} == made
    assert (secrets / "rabbitmq_password").read_text() == url.password
    assert url.username != "guest"  # whom RabbitMQ lets in from its own host alone


def test_the_topology_is_declared_with_the_brokers_url_alone(secrets: Path) -> None:
    assert_leads_to_the_broker(load(BrokerSettings, file=None, environ=environment("facts", secrets)).rabbitmq, secrets)


def test_the_broker_keeps_its_data_and_its_passwords_out_of_its_environment() -> None:
    broker = container("rabbitmq")
    assert broker["volumes"] == ["rabbitmq:/var/lib/rabbitmq"]
    assert "rabbitmq" in compose()["volumes"]
    assert set(broker["environment"]) == {"RABBITMQ_CONFIG_FILE"}
    assert broker["environment"]["RABBITMQ_CONFIG_FILE"].endswith(".conf")  # the ending tells the file's syntax


def test_the_brokers_check_is_run_by_the_user_that_the_broker_runs_as() -> None:
    assert container("rabbitmq")["user"] == "rabbitmq"
    assert container("rabbitmq")["healthcheck"]["test"] == ["CMD", "rabbitmq-diagnostics", "--quiet", "check_running"]


def test_the_admin_the_migration_and_the_topology_run_commands_that_exist() -> None:
    assert is_admin_command(container("admin")["entrypoint"])
    assert is_admin_command(container("migrate")["entrypoint"] + container("migrate")["command"])
    assert is_admin_command(container("facts")["entrypoint"] + container("facts")["command"])
    assert {container(name)["image"] for name in ("admin", "migrate", "facts")} == {container("portal")["image"]}


def test_the_owner_is_the_one_that_postgres_begins_with(secrets: Path) -> None:
    postgres = container("postgres")["environment"]
    dsn = urlsplit(Path(environment("migrate", secrets)["SEATKEEPER_OWNER_DSN_FILE"]).read_text())
    owner = dict(line.split("=") for line in (secrets / "owner_service").read_text().splitlines()[1:])
    assert (postgres["POSTGRES_USER"], postgres["POSTGRES_DB"]) == (dsn.username, dsn.path[1:])
    assert (owner["user"], owner["dbname"], owner["host"]) == (dsn.username, dsn.path[1:], dsn.hostname)
    assert (
        owner["password"]
        == dsn.password
        == Path(environment("postgres", secrets)["POSTGRES_PASSWORD_FILE"]).read_text()
    )
    assert postgres["POSTGRES_HOST_AUTH_METHOD"] == "scram-sha-256"


def test_each_services_role_the_operators_and_no_other_is_given_its_password() -> None:
    users = [*services(), "operator"]
    script = (DEPLOY / "roles.sql").read_text(encoding="utf-8")
    read = dict(re.findall(r"^\\set (\w+) `cat /run/secrets/(\w+)`$", script, re.MULTILINE))
    given = dict(re.findall(r"^ALTER ROLE (\w+) PASSWORD :'(\w+)';$", script, re.MULTILINE))
    assert {role(user): user for user in users} == given
    assert {user: f"{user}_password" for user in users} == read
    assert set(given) <= made_roles()
    assert set(read.values()) <= set(container("roles")["secrets"])
    assert f"--file={container('roles')['configs'][0]['target']}" in container("roles")["command"]
    assert (DEPLOY / compose()["configs"]["roles"]["file"]).is_file()


def test_the_checks_ask_the_health_port_whether_a_service_is_ready() -> None:
    for service in services():
        found = re.search(r"http://127\.0\.0\.1:(\d+)(/\w+)", container(service)["healthcheck"]["test"][-1])
        assert found is not None
        assert Server().health_port == int(found[1])
        assert found[2] == "/readyz"
        assert found[2] in health_paths()


def test_the_public_ports_and_no_others_are_open_on_this_host_alone() -> None:
    for name, one in compose()["services"].items():
        open_ports = [port.rsplit(":", 1) for port in one.get("ports", [])]
        assert bool(open_ports) == (name in services() and name not in PORTLESS), name
        assert all(outer.startswith("127.0.0.1:") and int(inner) == Server().port for outer, inner in open_ports), name
        assert open_ports or one["networks"] == ["inside"], name


@pytest.mark.parametrize("service", services())
def test_there_is_time_to_drain(service: str, secrets: Path) -> None:
    grace_s = int(container(service)["stop_grace_period"].removesuffix("s"))
    assert grace_s >= stopping_s(settings_from(service, environment(service, secrets)))


def test_what_runs_our_code_has_no_rights_and_writes_nothing() -> None:
    ours = [one for one in compose()["services"].values() if one["image"].startswith("seatkeeper-")]
    assert len(ours) == len(services()) + 3
    for one in ours:
        assert one["read_only"] is True
        assert one["cap_drop"] == ["ALL"]
        assert one["security_opt"] == ["no-new-privileges:true"]


def test_other_images_are_pinned_to_a_major_version() -> None:
    others = {one["image"] for one in compose()["services"].values() if not one["image"].startswith("seatkeeper-")}
    assert others
    assert all(re.fullmatch(r"[a-z/]+:\d+", image) for image in others)


def test_every_secret_is_made_and_mounted_somewhere(secrets: Path) -> None:
    listed = compose()["secrets"]
    mounted = {name for one in compose()["services"].values() for name in one.get("secrets", [])}
    assert set(listed) == mounted
    assert mounted | UNMOUNTED == {file.name for file in secrets.iterdir()}
    assert {name: {"file": f"./secrets/{name}"} for name in mounted} == listed
    assert container("valkey")["command"][1].removeprefix(SECRETS) in container("valkey")["secrets"]


def test_secrets_are_made_once_and_shown_to_the_folders_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    assert main([str(folder)]) == 0
    made = {file.name: file.read_text() for file in folder.iterdir()}
    (folder / "portal_dsn").unlink()
    assert main([str(folder)]) == 0
    assert made == {file.name: file.read_text() for file in folder.iterdir()}
    assert len(made) == len(set(made.values()))
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o444}


def test_secrets_do_not_enter_the_repository() -> None:
    assert "secrets/" in (DEPLOY / ".gitignore").read_text(encoding="utf-8").splitlines()

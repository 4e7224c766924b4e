"""Settings: where they come from, which of them wins, and that every fault is told at once."""

import base64
from pathlib import Path
from typing import Annotated

import msgspec
import pytest

from shared.runtime.resources import Settings as ServiceSettings
from shared.runtime.settings import (
    Log,
    Postgres,
    Redis,
    Secret,
    Secrets,
    Server,
    SettingsFaults,
    load,
    load_or_exit,
    parse_args,
)

KEY = base64.b64encode(b"k" * 32).decode()
DSN = "postgres://app:hunter2@db/seatkeeper"
COMPLETE = {
    "SEATKEEPER_POSTGRES_DSN": DSN,
    "SEATKEEPER_SECRETS_KEYS": f"k1:{KEY},k2:{KEY}",
    "SEATKEEPER_SECRETS_CURRENT": "k2",
}


class Sweep(msgspec.Struct, frozen=True, kw_only=True):
    every_s: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    accounts: list[str] = []
    key_file: Path | None = None


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    server: Server = Server(port=8085)
    postgres: Postgres
    redis: Redis | None = None
    secrets: Secrets
    log: Log
    sweep: Sweep


def faults_of(environ: dict[str, str], file: Path | None = None) -> list[str]:
    with pytest.raises(SettingsFaults) as caught:
        load(Settings, file=file, environ=environ)
    return caught.value.faults


def test_the_environment_alone_is_enough() -> None:
    settings = load(Settings, file=None, environ=COMPLETE)

    assert settings.postgres.dsn.reveal() == DSN
    assert settings.secrets.decoded() == {"k1": b"k" * 32, "k2": b"k" * 32}
    assert settings.server == Server(port=8085)
    assert settings.redis is None
    assert settings.log == Log(level="info", format="auto")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.toml", '[server]\nport = 81\ndrain_s = 3\n[log]\nlevel = "debug"\n[sweep]\naccounts = ["a"]\n'),
        ("a.yaml", "server: {port: 81, drain_s: 3}\nlog:\n  level: debug\nsweep:\n  accounts: [a]\n"),
        ("a.yml", "server:\n  port: 81\n  drain_s: 3\nlog: {level: debug}\nsweep: {accounts: [a]}\npostgres:\n"),
    ],
)
def test_a_file_is_read_by_its_suffix_and_the_environment_wins_over_it(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_text(text)

    settings = load(Settings, file=file, environ={**COMPLETE, "SEATKEEPER_SERVER_PORT": "82"})

    assert settings.server == Server(port=82, drain_s=3.0)
    assert settings.log.level == "debug"
    assert settings.sweep.accounts == ["a"]


def test_a_value_is_read_from_the_file_that_a_variable_names(tmp_path: Path) -> None:
    secret = tmp_path / "dsn"
    secret.write_text(f"{DSN}\n")
    environ = {**COMPLETE, "SEATKEEPER_POSTGRES_DSN": "", "SEATKEEPER_POSTGRES_DSN_FILE": str(secret)}

    assert load(Settings, file=None, environ=environ).postgres.dsn.reveal() == DSN


def test_lists_booleans_paths_and_optional_sections_come_from_the_environment() -> None:
    more = {
        "SEATKEEPER_SWEEP_ACCOUNTS": "a, b",
        "SEATKEEPER_SWEEP_KEY_FILE": "/run/key",
        "SEATKEEPER_SERVER_REUSE_PORT": "true",
        "SEATKEEPER_REDIS_URL": "redis://r",
    }

    settings = load(Settings, file=None, environ={**COMPLETE, **more})

    assert settings.sweep.accounts == ["a", "b"]
    assert settings.sweep.key_file == Path("/run/key")
    assert settings.server.reuse_port is True
    assert settings.redis == Redis(url=Secret("redis://r"))


def test_variables_that_kubernetes_injects_are_ignored() -> None:
    injected = {"SEATKEEPER_PORTAL_SERVICE_HOST": "10.0.0.1", "SEATKEEPER_PORTAL_PORT": "tcp://10.0.0.1:80"}

    assert load(Settings, file=None, environ={**COMPLETE, **injected}) == load(Settings, file=None, environ=COMPLETE)


def test_every_fault_is_told_at_once_under_both_names(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('[server]\nport = 70000\nhostt = "x"\n[sweep]\nevery_s = "often"\n[spare]\nx = 1\n')

    assert faults_of({"SEATKEEPER_LOG_LEVEL": "loud", "SEATKEEPER_SERVER_DRAIN_S": "soon"}, file) == [
        "spare: unknown key in the file",
        "server.hostt: unknown key in the file",
        "server.port (SEATKEEPER_SERVER_PORT): expected int <= 65535",
        "server.drain_s (SEATKEEPER_SERVER_DRAIN_S): expected float, got str",
        "postgres.dsn (SEATKEEPER_POSTGRES_DSN): missing",
        "secrets.keys (SEATKEEPER_SECRETS_KEYS): missing",
        "secrets.current (SEATKEEPER_SECRETS_CURRENT): missing",
        "log.level (SEATKEEPER_LOG_LEVEL): expected one of 'debug', 'info', 'warning', 'error'",
        "sweep.every_s (SEATKEEPER_SWEEP_EVERY_S): expected float, got str",
    ]


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("a.toml", None, "cannot be read: No such file or directory"),
        ("a.ini", "x", "the suffix must be .toml, .yaml or .yml"),
        ("a.toml", "[postgres]\ndsn = hunter2", "not valid TOML at line 2, column 7"),
        ("a.yaml", "postgres: {dsn: *hunter2}", "not valid YAML at line 1, column 17"),
        ("a.yaml", "- 1", "expected sections with keys at the top"),
    ],
)
def test_an_unusable_file_is_one_fault_that_shows_none_of_its_content(
    tmp_path: Path, name: str, text: str | None, fault: str
) -> None:
    file = tmp_path / name
    if text is not None:
        file.write_text(text)

    assert faults_of({}, file) == [f"config file {file}: {fault}"]


def test_a_section_that_is_not_one_is_a_fault(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('server = "here"\n')

    assert faults_of(COMPLETE, file) == ["server (SEATKEEPER_SERVER): expected a section with keys"]


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"SEATKEEPER_SECRETS_CURRENT": "k9"}, "secrets (SEATKEEPER_SECRETS): current names no key of keys"),
        (
            {"SEATKEEPER_SECRETS_KEYS": "k2:aHVudGVyMg=="},
            "secrets (SEATKEEPER_SECRETS): the key 'k2' is not the base64 of 32 bytes",
        ),
        (
            {"SEATKEEPER_SECRETS_KEYS": "hunter2"},
            "secrets.keys (SEATKEEPER_SECRETS_KEYS): expected object, got str",
        ),
        (
            {"SEATKEEPER_POSTGRES_DSN_FILE": "/nowhere"},
            "postgres.dsn (SEATKEEPER_POSTGRES_DSN): both SEATKEEPER_POSTGRES_DSN and SEATKEEPER_POSTGRES_DSN_FILE"
            " are set: keep one",
        ),
        (
            {"SEATKEEPER_POSTGRES_DSN": "", "SEATKEEPER_POSTGRES_DSN_FILE": "/nowhere"},
            "postgres.dsn (SEATKEEPER_POSTGRES_DSN): SEATKEEPER_POSTGRES_DSN_FILE=/nowhere: cannot be read:"
            " No such file or directory",
        ),
    ],
)
def test_a_faulty_secret_is_named_and_never_shown(more: dict[str, str], fault: str) -> None:
    assert faults_of({**COMPLETE, **more}) == [fault]


def test_secrets_do_not_show_in_a_repr() -> None:
    settings = load(Settings, file=None, environ=COMPLETE)

    assert "hunter2" not in repr(settings)
    assert KEY not in repr(settings)
    assert f"{settings.postgres.dsn}" == "***"


def test_faults_at_start_go_to_stderr_one_a_line_with_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        load_or_exit(Settings, [], {"SEATKEEPER_SECRETS_CURRENT": "k1"}, "portal")

    assert caught.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        "portal: postgres.dsn (SEATKEEPER_POSTGRES_DSN): missing",
        "portal: secrets.keys (SEATKEEPER_SECRETS_KEYS): missing",
    ]


def test_a_missing_config_file_exits_with_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "none.toml"

    with pytest.raises(SystemExit) as caught:
        load_or_exit(Settings, ["--config", str(file)], COMPLETE, "portal")

    assert caught.value.code == 2
    assert capsys.readouterr().err == f"portal: config file {file}: cannot be read: No such file or directory\n"


def test_the_config_option_is_optional() -> None:
    assert parse_args("portal", []) is None
    assert parse_args("portal", ["--config", "a.toml"]) == Path("a.toml")


@pytest.mark.parametrize(
    ("name", "value"), [("SIMULATED_CLOCK", "true"), ("SHORTEST_FLOATING_LEASE_S", "1")], ids=["clock", "lease"]
)
def test_production_takes_no_setting_that_is_for_tests(name: str, value: str) -> None:
    given = {**COMPLETE, "SEATKEEPER_REDIS_URL": "redis://r", f"SEATKEEPER_TESTING_{name}": value}
    with pytest.raises(SettingsFaults) as caught:
        load(ServiceSettings, file=None, environ=given)
    assert any("production takes none" in fault for fault in caught.value.faults)

    assert load(ServiceSettings, file=None, environ={**given, "SEATKEEPER_ENVIRONMENT": "development"})

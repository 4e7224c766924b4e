"""What the deployment files are held against: the services there are, their settings, their health paths, their roles.

Read from the code each time, so that a renamed setting, a moved port or a new service fails in the tests beside this.
"""

import base64
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import msgspec
import typer
from prometheus_client import CollectorRegistry

from services.portal import admin
from services.portal.commands.broker import Settings as BrokerSettings
from services.portal.commands.schema import Settings as MigrationSettings
from shared.ledger.migrate import migrations
from shared.runtime.lifecycle import CUT_OFF_S, Readiness
from shared.runtime.metrics import Metrics
from shared.runtime.resources import Settings
from shared.runtime.settings import load
from shared.web.health import health_app

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PORTLESS = {"reaper"}  # serve nobody but their probes
CLOSING_S = 10.0  # what a process is left for closing its connections, once it has drained
MASTER_KEYS = f"k1:{base64.b64encode(bytes(32)).decode()}"

_FILE = "_FILE"


def services() -> list[str]:
    """The packages that run as a process of their own."""
    found = (entry.parent.name for entry in (ROOT / "services").glob("*/__main__.py"))
    return sorted(name for name in found if name != "standalone")


def settings_type(service: str) -> type[Settings]:
    found: type[Settings] = import_module(f"services.{service}.settings").Settings
    return found


def settings_from(service: str, environ: Mapping[str, str]) -> Settings:
    """What the service would run with; raises `SettingsFaults`."""
    return load(settings_type(service), file=None, environ=environ)


def variables(settings: type[msgspec.Struct]) -> set[str]:
    """The variable of every setting, and the one that names a file instead."""
    return {name + ending for name in _variables(settings) for ending in ("", _FILE)}


def service_variables() -> set[str]:
    return set().union(*(variables(settings_type(service)) for service in services()))


def migration_variables() -> set[str]:
    return variables(MigrationSettings)


def topology_variables() -> set[str]:
    return variables(BrokerSettings)


def health_paths() -> set[str]:
    app = health_app(Metrics(CollectorRegistry()), {}, Readiness())
    return {resource.canonical for resource in app.router.resources()}


def made_roles() -> set[str]:
    """The roles that the migrations make."""
    return set(re.findall(r"'(seatkeeper_[a-z]+)'", "".join(migrations().values())))


def role(service: str) -> str:
    return f"seatkeeper_{service}"


def stopping_s(settings: Settings) -> float:
    """How long a process may need from SIGTERM to its end."""
    return settings.server.drain_s + CUT_OFF_S + CLOSING_S


def is_admin_command(words: list[str]) -> bool:
    """Whether these words run the admin, and a command that it has if they name one."""
    program, command = words[:3], words[3:]
    found: Any = typer.main.get_command(admin.app)
    for word in command:
        found = getattr(found, "commands", {}).get(word)
    whole = found is not None and not hasattr(found, "commands")
    return program == ["python", "-m", admin.__name__] and (not command or whole)


def _variables(settings: type[msgspec.Struct]) -> Iterator[str]:
    for section in msgspec.structs.fields(settings):
        struct = _struct(section.type)
        if struct is None:
            yield f"SEATKEEPER_{section.name}".upper()
            continue
        for setting in msgspec.structs.fields(struct):
            yield f"SEATKEEPER_{section.name}_{setting.name}".upper()


def _struct(expected: Any) -> type[msgspec.Struct] | None:
    """The section's struct, also behind `Section | None`; None for a setting that stands in no section."""
    return next((one for one in (expected, *get_args(expected)) if hasattr(one, "__struct_fields__")), None)


def test_what_the_files_are_held_against_is_found_in_the_code() -> None:
    assert {"activation", "heartbeat", "portal", "reaper"} <= set(services())
    assert {"SEATKEEPER_POSTGRES_DSN", "SEATKEEPER_POSTGRES_DSN_FILE", "SEATKEEPER_SERVER_PORT"} <= service_variables()
    assert "SEATKEEPER_REAPER_PAGE" in variables(settings_type("reaper")) - variables(settings_type("portal"))
    assert {"SEATKEEPER_OWNER_DSN", "SEATKEEPER_OWNER_DSN_FILE"} == migration_variables()
    assert {"SEATKEEPER_RABBITMQ_URL", "SEATKEEPER_RABBITMQ_URL_FILE"} == topology_variables()
    assert all(topology_variables() <= variables(settings_type(service)) for service in services())
    assert {"/healthz", "/readyz", "/metrics"} == health_paths()
    assert {role(service) for service in services()} <= made_roles()
    assert is_admin_command(["python", "-m", "services.portal.admin", "migrate"])
    assert is_admin_command(["python", "-m", "services.portal.admin", "facts", "declare"])
    assert is_admin_command(["python", "-m", "services.portal.admin"])
    assert not is_admin_command(["python", "-m", "services.portal.admin", "no-such-command"])
    assert not is_admin_command(["python", "-m", "services.portal.admin", "facts"])
    assert not is_admin_command(["python", "-m", "services.portal.admin", "facts", "no-such-command"])
    assert not is_admin_command(["python", "-m", "services.portal", "migrate"])


def test_every_variable_of_the_guide_is_a_setting() -> None:
    named = set(re.findall(r"\bSEATKEEPER_[A-Z_]+\b", (ROOT / "docs/kubernetes.md").read_text(encoding="utf-8")))
    assert named
    assert set() == named - service_variables() - migration_variables() - topology_variables()

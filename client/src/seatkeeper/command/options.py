"""The options that every verb takes: of the run itself, and settings that go over all others."""

from pathlib import Path
from typing import Annotated, Any

import typer

from seatkeeper.command.inputs import read_secret

PANEL = "panel.settings"
FILES = {"key_file": "license_key", "token_file": "token"}
RENAMED = {"app_version": "version"}
RUN = ("as_json", "language", "timeout", "config")


def _setting(name: str, metavar: str = "TEXT") -> Any:
    option = f"--{name.replace('_', '-')}"
    return Annotated[str | None, typer.Option(option, metavar=metavar, help=f"option.{name}", rich_help_panel=PANEL)]


COMMON: dict[str, tuple[Any, object]] = {
    "as_json": (Annotated[bool, typer.Option("--json", help="option.json")], False),
    "language": (Annotated[str | None, typer.Option(metavar="en|zh", help="option.language")], None),
    "timeout": (Annotated[float | None, typer.Option(min=0.1, metavar="SECONDS", help="option.timeout")], None),
    "config": (Annotated[Path | None, typer.Option(metavar="FILE", help="option.config", rich_help_panel=PANEL)], None),
    "url": (_setting("url", "URL"), None),
    "product": (_setting("product", "CODE"), None),
    "root_key": (_setting("root_key", "KEY|FILE"), None),
    "key_file": (_setting("key_file", "FILE|-"), None),
    "token_file": (_setting("token_file", "FILE|-"), None),
    "name": (_setting("name"), None),
    "app_version": (_setting("app_version", "VERSION"), None),
    "directory": (_setting("directory", "FOLDER"), None),
    "proxy": (_setting("proxy", "URL|direct"), None),
    "ca_file": (_setting("ca_file", "FILE"), None),
    "client_cert": (_setting("client_cert", "FILE"), None),
    "client_key": (_setting("client_key", "FILE"), None),
}
"""By the names of the parameters: what each is, and its default."""


def settings_of(chosen: dict[str, Any]) -> dict[str, str | None]:
    """The settings among the options, by the names that `Settings` has for them."""
    settings = {RENAMED.get(name, name): value for name, value in chosen.items() if name not in (*RUN, *FILES)}
    secrets = {FILES[name]: read_secret(chosen[name]) for name in FILES if chosen.get(name) is not None}
    return settings | secrets

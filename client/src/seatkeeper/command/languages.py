"""The language of one run, which has to be known before the line is read, and the help texts in it.

`--language` wins, then SEATKEEPER_LANGUAGE, then `language` in the configuration, then the locale.
"""

import locale
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import typer
from typer import rich_utils

from seatkeeper.command.config_file import FileFault, read_file
from seatkeeper.paths import config_file
from seatkeeper.texts import TABLES, language_of

HELP = ["--help", "-h"]


def language_of_line(line: Sequence[str], environ: Mapping[str, str]) -> str:
    named = _option(line, "--language") or environ.get("SEATKEEPER_LANGUAGE") or _configured(line, environ)
    if named:
        return language_of({"SEATKEEPER_LANGUAGE": named})
    return language_of(environ, locale.getlocale()[0])


def translated(command: Any, language: str) -> Any:
    """The command with its help, and that of all below it, in this language. What is no key stays as it is."""
    table = TABLES.get(language, TABLES["en"])
    rich_utils.DEFAULT_STRING, rich_utils.REQUIRED_LONG_STRING = table["panel.default"], table["panel.required"]

    def said(key: str | None) -> str | None:
        return table.get(key, key) if key is not None else None

    command.help, command.epilog = said(command.help), said(command.epilog)
    command.rich_help_panel = table["panel.commands"]
    command.context_settings["help_option_names"] = HELP
    for parameter in [*command.params, command.get_help_option(typer.Context(command, help_option_names=HELP))]:
        usual = "panel.options" if parameter.param_type_name == "option" else "panel.arguments"
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
        parameter.help = said(getattr(parameter, "help", None))
        parameter.rich_help_panel = said(getattr(parameter, "rich_help_panel", None) or usual)
    for below in getattr(command, "commands", {}).values():
        translated(below, language)
    return command


def _option(line: Sequence[str], name: str) -> str | None:
    joined = (word.removeprefix(f"{name}=") for word in line if word.startswith(f"{name}="))
    return next(joined, next((value for word, value in pairwise(line) if word == name), None))


def _configured(line: Sequence[str], environ: Mapping[str, str]) -> str | None:
    """What the file says; one that cannot be read is told of later, in the language that is left."""
    named = _option(line, "--config")
    try:
        given = read_file(Path(named) if named else config_file(environ)).get("language")
    except FileFault:
        return None
    return given.value if given is not None and isinstance(given.value, str) else None

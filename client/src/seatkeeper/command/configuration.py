"""`config`: where the settings come from, what they are, and what is wrong with them."""

import os
from pathlib import Path

import typer

from seatkeeper import license_key
from seatkeeper.command.config import NAMES, Settings, faults
from seatkeeper.command.failures import ExitCode
from seatkeeper.command.session import Session, verb
from seatkeeper.paths import config_file
from seatkeeper.proxies import DIRECT, read_proxy
from seatkeeper.texts import text

app = typer.Typer(no_args_is_help=True)


def check(session: Session) -> int:
    file, found = _file(session), faults(session.config, os.environ)
    warnings = [text("warning.readable", session.language, file=file)] if _is_open(file) else []
    if session.as_json:
        session.show({"file": file, "ok": not found, "faults": found, "warnings": warnings})
    else:
        for said in [*found, *warnings]:
            session.say(said)
        if not found:
            session.show({"file": file, "exists": os.path.exists(file), "ok": True})
    return ExitCode.MISUSED if found else ExitCode.DONE


def show(session: Session) -> None:
    settings = session.settings()
    shown = {_camel(name): value for name in NAMES if (value := getattr(settings, name)) not in (None, "")}
    session.show({"file": _file(session), **shown, **_hidden(settings)})


def path(session: Session) -> None:
    if session.as_json:
        session.show({"file": _file(session), "exists": os.path.exists(_file(session))})
    else:
        print(_file(session))


def _file(session: Session) -> Path:
    return session.config or config_file()


def _is_open(file: Path) -> bool:
    """Whether other users of the machine may read it. On Windows modes say nothing."""
    return os.name == "posix" and os.path.exists(file) and bool(file.stat().st_mode & 0o077)


def _hidden(settings: Settings) -> dict[str, str]:
    """Secrets as they may be shown."""
    key, token, proxy = settings.license_key, settings.token, settings.proxy
    hidden = {
        "licenseKey": key and f"{license_key.prefix(key)}…",
        "token": token and "…",
        "proxy": proxy if proxy is None or proxy == DIRECT else read_proxy(proxy, setting="proxy").address,
    }
    return {name: shown for name, shown in hidden.items() if shown}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


app.command("check", help="verb.config.check")(verb(check))
app.command("show", help="verb.config.show")(verb(show))
app.command("path", help="verb.config.path")(verb(path))

"""What this machine and the configuration say is secret or a name, so that it is found wherever it stands."""

import getpass
import os
import platform
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from seatkeeper.command.doctor.subject import Subject
from seatkeeper.errors import ConfigurationError
from seatkeeper.proxies import Proxy, decide
from seatkeeper.redaction import Known, is_telling

_FIRST_PERSON = 1000
_NOBODY = 65534
_TOO_SHORT_TO_TELL = 6
"""Variables of others may say `on` under a telling name, which would then be taken out everywhere."""
_EVERYWHERE = ("localhost", "root", "127.0.0.1", "::1")


def known_of(subject: Subject) -> Known:
    proxy = _proxy(subject)
    own = platform.node()
    hosts = [own, own.partition(".")[0], subject.host, proxy.host if proxy else None]
    people = list(_people())
    file = _file(subject)
    return Known(
        keys=_given([subject.license_key, subject.environ.get("SEATKEEPER_LICENSE_KEY")]),
        tokens=_given([subject.token, subject.environ.get("SEATKEEPER_TOKEN")]),
        passwords=_given(
            [*(([proxy.username, proxy.password]) if proxy else []), *_behind_telling_names(subject, file)]
        ),
        homes=_given([str(Path.home()), *(home for _, home in people)]),
        hosts=_given(hosts),
        users=_given([_me(), *(name for name, _ in people)]),
        names=_given([subject.name, _text(file.get("name")), subject.environ.get("SEATKEEPER_NAME")]),
    )


def _given(values: list[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value and value not in (*_EVERYWHERE, "/", "/root")))


def _proxy(subject: Subject) -> Proxy | None:
    try:
        return decide(subject.url or "https://", subject.environ, subject.proxy).proxy
    except ConfigurationError:
        return None


def _file(subject: Subject) -> Mapping[str, Any]:
    """What the file says, settings or not, and whether or not something else goes over it."""
    try:
        return tomllib.loads(subject.config_path.read_text(encoding="utf-8")) if subject.config_path else {}
    except (OSError, ValueError):
        return {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _behind_telling_names(subject: Subject, file: Mapping[str, Any]) -> list[str | None]:
    """Values of the file and of the environment that their names give away, readable settings or not."""
    around = (value for value in _telling(subject.environ) if len(value) >= _TOO_SHORT_TO_TELL)
    return [*_telling(file), *around, *(_password(value) for value in subject.environ.values())]


def _telling(members: Mapping[str, Any]) -> Iterator[str]:
    for name, value in members.items():
        if isinstance(value, Mapping):
            yield from _telling(value)
        elif isinstance(value, str) and is_telling(name):
            yield value


def _password(value: str) -> str | None:
    """That of a URL, as proxies have it."""
    try:
        return urlsplit(value).password if "://" in value else None
    except ValueError:
        return None


def _me() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return None


def _people() -> Iterator[tuple[str, str]]:
    """Names and homes of the accounts on this machine that belong to people; Windows is asked for none."""
    if os.name != "posix":
        return
    import pwd

    for entry in pwd.getpwall():
        if entry.pw_uid >= _FIRST_PERSON and entry.pw_uid != _NOBODY:
            yield entry.pw_name, entry.pw_dir

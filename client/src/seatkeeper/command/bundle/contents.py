"""What a bundle holds, before anything is taken out: the doctor's report, log lines, kernel errors, the environment.

What cannot be read is said in its place, so that a support desk knows that it was looked for.
"""

import locale
import platform
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from seatkeeper import fingerprint
from seatkeeper.command.doctor.finding import Finding
from seatkeeper.command.doctor.machine import Machine, end_of
from seatkeeper.command.doctor.report import as_document, as_text
from seatkeeper.command.doctor.subject import Subject
from seatkeeper.system_words import system_words

LAST_LINES = 100
_JOURNAL = ("journalctl", "--no-pager", "--no-hostname", "--output=short-iso", f"--lines={LAST_LINES}")
_PACKAGES = (
    *("seatkeeper", "aiohttp", "aiohttp-socks", "cryptography", "msgspec", "platformdirs", "psutil", "py-machineid"),
    *("rfc8785", "rich", "segno", "typer"),
)
_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir", "lang", "lc_all")


class Contents(NamedTuple):
    """`documents` are JSON, `texts` are not."""

    documents: Mapping[str, Any]
    texts: Mapping[str, str]


async def contents(subject: Subject, findings: Sequence[Finding], logs: Sequence[Path]) -> Contents:
    machine = subject.machine
    texts = {
        "doctor.txt": as_text(findings, subject.language),
        "kernel.txt": await _kernel(machine),
        "configuration.toml": _configuration(subject),
    }
    if subject.unit:
        texts["unit.log"] = await _printed(machine, [*_JOURNAL, f"--unit={subject.unit}"])
    for number, path in enumerate(logs, 1):
        texts[f"{number}-{path.name}"] = last_lines(_read(path))
    documents = {"doctor.json": as_document(findings, subject.language), "environment.json": environment(subject)}
    return Contents(documents, texts)


def environment(subject: Subject) -> dict[str, Any]:
    """The system, the application, and what of the environment concerns a license."""
    return {
        "system": platform.system(),
        "release": platform.release(),
        "version": platform.version(),
        "distribution": _distribution(subject.machine),
        "architecture": platform.machine(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "application": subject.product,
        "applicationVersion": subject.version,
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "locale": ".".join(part or "-" for part in locale.getlocale()),
        "timeZone": time.strftime("%Z %z"),
        "surroundings": fingerprint.surroundings(subject.environ, root=subject.machine.root).value,
        "variables": {
            name: value
            for name, value in sorted(subject.environ.items())
            if name.lower() in _VARIABLES or name.startswith("SEATKEEPER_")
        },
    }


def last_lines(text: str) -> str:
    return "\n".join(text.splitlines()[-LAST_LINES:]) + "\n"


async def _kernel(machine: Machine) -> str:
    if machine.system != "Linux":
        return "(not looked for on this system)\n"
    journal = await machine.run([*_JOURNAL, "--dmesg", "--priority=err"])
    if journal is not None and not journal.status and not journal.output.startswith("No journal files"):
        return last_lines(journal.output)
    return await _printed(machine, ["dmesg", "--level=emerg,alert,crit,err"])


async def _printed(machine: Machine, command: Sequence[str]) -> str:
    ran = await machine.run(command)
    if ran is None:
        return f"({command[0]} is not there)\n"
    return last_lines(ran.output) if not ran.status else f"({command[0]} failed)\n{last_lines(ran.output)}"


def _configuration(subject: Subject) -> str:
    path = subject.config_path
    return _read(path) if path is not None else "(there is none)\n"


def _read(path: Path) -> str:
    try:
        return end_of(path)
    except FileNotFoundError:
        return f"({path} is not there)\n"
    except OSError as error:
        return f"({path} cannot be read: {system_words(error)})\n"


def _distribution(machine: Machine) -> str | None:
    lines = (machine.text("/etc/os-release") or "").splitlines()
    return next((line.partition("=")[2].strip('"') for line in lines if line.startswith("PRETTY_NAME=")), None)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None

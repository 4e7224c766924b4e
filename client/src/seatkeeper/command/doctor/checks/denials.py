"""What SELinux or AppArmor forbade the application, as far as the logs may be read.

Logs are the audit log, the kernel's messages in files, and the journal. Of all denials those count that name this
client, its folder, Python or the server's port; the latest decides what to run.
"""

import re
import shlex
from collections.abc import Iterable
from typing import NamedTuple

from seatkeeper.command.doctor.finding import Finding, fail, ok, skip
from seatkeeper.command.doctor.subject import Subject

LOGS = ("/var/log/audit/audit.log", "/var/log/kern.log", "/var/log/messages", "/var/log/syslog")
_JOURNAL = ["journalctl", "--dmesg", "--no-pager", "--no-hostname", "--lines=2000", "--output=short-iso"]
_FIELD = re.compile(r'(\w+)=(?:"([^"]*)"|(\S+))')
_RIGHTS = re.compile(r"denied\s+\{ ([^}]+) \}")
_BOOLEANS = {
    "httpd_t": "httpd_can_network_connect",
    "nis_t": "nis_enabled",
    "virt_t": "virt_use_network",
    "ftpd_t": "ftpd_connect_all_unreserved",
}
"""The switch that lets a confined domain of the reference policy connect to any port."""


class Denial(NamedTuple):
    """`domain` is SELinux's type of the program, or AppArmor's profile; `target` the file or port."""

    by: str
    domain: str
    program: str
    right: str
    target: str


async def denials(subject: Subject) -> Finding:
    machine = subject.machine
    if machine.system != "Linux":
        return skip("denials", "other-system")
    texts = [text for path in LOGS if (text := machine.text(path)) is not None]
    if (ran := await machine.run(_JOURNAL)) is not None and ran.status == 0:
        texts.append(ran.output)
    if not texts:
        return skip("denials", "unreadable", "sudo seatkeeper doctor")
    found = read_denials(line for text in texts for line in text.splitlines())
    ours = [denial for denial in found if _concerns(denial, subject)]
    if not ours:
        return ok("denials", others=len(found))
    latest = ours[-1]
    known = {**latest._asdict(), "count": len(ours)}
    return fail("denials", latest.by.lower(), remedy(latest, subject), **known)


def read_denials(lines: Iterable[str]) -> list[Denial]:
    return [denial for line in lines if (denial := _selinux(line) or _apparmor(line)) is not None]


def remedy(denial: Denial, subject: Subject) -> str:
    """The command that allows exactly this, or comes nearest to it."""
    if denial.by == "AppArmor":
        return "sudo aa-logprof"
    if denial.right == "name_connect" and denial.domain in _BOOLEANS:
        return f"sudo setsebool -P {_BOOLEANS[denial.domain]} 1"
    if subject.directory is not None and denial.target.startswith(str(subject.directory)):
        return f"sudo restorecon -Rv {shlex.quote(str(subject.directory))}"
    program = shlex.quote(denial.program)
    return (
        f"sudo ausearch -m AVC -c {program} --raw | audit2allow -M seatkeeper-local"
        " && sudo semodule -i seatkeeper-local.pp"
    )


def _selinux(line: str) -> Denial | None:
    rights = _RIGHTS.search(line)
    if rights is None or "avc:" not in line:
        return None
    fields = _fields(line)
    domain = fields.get("scontext", "").split(":")
    target = fields.get("path") or fields.get("name") or fields.get("dest") or "?"
    return Denial("SELinux", domain[2] if len(domain) > 2 else "?", fields.get("comm", "?"), rights[1].strip(), target)


def _apparmor(line: str) -> Denial | None:
    fields = _fields(line)
    if fields.get("apparmor") != "DENIED":
        return None
    target = fields.get("name") or fields.get("family") or "?"
    right = fields.get("operation", "?")
    return Denial("AppArmor", fields.get("profile", "?"), fields.get("comm", "?"), right, target)


def _fields(line: str) -> dict[str, str]:
    return {name: quoted or plain for name, quoted, plain in _FIELD.findall(line)}


def _concerns(denial: Denial, subject: Subject) -> bool:
    unit = (subject.unit or "seatkeeper").removesuffix(".service")
    told = f"{denial.program} {denial.domain} {denial.target}".lower()
    names = ["seatkeeper", "python", unit.lower(), *([str(subject.directory).lower()] if subject.directory else [])]
    return denial.target == str(subject.port) or any(name in told for name in names)

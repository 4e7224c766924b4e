"""The unit that runs the application, as systemd tells."""

import shlex

from seatkeeper.command.doctor.finding import Finding, fail, ok, skip, warn
from seatkeeper.command.doctor.machine import Machine
from seatkeeper.command.doctor.subject import Subject

_PROPERTIES = ("LoadState", "ActiveState", "SubState", "Result", "ExecMainStatus", "NRestarts", "UnitFileState")
MANY_RESTARTS = 3


async def unit(subject: Subject) -> Finding:
    if not subject.unit:
        return skip("unit", "no-unit")
    told = await _told(subject.machine, subject.unit)
    if told is None:
        return skip("unit", "no-systemd")
    name = shlex.quote(subject.unit)
    known = {"unit": subject.unit, "state": told.get("ActiveState", "?"), "sub": told.get("SubState", "?")}
    if told.get("LoadState") == "not-found":
        return fail("unit", "unknown", "systemctl list-units --type=service --all", **known)
    if told.get("LoadState") == "masked":
        return fail("unit", "masked", f"sudo systemctl unmask {name} && sudo systemctl start {name}", **known)
    if known["state"] == "failed":
        ended = {"result": told.get("Result", "?"), "status": told.get("ExecMainStatus", "?")}
        return fail("unit", "failed", f"journalctl -u {name} -n 50 --no-pager", **known, **ended)
    if known["state"] not in ("active", "activating", "reloading"):
        return fail("unit", "stopped", f"sudo systemctl start {name}", **known)
    restarts = told.get("NRestarts", "0")
    if restarts.isdecimal() and int(restarts) >= MANY_RESTARTS:
        return warn("unit", "restarts", f"journalctl -u {name} -n 50 --no-pager", **known, restarts=int(restarts))
    if told.get("UnitFileState") == "disabled":
        return warn("unit", "disabled", f"sudo systemctl enable {name}", **known)
    return ok("unit", **known)


async def _told(machine: Machine, unit: str) -> dict[str, str] | None:
    """None where systemd does not run this machine."""
    ran = await machine.run(["systemctl", "show", f"--property={','.join(_PROPERTIES)}", "--", unit])
    if ran is None or ran.status:
        return None
    return dict(line.split("=", 1) for line in ran.output.splitlines() if "=" in line)

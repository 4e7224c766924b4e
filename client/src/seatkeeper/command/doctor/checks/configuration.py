"""The settings, as `seatkeeper config check` reads them."""

import os
import shlex
import stat
from pathlib import Path

from seatkeeper.command.config_file import FileFault, read_file
from seatkeeper.command.doctor.finding import Finding, fail, ok, warn
from seatkeeper.command.doctor.subject import Subject


async def configuration(subject: Subject) -> Finding:
    path = str(subject.config_path)
    if subject.faults:
        command = f"seatkeeper config check --config {shlex.quote(path)}"
        return fail("configuration", "faults", command, count=len(subject.faults), faults=" · ".join(subject.faults))
    missing = [name for name in ("url", "product", "root_key") if not getattr(subject, name)]
    if not subject.license_key and not subject.token:
        missing.append("license_key")
    if missing:
        level = fail if "url" in missing or "product" in missing else warn
        return level("configuration", "incomplete", missing=", ".join(missing), path=path)
    if subject.config_path is not None and _is_open_with_secrets(subject.config_path):
        return warn("configuration", "open", f"chmod 600 {shlex.quote(path)}", path=path)
    return ok("configuration", path=path)


def _is_open_with_secrets(file: Path) -> bool:
    """Whether others may read a key or token in it. On Windows modes say nothing."""
    try:
        is_open = os.name == "posix" and file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
        return bool(is_open) and not {"license_key", "token"}.isdisjoint(read_file(file))
    except (OSError, FileFault):
        return False

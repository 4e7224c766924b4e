"""The settings, as `seatkeeper config check` reads them."""

from seatkeeper.command.doctor.finding import Finding, fail, ok, warn
from seatkeeper.command.doctor.subject import Subject


async def configuration(subject: Subject) -> Finding:
    path = str(subject.config_path)
    if subject.faults:
        command = f"seatkeeper config check --config {path}"
        return fail("configuration", "faults", command, count=len(subject.faults), faults=" · ".join(subject.faults))
    missing = [name for name in ("url", "product", "root_key") if not getattr(subject, name)]
    if not subject.license_key and not subject.token:
        missing.append("license_key")
    if missing:
        level = fail if "url" in missing or "product" in missing else warn
        return level("configuration", "incomplete", missing=", ".join(missing), path=path)
    return ok("configuration", path=path)

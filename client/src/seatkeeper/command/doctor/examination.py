"""From settings, whatever their state, to a subject, and from that to findings."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import msgspec

from seatkeeper.clock import Clock, SystemClock
from seatkeeper.command.config import Settings, examine
from seatkeeper.command.config_file import FileFault, read_file
from seatkeeper.command.doctor.checks import CHECKS, NETWORK
from seatkeeper.command.doctor.finding import Finding, Level
from seatkeeper.command.doctor.machine import Machine, this_machine
from seatkeeper.command.doctor.running import run_checks
from seatkeeper.command.doctor.subject import LIMIT_S, Subject
from seatkeeper.errors import ConfigurationError
from seatkeeper.fingerprint import fingerprint
from seatkeeper.http import HttpTransport
from seatkeeper.paths import config_file, state_directory
from seatkeeper.telling import sentence
from seatkeeper.transport import Transport


async def examined(subject: Subject) -> list[Finding]:
    """All findings about it."""
    async with _connected(subject) as ready:
        return eased(await run_checks(CHECKS, ready))


def eased(findings: Sequence[Finding]) -> list[Finding]:
    """While a license file is in force no network is needed: what is wrong with that is a warning, which says so."""
    file = next((finding for finding in findings if (finding.name, finding.code) == ("lease", "file")), None)
    if file is None:
        return list(findings)
    return [_eased(finding, file.data["until"]) if finding.name in NETWORK else finding for finding in findings]


def _eased(finding: Finding, until: str) -> Finding:
    if finding.level is not Level.FAIL:
        return finding
    return msgspec.structs.replace(finding, level=Level.WARN, data={**finding.data, "not_needed_until": until})


def subject_of(
    config: Path | None,
    environ: Mapping[str, str],
    options: Mapping[str, str | None],
    *,
    unit: str | None = None,
    language: str = "en",
    limit_s: float = LIMIT_S,
    machine: Machine | None = None,
    clock: Clock | None = None,
) -> Subject:
    """What the settings say. Faulty ones are left out, but for a license key, which has a check of its own."""
    settings, faults = examine(config, environ, options)
    path = config or config_file(environ)
    own = _fingerprint(settings, environ)
    return Subject(
        url=settings.url or None,
        product=settings.product or None,
        license_key=settings.license_key or _faulty_key(path, environ, options),
        token=settings.token,
        root_key=settings.root_key or None,
        version=settings.version,
        name=settings.name,
        proxy=settings.proxy,
        ca_file=settings.ca_file,
        client_cert=settings.client_cert,
        client_key=settings.client_key,
        unit=unit or settings.unit,
        directory=settings.directory or _usual_directory(settings, own, environ),
        fingerprint=own,
        language=language,
        limit_s=limit_s,
        config_path=path,
        faults=tuple(faults),
        environ=environ,
        machine=machine or this_machine(),
        clock=clock or SystemClock(),
    )


@asynccontextmanager
async def _connected(subject: Subject) -> AsyncIterator[Subject]:
    """With a transport, where the settings allow one; what they do not allow is a fault of the configuration."""
    if subject.url is None:
        yield subject
        return
    try:
        transport: Transport = HttpTransport(
            subject.url,
            proxy=subject.proxy,
            ca_file=subject.ca_file,
            client_cert=subject.client_cert,
            client_key=subject.client_key,
            environ=subject.environ,
        )
    except ConfigurationError as error:
        yield replace(subject, faults=(*subject.faults, sentence(error, subject.language)))
        return
    try:
        yield replace(subject, transport=transport)
    finally:
        await transport.close()


def _fingerprint(settings: Settings, environ: Mapping[str, str]) -> str | None:
    try:
        return fingerprint(settings.product, environ) if settings.product else None
    except (ConfigurationError, OSError):
        return None


def _usual_directory(settings: Settings, own: str | None, environ: Mapping[str, str]) -> Path | None:
    if not (settings.url and settings.product and own):
        return None
    credential = settings.license_key or settings.token
    return state_directory(settings.url, settings.product, credential, fingerprint=own, environ=environ)


def _faulty_key(path: Path, environ: Mapping[str, str], options: Mapping[str, str | None]) -> str | None:
    said = options.get("license_key") or environ.get("SEATKEEPER_LICENSE_KEY")
    if said:
        return said
    try:
        found = read_file(path).get("license_key")
    except (FileFault, OSError):
        return None
    return found.value if found is not None and isinstance(found.value, str) else None

"""`validate`: whether a license key is good: first by its own check character, then by the server's word."""

from typing import Annotated

import typer

from seatkeeper import license_key
from seatkeeper.command.failures import CommandError, ExitCode
from seatkeeper.command.session import Session
from seatkeeper.fingerprint import fingerprint


async def validate(
    session: Session,
    device: Annotated[bool, typer.Option("--device", help="option.device")] = False,
    format_only: Annotated[bool, typer.Option("--format-only", help="option.format_only")] = False,
) -> int:
    key = _key(session, format_only=format_only)
    if format_only:
        session.show({"valid": None, "code": "WELL_FORMED", "licenseKey": f"{license_key.prefix(key)}…"})
        return ExitCode.DONE
    settings = session.settings("url", "license_key", *(("product",) if device else ()))
    own = fingerprint(settings.product) if device else None
    with session.progress("progress.asking"):
        async with session.api(settings) as api:
            answer = await api.validate(key, own, settings.version)
    session.show(
        {
            "valid": answer.valid,
            "code": answer.code,
            "licenseKey": f"{license_key.prefix(key)}…",
            "full": answer.full,
            "used": answer.used,
            "limit": answer.limit,
            "warning": answer.warning,
        }
    )
    session.advise(answer.code)
    return ExitCode.DONE if answer.valid else ExitCode.REFUSED


def _key(session: Session, *, format_only: bool) -> str:
    """The key; what is mistyped is told without the server."""
    settings = session.settings(*(() if format_only else ("url",)), "license_key")
    if settings.license_key is None:
        raise CommandError("failure.no_key", ExitCode.MISUSED)
    return settings.license_key

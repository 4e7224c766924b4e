"""`seatkeeper bundle`: one archive for a support desk, without secrets and names. It is sent nowhere.

It shows what it holds, and asks before it is written anywhere but into the current folder.
"""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from seatkeeper import private_files
from seatkeeper.command.bundle.archive import File, packed, redacted
from seatkeeper.command.bundle.contents import contents
from seatkeeper.command.bundle.known import known_of
from seatkeeper.command.config import examine
from seatkeeper.command.doctor.examination import examined, subject_of
from seatkeeper.command.doctor.subject import LIMIT_S, Subject
from seatkeeper.command.failures import CommandError
from seatkeeper.command.session import Session, verb
from seatkeeper.redaction import Redactor
from seatkeeper.texts import text

__all__ = ["bundle"]

_SUFFIX = ".tar.gz"


@verb
async def bundle(
    session: Session,
    unit: Annotated[str | None, typer.Option(metavar="NAME", help="doctor.option.unit")] = None,
    log: Annotated[list[Path] | None, typer.Option(metavar="FILE", help="bundle.option.log")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="PATH", help="bundle.option.output")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="bundle.option.yes")] = False,
) -> None:
    subject = subject_of(
        session.config,
        os.environ,
        session.options,
        unit=unit,
        language=session.language,
        limit_s=session.timeout_s or LIMIT_S,
    )
    path = _place(output, datetime.now(UTC))
    with session.progress("bundle.progress"):
        redactor = Redactor(known_of(subject))
        findings = await examined(subject)
        files = redacted(await contents(subject, findings, _logs(session, subject, log)), redactor)
    data = packed(files, path.name.removesuffix(_SUFFIX), subject.clock.wall_s())
    if not session.as_json:
        _show(session, files)
    if path.resolve().parent != Path.cwd():
        session.confirm("bundle.ask", yes=yes, path=path)
    if not private_files.create(path, data):
        raise CommandError("bundle.exists", path=path)
    if session.as_json:
        session.show(_as_document(path, data, files, redactor))
    else:
        session.note("bundle.written", path=path, size=len(data))


def _place(output: Path | None, now: datetime) -> Path:
    name = f"seatkeeper-bundle-{now:%Y%m%dT%H%M%SZ}{_SUFFIX}"
    if output is None:
        return Path(name)
    return output / name if output.is_dir() else output


def _logs(session: Session, subject: Subject, named: list[Path] | None) -> list[Path]:
    """The files of the line, else the one of the configuration."""
    if named:
        return named
    configured = examine(session.config, subject.environ, session.options)[0].log_file
    return [configured] if configured else []


def _show(session: Session, files: list[File]) -> None:
    table = Table(
        *(text(f"bundle.column.{name}", session.language) for name in ("file", "bytes", "redacted")),
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    for file in files:
        table.add_row(file.name, str(len(file.data)), str(file.redacted))
    Console(highlight=False, markup=False).print(table)


def _as_document(path: Path, data: bytes, files: list[File], redactor: Redactor) -> dict[str, object]:
    return {
        "path": str(path.resolve()),
        "bytes": len(data),
        "files": [{"name": file.name, "bytes": len(file.data), "redacted": file.redacted} for file in files],
        "redacted": dict(sorted(redactor.taken.items())),
    }

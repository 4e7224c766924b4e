"""`seatkeeper doctor`: look at everything that a license needs, and say what is wrong and what to do.

It changes nothing: no seat is taken or given back, no lease extended, no file written.
"""

import os
from typing import Annotated

import typer
from rich.console import Console

from seatkeeper.command.doctor.examination import examined, subject_of
from seatkeeper.command.doctor.report import as_document, is_sound, print_report
from seatkeeper.command.doctor.subject import LIMIT_S
from seatkeeper.command.failures import ExitCode
from seatkeeper.command.session import Session, verb

__all__ = ["doctor"]


@verb
async def doctor(
    session: Session,
    unit: Annotated[str | None, typer.Option(metavar="NAME", help="doctor.option.unit")] = None,
) -> int:
    subject = subject_of(
        session.config,
        os.environ,
        session.options,
        unit=unit,
        language=session.language,
        limit_s=session.timeout_s or LIMIT_S,
    )
    with session.progress("doctor.progress"):
        findings = await examined(subject)
    if session.as_json:
        session.show(as_document(findings, session.language))
    else:
        print_report(Console(highlight=False), findings, session.language)
    return ExitCode.DONE if is_sound(findings) else ExitCode.UNSOUND
